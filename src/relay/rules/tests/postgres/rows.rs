//! What a real log's rows invalidate.

mod altered;

use testkit::postgres::PostgresServer;

use super::{Rules, keep, messages, read};
use crate::key::{cache_id, tag_hash};
use crate::relay::pgoutput::decode;
use crate::relay::rules::check::check;
use crate::relay::rules::encode::hash_of;
use crate::relay::rules::names::Name;
use crate::relay::rules::plans::{Plans, Seen};
use crate::relay::rules::sql::{Names, prepare};

const TABLES: &str = r#"
CREATE TYPE state AS ENUM ('open', 'closed');
CREATE DOMAIN code AS varchar(20);
CREATE DOMAIN whole AS numeric(20, 0);
CREATE TABLE accounts (id bigint PRIMARY KEY, tenant uuid, name text);
CREATE TABLE large (id int PRIMARY KEY, name text NOT NULL, note text);
ALTER TABLE large ALTER COLUMN name SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX large_name ON large (name, id);
CREATE TABLE forms (code code, number whole, state state, flag bool, data bytea, address inet,
                    PRIMARY KEY (code, number, state, flag, data, address));
CREATE TABLE pairs (id int PRIMARY KEY, team text);
CREATE TABLE events (id bigint, day int, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
CREATE TABLE events_2 (day int, id bigint, PRIMARY KEY (id, day));
ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES IN (2);
"#;

const RULES: &str = r#"
source = "orders"
[[rule]]
table = "accounts"
cache = "accounts"
key = ["id"]
tags = [{ column = "tenant", prefix = "tenant:" }]
[[rule]]
table = "large"
cache = "large"
key = ["name"]
[[rule]]
table = "forms"
cache = "forms"
key = ["code", "number", "state", "flag", "data", "address"]
[[rule]]
table = "pairs"
cache = "pairs"
key = ["id", { column = "team", optional = true }]
[[rule]]
table = "events"
cache = "events"
key = ["id"]
"#;

struct Log {
    server: PostgresServer,
    plans: Plans,
}

impl Log {
    /// Whether the catalog was read again, and what a statement invalidates, in order, each once. Every call
    /// begins to read again, so that all tables are described again.
    async fn of(&mut self, sql: &str) -> (bool, Vec<Name>) {
        self.server.sql(sql).await;
        let mut names = Vec::new();
        let mut recheck = false;
        for message in messages(&self.server).await {
            if self
                .plans
                .names(&decode(&message).unwrap(), &mut names)
                .unwrap()
                == Seen::Recheck
            {
                let catalog = read(&self.server, "postgres", self.plans.rules()).await;
                check(self.plans.rules(), &catalog).unwrap();
                assert!(self.plans.recheck(&catalog, &mut names));
                recheck = true;
            }
        }
        names.sort_by_key(|name| format!("{name:?}"));
        names.dedup();
        (recheck, names)
    }

    /// The statement invalidates these names and no other.
    async fn says(&mut self, sql: &str, mut names: Vec<Name>) {
        names.sort_by_key(|name| format!("{name:?}"));
        assert_eq!(self.of(sql).await.1, names, "{sql}");
    }

    fn format(&self, cache: &str) -> u32 {
        self.plans.rules().format_of(cache)
    }

    fn key(&self, cache: &str, parts: &[&[u8]]) -> Name {
        let hash = hash_of(parts.iter().copied()).unwrap();
        Name::Key {
            cache: cache_id(cache),
            format: self.format(cache),
            hash,
        }
    }

    fn all(&self, cache: &str) -> Name {
        Name::All {
            cache: cache_id(cache),
            format: self.format(cache),
        }
    }
}

async fn start() -> Log {
    let server = PostgresServer::start().await;
    server.sql(TABLES).await;
    let rules = Rules::parse(RULES).unwrap();
    let before = read(&server, "postgres", &rules).await;
    server
        .sql(&prepare(&rules, Some(&before), Names::default()))
        .await;
    let catalog = read(&server, "postgres", &rules).await;
    check(&rules, &catalog).unwrap();
    keep(&server).await;
    let plans = Plans::new(rules, &catalog);
    Log { server, plans }
}

fn tag(tag: &str) -> Name {
    Name::Tag {
        cache: cache_id("accounts"),
        format: 1,
        hash: tag_hash(tag),
    }
}

#[tokio::test]
async fn rows_of_a_real_log_are_what_they_are_called() {
    let mut log = start().await;
    rows(&mut log).await;
    large_values(&mut log).await;
    every_form(&mut log).await;
}

async fn rows(log: &mut Log) {
    let one = "00000000-0000-0000-0000-0000000000aa";
    let (first, second) = (log.key("accounts", &[b"42"]), log.key("accounts", &[b"43"]));
    let owner = tag(&format!("tenant:{one}"));
    log.says(
        &format!(
            "INSERT INTO accounts VALUES (42, '{}', 'x')",
            one.to_uppercase()
        ),
        vec![first, owner],
    )
    .await;
    log.says("UPDATE accounts SET name = 'y'", vec![first, owner])
        .await;
    log.says(
        "UPDATE accounts SET id = 43, tenant = NULL",
        vec![first, second, owner],
    )
    .await;
    log.says("DELETE FROM accounts", vec![second]).await;
    log.says("TRUNCATE accounts", vec![log.all("accounts")])
        .await;
    let (none, some) = (
        log.key("pairs", &[b"1", b"0"]),
        log.key("pairs", &[b"1", b"1", b"a"]),
    );
    log.says("INSERT INTO pairs VALUES (1)", vec![none]).await;
    log.says("UPDATE pairs SET team = 'a'", vec![none, some])
        .await;
}

/// A value that is stored elsewhere and not changed is not in the new row.
async fn large_values(log: &mut Log) {
    let text = "x".repeat(2_500);
    let key = log.key("large", &[text.as_bytes()]);
    log.says(
        &format!("INSERT INTO large VALUES (1, '{text}')"),
        vec![key],
    )
    .await;
    log.says("UPDATE large SET note = 'changed'", vec![key])
        .await;
    log.says("UPDATE large SET id = 2", vec![key]).await;
    log.says("DELETE FROM large", vec![key]).await;
}

async fn every_form(log: &mut Log) {
    let row = |state, data, address| {
        format!("('c', 12345678901234567890, '{state}', true, '\\x{data}', '{address}')")
    };
    let parts: [&[u8]; 6] = [
        b"c",
        b"12345678901234567890",
        b"open",
        b"true",
        b"\x00\xff",
        b"2001:db8::1",
    ];
    let key = log.key("forms", &parts);
    log.says(
        &format!(
            "INSERT INTO forms VALUES {}",
            row("open", "00ff", "2001:DB8:0:0::1/128")
        ),
        vec![key],
    )
    .await;
    // A network is no address.
    let all = log.all("forms");
    log.says(
        &format!(
            "INSERT INTO forms VALUES {}",
            row("open", "00ff", "10.0.0.0/8")
        ),
        vec![all],
    )
    .await;
    log.says("DELETE FROM forms WHERE address = '10.0.0.0/8'", vec![all])
        .await;
    log.says("DELETE FROM forms", vec![key]).await;
}
