//! A slot that outlives the relay: what it keeps, what a start waits for, and what the server may give up.

use testkit::proxy::{Cut, Door};

use super::program::relay::Relay;
use super::rig::{Rig, Way};
use super::setup::{BOUND, Steady};
use crate::support::over_redis::until;

const SLOT: &str = "unstale_lasts";

/// Far more log than a test writes that does not want the slot to be lost.
const ENOUGH: &[(&str, &str)] = &[("max_slot_wal_keep_size", "1GB")];

/// A fleet with a relay whose slot outlives it.
async fn durable(settings: &[(&str, &str)]) -> Steady {
    let mut rig = Rig::bare(settings).await;
    rig.slot = Some(SLOT);
    Steady::over(rig.ready(BOUND).await).await
}

/// What the server says of the slot.
async fn of_slot(rig: &Rig, what: &str) -> String {
    let query = format!("SELECT {what} FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    rig.postgres.sql(&query).await
}

async fn until_released(rig: &Rig) {
    until("nothing reads from the slot", async || {
        of_slot(rig, "active").await == "f"
    })
    .await;
}

/// The row of account 42 has this version, and so has every instance soon.
async fn is_fresh(fleet: &Steady, version: i64) {
    let now = tokio::time::Instant::now();
    fleet
        .fresh(now, Some(version), async |node| {
            node.accounts.lookup(&42).await
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_could_fill_the_disk_is_refused() {
    let mut rig = Rig::bare(&[]).await;
    rig.prepare().await;
    assert_eq!(rig.as_relay(&["--check"]).status, Some(0));
    rig.slot = Some(SLOT);
    for args in [&["--check"][..], &[]] {
        let ran = rig.as_relay(args);
        assert_eq!(ran.status, Some(2), "{ran:?}");
        assert!(
            ran.stderr.contains("max_slot_wal_keep_size is -1"),
            "{ran:?}"
        );
    }
    assert_eq!(rig.slots().await, "0");
    // What it says is enough.
    for sql in [
        "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'",
        "SELECT pg_reload_conf()",
    ] {
        rig.postgres.sql(sql).await;
    }
    until("the bound holds", async || {
        rig.as_relay(&["--check"]).status == Some(0)
    })
    .await;
    assert_eq!(rig.slots().await, "0", "a check makes no slot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_of_another_program_is_refused() {
    let mut rig = Rig::bare(ENOUGH).await;
    rig.prepare().await;
    rig.slot = Some(SLOT);
    let other = format!("SELECT pg_create_physical_replication_slot('{SLOT}')");
    rig.postgres.sql(&other).await;
    for args in [&["--check"][..], &[]] {
        let ran = rig.as_relay(args);
        assert_eq!(ran.status, Some(2), "{ran:?}");
        let why = format!("the slot \"{SLOT}\" of UNSTALE_RELAY_SLOT is another program's");
        assert!(ran.stderr.contains(&why), "{ran:?}");
    }
}

/// The last place for a slot is its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_while_no_relay_works_are_read_from_the_slot_that_stayed() {
    let mut fleet = durable(&[ENOUGH[0], ("max_replication_slots", "1")]).await;
    for (version, killed) in [(11, false), (12, true)] {
        fleet
            .load(async |node| node.accounts.lookup(&42).await)
            .await;
        if killed {
            fleet.relay.kill();
        } else {
            assert_eq!(fleet.relay.terminate().await.code(), Some(0));
            assert_eq!(of_slot(&fleet.rig, "active").await, "f", "it ends in order");
        }
        until_released(&fleet.rig).await;
        assert_eq!(of_slot(&fleet.rig, "temporary").await, "f");
        let sql = format!("UPDATE accounts SET version = {version} WHERE id = 42");
        fleet.run(&sql).await;
        // A slot that was made again would begin behind it.
        let log = "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('unstale_lasts', NULL, NULL, \
                   'proto_version', '1', 'publication_names', 'unstale_shop') WHERE get_byte(data, 0) = 85";
        assert_eq!(fleet.rig.postgres.sql_in("shop", log).await, "1");
        fleet.relay = fleet.rig.relay(Way::Straight).await;
        is_fresh(&fleet, version).await;
        assert_eq!(fleet.relay.says("is lost"), 0, "{:?}", fleet.relay.lines());
    }
    fleet.settled().await;
}

/// A new slot begins once all transactions have ended that write; one that is there goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_from_a_slot_that_stayed_waits_for_no_open_transaction() {
    let mut fleet = durable(ENOUGH).await;
    assert_eq!(fleet.relay.terminate().await.code(), Some(0));
    let open = super::database::Database::new(fleet.rig.postgres.url("app", "app", "shop"));
    open.run("BEGIN; UPDATE accounts SET version = 21 WHERE id = 42")
        .await;
    fleet.rig.slot = None;
    let waits = fleet.rig.spawn(Way::Straight);
    let of_relay = "SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'unstale relay' AND wait_event = 'transactionid'";
    until("a new slot waits for the transaction", async || {
        fleet.rig.postgres.sql(of_relay).await == "1"
    })
    .await;
    assert_eq!(waits.says("relaying shop"), 0);
    waits.kill();
    fleet.rig.slot = Some(SLOT);
    fleet.relay = fleet.rig.relay(Way::Straight).await;
    open.run("COMMIT").await;
    is_fresh(&fleet, 21).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_redis_has_not_acknowledged_stay_in_the_slot() {
    let mut fleet = durable(ENOUGH).await;
    assert_eq!(fleet.relay.terminate().await.code(), Some(0));
    fleet.relay = fleet.rig.relay(Way::OverProxies).await;
    fleet
        .load(async |node| node.accounts.lookup(&42).await)
        .await;
    fleet.rig.to_redis.set_door(Door::Refuse).await;
    fleet.rig.to_redis.cut(Cut::Rst);
    let before = fleet.rig.postgres.sql("SELECT pg_current_wal_lsn()").await;
    fleet
        .run("UPDATE accounts SET version = 31 WHERE id = 42")
        .await;
    let after = fleet.rig.postgres.sql("SELECT pg_current_wal_lsn()").await;
    let has_read = format!(
        "SELECT count(*) FROM pg_stat_replication
         WHERE application_name = 'unstale relay' AND write_lsn > '{before}'"
    );
    until("the relay has read it", async || {
        fleet.rig.postgres.sql(&has_read).await == "1"
    })
    .await;
    let confirmed = of_slot(&fleet.rig, &format!("confirmed_flush_lsn >= '{after}'")).await;
    assert_eq!(confirmed, "f");
    fleet.relay.kill();
    until_released(&fleet.rig).await;
    fleet.rig.to_redis.set_door(Door::Open).await;
    fleet.relay = fleet.rig.relay(Way::OverProxies).await;
    is_fresh(&fleet, 31).await;
    until("it is confirmed", async || {
        of_slot(&fleet.rig, &format!("confirmed_flush_lsn >= '{after}'")).await == "t"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_the_server_has_given_up_is_made_again_and_nothing_stays_stale() {
    let mut fleet = durable(&[
        ("max_slot_wal_keep_size", "8MB"),
        ("max_wal_size", "2MB"),
        ("min_wal_size", "2MB"),
    ])
    .await;
    fleet
        .load(async |node| node.accounts.lookup(&42).await)
        .await;
    fleet.relay.kill();
    until_released(&fleet.rig).await;
    fleet
        .run("UPDATE accounts SET version = 41 WHERE id = 42")
        .await;
    until("the server has given up its log", async || {
        fleet
            .rig
            .sql("INSERT INTO notes SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
            .await;
        fleet.rig.postgres.sql("CHECKPOINT").await;
        of_slot(&fleet.rig, "wal_status").await == "lost"
    })
    .await;
    fleet.relay = fleet.rig.relay(Way::Straight).await;
    says_that_it_is_lost(&fleet.relay);
    assert_ne!(of_slot(&fleet.rig, "wal_status").await, "lost");
    is_fresh(&fleet, 41).await;
    fleet.settled().await;
}

fn says_that_it_is_lost(relay: &Relay) {
    let says = "a part of the log of shop is lost, and its caches are dropped: PostgreSQL has given up the log that \
                slot unstale_lasts had not read (max_slot_wal_keep_size)";
    assert_eq!(relay.says(says), 1, "{:?}", relay.lines());
}
