//! What the functions and the triggers write into a real log.

use testkit::postgres::{PostgresServer, query};

use super::{Rules, keep, messages};
use crate::relay::change::Change;
use crate::relay::message::{PREFIX, Said, parse};
use crate::relay::pgoutput::decode;
use crate::relay::rules::sql::{Names, prepare};

const RULES: &str =
    "source = \"orders\"\n[[rule]]\ntable = \"accounts\"\ncache = \"accounts\"\nkey = [\"id\"]";

/// What the log says since the last call, beside rows.
async fn said(server: &PostgresServer) -> Vec<Said> {
    let messages = messages(server).await;
    let said = messages
        .iter()
        .filter_map(|message| match decode(message).unwrap() {
            Change::Message {
                prefix, content, ..
            } => {
                assert_eq!(prefix, PREFIX);
                Some(parse(content).unwrap())
            }
            _ => None,
        });
    said.collect()
}

fn altered(tables: &[&str]) -> Vec<Said> {
    let one = |table: &&str| Said::Altered {
        schema: "public".to_owned(),
        table: (*table).to_owned(),
    };
    tables.iter().map(one).collect()
}

fn sorted(mut said: Vec<Said>) -> Vec<Said> {
    said.sort_by_key(|said| format!("{said:?}"));
    said
}

async fn start() -> PostgresServer {
    let server = PostgresServer::start().await;
    server
        .sql(
            "CREATE TABLE accounts (id bigint PRIMARY KEY); CREATE TABLE \"My \"\"table\" (id int)",
        )
        .await;
    server
        .sql(&prepare(
            &Rules::parse(RULES).unwrap(),
            None,
            Names::default(),
        ))
        .await;
    keep(&server).await;
    server
}

#[tokio::test]
async fn functions_say_what_the_relay_reads() {
    let server = start().await;
    functions(&server).await;
    refusals(&server).await;
    triggers(&server).await;
}

async fn functions(server: &PostgresServer) {
    server
        .sql("CREATE ROLE writer LOGIN PASSWORD 'secret'")
        .await;
    let written = query(
        &server.url("writer", "secret", "postgres"),
        "BEGIN;
         SELECT unstale_invalidate('accounts', '42');
         SELECT unstale_invalidate('members', 7::text, 'grüße \"x\"');
         SELECT unstale_invalidate_as('members', 4294967295, '0');
         SELECT unstale_invalidate_tag('accounts', 'tenant:7');
         SELECT unstale_invalidate_tag('accounts', '', 32);
         SELECT unstale_invalidate_all('accounts');
         COMMIT;
         BEGIN; SELECT unstale_invalidate_all('accounts'); ROLLBACK",
    )
    .await;
    written.unwrap();
    let key = |cache: &str, parts: &[&str], format| Said::Key {
        cache: cache.to_owned(),
        parts: parts.iter().map(|part| (*part).to_owned()).collect(),
        format,
    };
    let tag = |tag: &str, format| Said::Tag {
        cache: "accounts".to_owned(),
        tag: tag.to_owned(),
        format,
    };
    let expected = [
        key("accounts", &["42"], None),
        key("members", &["7", "grüße \"x\""], None),
        key("members", &["0"], Some(u32::MAX)),
        tag("tenant:7", None),
        tag("", Some(32)),
        Said::All {
            cache: "accounts".to_owned(),
        },
    ];
    assert_eq!(said(server).await, expected);
    // The longest key, every byte of which JSON writes in six.
    server
        .sql("SELECT unstale_invalidate('accounts', repeat(chr(1), 65536))")
        .await;
    assert_eq!(
        said(server).await,
        [key("accounts", &[&"\u{1}".repeat(65_536)], None)]
    );
}

async fn refusals(server: &PostgresServer) {
    for (call, why) in [
        (
            "unstale_invalidate('Accounts', '1')",
            "no cache can have this name",
        ),
        (
            "unstale_invalidate('a__b', '1')",
            "no cache can have this name",
        ),
        (
            "unstale_invalidate('a_', '1')",
            "no cache can have this name",
        ),
        (
            "unstale_invalidate(NULL, '1')",
            "no cache can have this name",
        ),
        (
            "unstale_invalidate(repeat('a', 65), '1')",
            "no cache can have this name",
        ),
        ("unstale_invalidate('a', '1', NULL)", "none of them null"),
        (
            "unstale_invalidate('a', VARIADIC ARRAY[]::text[])",
            "1 to 64 parts",
        ),
        (
            "unstale_invalidate('a', repeat('x', 65536), 'y')",
            "at most 65536 bytes",
        ),
        (
            "unstale_invalidate_as('a', -1, '1')",
            "a format is a number",
        ),
        ("unstale_invalidate_tag('a', NULL)", "a tag is a text"),
        ("unstale_invalidate_all('')", "no cache can have this name"),
    ] {
        let refusal = server.try_sql(&format!("SELECT {call}")).await;
        let refusal = refusal.unwrap_err();
        assert!(refusal.contains(why), "{call}: {refusal}");
    }
    assert_eq!(said(server).await, []);
}

async fn triggers(server: &PostgresServer) {
    server
        .sql("ALTER TABLE accounts ADD COLUMN name text DEFAULT 'x'")
        .await;
    assert_eq!(said(server).await, altered(&["accounts"]));
    server
        .sql("ALTER TABLE \"My \"\"table\" ALTER COLUMN id TYPE bigint")
        .await;
    assert_eq!(said(server).await, altered(&["My \"table"]));
    server
        .sql("CREATE TYPE state AS ENUM ('a'); CREATE DOMAIN of_state AS state")
        .await;
    server
        .sql(
            "CREATE TABLE one (s state); CREATE TABLE two (s of_state[], t state[]);
         CREATE TABLE three (s of_state)",
        )
        .await;
    assert_eq!(said(server).await, []);
    server.sql("ALTER TYPE state RENAME VALUE 'a' TO 'b'").await;
    assert_eq!(
        sorted(said(server).await),
        altered(&["one", "three", "two"])
    );
    server
        .sql(
            "DROP TABLE one; CREATE TEMPORARY TABLE t (id int); ALTER TABLE t ADD COLUMN x int;
         DROP TABLE t",
        )
        .await;
    assert_eq!(said(server).await, altered(&["one"]));
    server.sql("DROP TYPE state CASCADE").await;
    assert_eq!(sorted(said(server).await), altered(&["three", "two"]));
    server
        .sql(
            "CREATE TABLE root (id int) PARTITION BY LIST (id);
         CREATE TABLE part (id int); INSERT INTO part VALUES (1)",
        )
        .await;
    assert_eq!(said(server).await, []);
    server
        .sql("ALTER TABLE root ATTACH PARTITION part FOR VALUES IN (1)")
        .await;
    assert_eq!(sorted(said(server).await), altered(&["part", "root"]));
    server
        .sql("ALTER TABLE accounts RENAME TO accounts_old")
        .await;
    assert_eq!(said(server).await, altered(&["accounts_old"]));
    server.sql(
        "CREATE INDEX ON part (id); VACUUM part; ANALYZE part; CREATE VIEW v AS SELECT FROM part",
    ).await;
    assert_eq!(said(server).await, []);
}
