//! The catalog of a real database, its mistakes, and the SQL that fixes them.

use testkit::postgres::PostgresServer;

use super::{Rules, read};
use crate::relay::rules::check::check;
use crate::relay::rules::example::show;
use crate::relay::rules::sql::{Names, prepare};

const TABLES: &str = r#"
CREATE SCHEMA sales;
CREATE TYPE state AS ENUM ('open', 'closed');
CREATE DOMAIN code AS varchar(20) CHECK (value <> '');
CREATE DOMAIN short_code AS code;
CREATE DOMAIN whole AS numeric(20, 0);
CREATE COLLATION lazy (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE accounts (id bigint PRIMARY KEY, tenant_id uuid, name text);
CREATE TABLE by_text (name varchar(50) PRIMARY KEY, note text);
CREATE TABLE sales.members (tenant int, team text, member text, PRIMARY KEY (tenant, member));
CREATE TABLE events (id bigint, day date, kind state, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE domains (code short_code PRIMARY KEY, number whole NOT NULL, state state NOT NULL,
                      address inet NOT NULL);
CREATE UNIQUE INDEX "domains all" ON domains (code, number, state, address);
CREATE TABLE "Odd ""name" (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE bad (a float8, b jsonb, c int[], d char(5), e numeric, f text COLLATE lazy, g timestamptz,
                  h cidr, i bytea);
CREATE TABLE nothing (id int PRIMARY KEY);
ALTER TABLE nothing REPLICA IDENTITY NOTHING;
CREATE TABLE indexed (id int NOT NULL, email text NOT NULL);
CREATE UNIQUE INDEX by_email ON indexed (email) INCLUDE (id);
ALTER TABLE indexed REPLICA IDENTITY USING INDEX by_email;
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
CREATE VIEW shown AS SELECT id FROM accounts;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
"#;

const GOOD: &str = r#"
source = "orders"
[[rule]]
table = "accounts"
cache = "accounts"
key = ["id"]
tags = [{ column = "tenant_id", prefix = "tenant:" }]
[[rule]]
table = "by_text"
cache = "texts"
key = ["name"]
[[rule]]
table = "sales.members"
cache = "members"
key = ["tenant", { column = "team", optional = true }]
[[rule]]
table = "events"
cache = "events"
key = ["id"]
[[rule]]
table = "domains"
cache = "domains"
key = ["code", "number", "state", "address"]
[[rule]]
table = '"public"."Odd ""name"'
cache = "odd"
key = ["id"]
[[rule]]
table = "nothing"
cache = "nothing"
all = true
[[rule]]
table = "indexed"
cache = "indexed"
key = ["email"]
[[rule]]
table = "parent"
cache = "parents"
key = ["id"]
"#;

/// One table, many columns, all wrong; and tables that cannot be.
const BAD: &str = r#"
source = "orders"
publication = "narrow"
[[rule]]
table = "bad"
cache = "bad"
key = ["a", "b", "c", "d", "e", "f", "g", "h"]
tags = ["i", "z"]
[[rule]]
table = "shown"
cache = "shown"
key = ["id"]
[[rule]]
table = "unlogged"
cache = "unlogged"
key = ["id"]
[[rule]]
table = "acounts"
cache = "accounts"
key = ["id"]
[[rule]]
table = '"Odd ""name"'
cache = "odd"
key = ["twice"]
[[rule]]
table = "indexed"
cache = "indexed"
key = ["id"]
[[rule]]
table = "by_text"
cache = "texts"
key = ["name"]
"#;

#[tokio::test]
async fn a_real_database_is_checked_and_repaired() {
    let server = PostgresServer::start().await;
    server.sql(TABLES).await;
    all_mistakes(&server).await;
    let rules = Rules::parse(GOOD).unwrap();
    let before = read(&server, "postgres", &rules).await;
    let error = check(&rules, &before).unwrap_err().to_string();
    for part in [
        "\"unstale_orders\": does not exist: CREATE PUBLICATION",
        "`tenant_id` is outside the replica identity of public.accounts",
        "`team` is outside the replica identity of sales.members",
        "ALTER TABLE \"public\".\"domains\" REPLICA IDENTITY USING INDEX \"domains all\";",
        "public.nothing has replica identity NOTHING",
    ] {
        assert!(error.contains(part), "{part}\n{error}");
    }
    assert!(error.contains(" 5 mistakes:"), "{error}");
    let sql = prepare(&rules, Some(&before), Names::default());
    server.sql(&sql).await;
    // The SQL can be run again, and restores what was taken away.
    server
        .sql("ALTER PUBLICATION unstale_orders DROP TABLE accounts")
        .await;
    server.sql(&sql).await;
    // As the relay's role, which has no right to a table or a schema.
    let after = read(&server, "unstale_relay", &rules).await;
    check(&rules, &after).unwrap();
    assert!(prepare(&rules, Some(&after), Names::default()).contains("-- It does already."));
    let shown = show(&rules, &after);
    let names = |n: usize| {
        shown[n]
            .tables
            .iter()
            .map(|(name, _)| &**name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(3), ["public.events_1", "public.events_2"]);
    assert_eq!(names(8), ["public.child", "public.parent"]);
    assert_eq!(shown[0].tables[0].1, "replica identity full");
    let key = shown[4].key.as_ref().unwrap();
    assert_eq!(key.parts, ["example", "42", "open", "192.0.2.1"]);
    assert_eq!(shown[0].key.as_ref().unwrap().hash, 0x1217_cb28_c0ef_2191);
    assert_eq!(
        shown[0].tags[0].tag,
        "tenant:67e55044-10b1-426f-9247-bb680e5fe0c8"
    );
    // A partition that comes later is published as its root is.
    server
        .sql(
            "CREATE TABLE events_3 PARTITION OF events
             FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
        )
        .await;
    check(&rules, &read(&server, "unstale_relay", &rules).await).unwrap();
    server
        .sql("ALTER TABLE events_3 REPLICA IDENTITY NOTHING")
        .await;
    let error = check(&rules, &read(&server, "unstale_relay", &rules).await)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("public.events_3 has replica identity NOTHING"),
        "{error}"
    );
}

async fn all_mistakes(server: &PostgresServer) {
    server
        .sql(
            "CREATE PUBLICATION narrow FOR TABLE by_text (name) WHERE (name <> 'x')
             WITH (publish = 'insert, update', publish_via_partition_root = false);
         CREATE ROLE weak LOGIN",
        )
        .await;
    let rules = Rules::parse(BAD).unwrap();
    let error = check(&rules, &read(server, "weak", &rules).await)
        .unwrap_err()
        .to_string();
    for part in [
        "role \"weak\" may not read the log",
        "does not publish DELETE, TRUNCATE",
        "column `a`: type double precision has no canonical form",
        "column `b`: type jsonb has",
        "column `c`: type integer[] has",
        "column `d`: type character(5) has no canonical form: its values are padded",
        "column `e`: type numeric has no canonical form: only a numeric without",
        "column `f`: type text has no canonical form: its collation",
        "column `g`: type timestamp with time zone has",
        "column `h`: type cidr has no canonical form: it is a network",
        "column `i` is of bytes",
        "no such column `z`",
        "public.bad is not in the publication",
        "public.bad has no primary key",
        "is a view",
        "public.unlogged is unlogged",
        "no such table; the nearest is `public.accounts`",
        "column `twice` is generated",
        "`id` is outside the replica identity of public.indexed",
        "row filter for public.by_text",
        "list of columns for public.by_text",
    ] {
        assert!(error.contains(part), "{part}\n{error}");
    }
    server
        .sql("ALTER PUBLICATION narrow SET (publish_via_partition_root = true)")
        .await;
    let error = check(&rules, &read(server, "weak", &rules).await)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("publish_via_partition_root = false"),
        "{error}"
    );
}
