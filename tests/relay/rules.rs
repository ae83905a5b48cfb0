//! Settings and rules that are wrong: one error says all, and nothing is published before they are right.

use testkit::program::run;
use testkit::resp::Client;
use tokio::task::block_in_place;

use super::rig::{PASSWORD, Rig, Way};

/// Five mistakes.
const WRONG: &str = r#"source = "Shop"

[[rule]]
table = "accounts"
cache = "accounts"
keys = ["id"]
key = ["id"]

[[rule]]
table = "a.b.members"
cache = "members"
key = ["tenant", "name"]

[[rule]]
table = "codes"
cache = "Codes"
key = ["code"]

[[rule]]
table = "items"
cache = "totals"
"#;

const MISTAKES: [&str; 5] = [
    "source must be 1 to 48 of a-z",
    "no such field `keys`; the nearest is `key`",
    "table must be a table or schema.table",
    "cache is not valid: a cache's name must be",
    "drops nothing: needs key",
];

/// Five mistakes that the database alone knows.
const UNKNOWN: &str = r#"source = "shop"

[[rule]]
table = "acounts"
cache = "accounts"
key = ["id"]

[[rule]]
table = "members"
cache = "members"
key = ["tenant", "nam"]

[[rule]]
table = "items"
cache = "totals"
tags = ["tenant"]
"#;

/// Everything that Redis has.
fn keys(rig: &Rig) -> String {
    block_in_place(|| Client::connect(rig.redis.port()).cmd(&["DBSIZE"]).text())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_mistakes_are_one_error_and_nothing_is_published() {
    let rig = Rig::bare(&[]).await;
    rig.prepare().await;
    rig.write_rules(WRONG);
    for args in [&[][..], &["--check"], &["--print-sql"]] {
        let ran = rig.as_relay(args);
        assert_eq!(ran.status, Some(2), "{args:?}: {ran:?}");
        assert_eq!(ran.stdout, "");
        assert!(
            ran.stderr.contains("the rules have 5 mistakes:"),
            "{}",
            ran.stderr
        );
        for mistake in MISTAKES {
            assert!(ran.stderr.contains(mistake), "{mistake}\n{}", ran.stderr);
        }
    }
    assert_eq!(keys(&rig), "0");
    assert_eq!(rig.slots().await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_the_database_does_not_have_are_one_error_and_nothing_is_published() {
    let rig = Rig::bare(&[]).await;
    rig.prepare().await;
    rig.postgres
        .sql_in("shop", "ALTER TABLE items REPLICA IDENTITY DEFAULT")
        .await;
    rig.write_rules(UNKNOWN);
    for args in [&[][..], &["--check"]] {
        let ran = rig.as_relay(args);
        assert_eq!(ran.status, Some(2), "{args:?}: {ran:?}");
        for mistake in [
            "no such table",
            "no such column `nam`; the nearest is `name`",
            "`tenant` is outside the replica identity of public.items",
            "ALTER TABLE",
        ] {
            assert!(ran.stderr.contains(mistake), "{mistake}\n{}", ran.stderr);
        }
    }
    assert_eq!(keys(&rig), "0");
    assert_eq!(rig.slots().await, "0");
}

/// A program without this variable, and what it says.
fn without(rig: &Rig, variable: &str, args: &[&str]) -> String {
    let mut variables = rig.variables(&rig.url(Way::Straight), Way::Straight);
    variables.retain(|(name, _)| *name != variable);
    let variables: Vec<(&str, &str)> = variables.iter().map(|(k, v)| (*k, &**v)).collect();
    let ran = run(args, &variables);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert_eq!(ran.stdout, "");
    ran.stderr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_are_missing_are_named() {
    let rig = Rig::bare(&[]).await;
    let rules = rig.rules().display().to_string();
    let with_rules = ["relay", "--rules", &rules];
    let said = without(&rig, "UNSTALE_RELAY_DATABASE_URL", &with_rules);
    assert!(
        said.contains("UNSTALE_RELAY_DATABASE_URL is not set"),
        "{said}"
    );
    let said = without(&rig, "UNSTALE_REDIS_URL", &with_rules);
    assert!(said.contains("UNSTALE_REDIS_URL is not set"), "{said}");
    let said = without(&rig, "", &["relay"]);
    assert!(said.contains("--rules or UNSTALE_RELAY_RULES"), "{said}");
    let said = without(&rig, "", &["relay", "--rules", "/nowhere/rules.toml"]);
    assert!(
        said.contains("cannot read the rules in /nowhere/rules.toml"),
        "{said}"
    );
    let ran = rig.run(&["--check"], "postgres://relay:s3cret/shop");
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(!ran.stderr.contains("s3cret"), "{ran:?}");
    assert_eq!(keys(&rig), "0");
}

/// What doctor says of the database, and its exit status.
fn doctor(rig: &Rig) -> (Option<i32>, String) {
    let mut variables = rig.variables(&rig.url(Way::Straight), Way::Straight);
    let rules = rig.rules().display().to_string();
    variables.push(("UNSTALE_RELAY_RULES", rules));
    let variables: Vec<(&str, &str)> = variables.iter().map(|(k, v)| (*k, &**v)).collect();
    let ran = run(&["doctor"], &variables);
    let from = ran.stdout.find("relay").unwrap_or_default();
    (ran.status, ran.stdout[from..].to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_says_what_the_database_lacks() {
    let rig = Rig::bare(&[]).await;
    let (status, said) = doctor(&rig);
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("shop_relay") && !said.contains(PASSWORD),
        "{said}"
    );
    rig.prepare().await;
    let (status, said) = doctor(&rig);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("the rules of shop fit 127.0.0.1"), "{said}");
    rig.postgres
        .sql_in("shop", "DROP PUBLICATION unstale_shop")
        .await;
    let (status, said) = doctor(&rig);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("CREATE PUBLICATION"), "{said}");
}
