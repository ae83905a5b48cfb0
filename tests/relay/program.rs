//! `unstale relay` as an operator runs it: what it prints, how it ends, and what it must not say.

pub(crate) mod relay;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use testkit::program::program;
use testkit::proxy::Door;
use tokio::task::block_in_place;

use super::rig::{PASSWORD, ROLE, Rig, Way};
use super::setup::Steady;
use crate::support::over_redis::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_shows_what_each_rule_means() {
    let rig = Rig::bare(&[]).await;
    rig.prepare().await;
    let ran = rig.as_relay(&["--check"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    for part in [
        "rule 1 (line 3: public.accounts -> accounts)",
        "  publication      unstale_shop",
        "  table            public.accounts: primary key (id)",
        "  column           id bigint",
        "  example key      (42), format 1, hash ",
        "  example key      (42, example), format ",
        "  table            public.items: replica identity full",
        "  example tag      tenant:42, hash ",
    ] {
        assert!(ran.stdout.contains(part), "{part}\n{}", ran.stdout);
    }
    assert_eq!(ran.stderr, "");
    assert_eq!(rig.slots().await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_says_the_sql_that_makes_what_is_missing() {
    let rig = Rig::bare(&[]).await;
    let ran = rig.operator(&["--check"]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert_eq!(ran.stdout, "");
    // What it says is enough.
    let said = ran.stderr.lines();
    let remedies: Vec<&str> = said
        .filter_map(|line| {
            let begin = line
                .find("CREATE PUBLICATION")
                .or_else(|| line.find("ALTER TABLE"))?;
            Some(&line[begin..])
        })
        .collect();
    assert_eq!(remedies.len(), 2, "{}", ran.stderr);
    for sql in remedies {
        rig.postgres.sql_in("shop", sql).await;
    }
    let ran = rig.operator(&["--check"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    // For a role that may not read the log the error says what gives the right.
    let weak = format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'");
    rig.postgres.sql(&weak).await;
    let ran = rig.as_relay(&["--check"]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(
        ran.stderr
            .contains(&format!("ALTER ROLE \"{ROLE}\" REPLICATION;")),
        "{ran:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_says_the_setting_that_the_server_lacks() {
    let rig = Rig::bare(&[("wal_level", "replica")]).await;
    rig.prepare().await;
    for args in [&["--check"][..], &[]] {
        let ran = rig.as_relay(args);
        assert_eq!(ran.status, Some(2), "{ran:?}");
        let remedy = "wal_level is replica: ALTER SYSTEM SET wal_level = logical; and restart it";
        assert!(ran.stderr.contains(remedy), "{ran:?}");
    }
    rig.postgres
        .sql("ALTER SYSTEM SET wal_level = logical")
        .await;
    rig.postgres.restart().await;
    assert_eq!(rig.as_relay(&["--check"]).status, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sql_can_be_run_again_and_asks_for_no_more_than_before() {
    let rig = Rig::bare(&[]).await;
    rig.prepare().await;
    let objects = "SELECT (SELECT count(*) FROM pg_publication_tables), (SELECT count(*) FROM pg_event_trigger),
        (SELECT count(*) FROM pg_proc WHERE proname LIKE 'unstale%'), (SELECT count(*) FROM pg_roles)";
    let before = rig.postgres.sql_in("shop", objects).await;
    assert!(before.starts_with("4|2|"), "{before}");
    rig.prepare().await;
    assert_eq!(rig.postgres.sql_in("shop", objects).await, before);
    assert_eq!(rig.as_relay(&["--check"]).status, Some(0));
    // The relay's role reads the log, and no table.
    let own = super::database::Database::new(rig.url(Way::Straight));
    let refused = own
        .number("SELECT count(*) FROM accounts", &[])
        .await
        .unwrap_err();
    let code = refused.code().map(|code| code.code().to_owned());
    assert_eq!(code.as_deref(), Some("42501"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sql_of_an_older_server_is_printed_without_a_database() {
    let rig = Rig::bare(&[]).await;
    rig.to_postgres.set_door(Door::Refuse).await;
    let ran = rig.run(&["--print-sql"], &rig.url(Way::OverProxies));
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(
        ran.stdout
            .contains("CREATE ROLE \"unstale_relay\" LOGIN REPLICATION;"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("With a database at hand"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_at_the_start_is_waited_for() {
    let rig = Rig::start().await;
    rig.postgres.stop().await;
    let relay = rig.spawn(Way::Straight);
    relay.until_says("the log of shop is opened again: ").await;
    rig.postgres.restart().await;
    relay.until_says("relaying shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_is_away_at_the_start_is_waited_for() {
    let rig = Rig::start().await;
    rig.redis.kill();
    let relay = rig.spawn(Way::Straight);
    until("it is there and says nothing wrong", async || {
        rig.slots().await == "0"
    })
    .await;
    block_in_place(|| rig.redis.restart());
    relay.until_says("relaying shop").await;
    assert_eq!(relay.terminate().await.code(), Some(0));
}

/// The relay does not stop when the reader of its output has seen enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_whose_output_has_no_reader_goes_on() {
    let fleet = Steady::start().await;
    let rig = &fleet.rig;
    let rules = rig.rules().display().to_string();
    let url = rig.url(Way::Straight);
    let variables = rig.variables(&url, Way::Straight);
    let variables: Vec<(&str, &str)> = variables.iter().map(|(k, v)| (*k, &**v)).collect();
    let mut head = program(&["relay", "--rules", &rules], &variables)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let output = head.stdout.take().unwrap();
    block_in_place(|| BufReader::new(output).read_line(&mut first)).unwrap();
    // Its standard output is closed now; the other relay is gone, and it takes over.
    assert!(first.contains("another relay of shop works"), "{first}");
    fleet.relay.kill();
    until("the other slot", async || rig.slots().await == "1").await;
    let changed = fleet
        .run("UPDATE accounts SET version = 9 WHERE id = 42")
        .await;
    fleet
        .fresh(changed, Some(9), async |node| {
            node.accounts.lookup(&42).await
        })
        .await;
    assert!(head.try_wait().unwrap().is_none(), "it has ended");
    testkit::redis::end(&mut head);
    let printed = block_in_place(|| {
        let script = format!(
            "'{}' relay --rules '{rules}' --check | head -n 1",
            env!("CARGO_BIN_EXE_unstale")
        );
        let mut shell = std::process::Command::new("bash");
        shell
            .args(["-o", "pipefail", "-c", &script])
            .envs(variables.iter().copied());
        shell.output().unwrap()
    });
    assert_eq!(
        (printed.status.code(), printed.stderr.len()),
        (Some(0), 0),
        "{printed:?}"
    );
}
