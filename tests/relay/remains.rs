//! What a relay leaves behind in the database: nothing, and no log that piles up.

use std::time::Duration;

use testkit::resp::Client;
use tokio::task::block_in_place;
use tokio::time::Instant;

use super::rig::{Rig, Way};
use crate::support::over_redis::until;

/// Whether Redis knows of a relay.
fn lease(rig: &Rig) -> String {
    block_in_place(|| {
        let state = ["HEXISTS", "us:{shop:0}s", "yshop"];
        Client::connect(rig.redis.port()).cmd(&state).text()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_killed_leaves_no_slot() {
    let rig = Rig::start().await;
    let relay = rig.relay(Way::Straight).await;
    assert_eq!(rig.slots().await, "1");
    assert_eq!(lease(&rig), "1");
    relay.kill();
    rig.no_slot().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_asked_to_end_does_so_and_leaves_no_slot() {
    let rig = Rig::start().await;
    let relay = rig.relay(Way::Straight).await;
    let asked = Instant::now();
    let status = relay.terminate().await;
    assert_eq!(status.code(), Some(0), "{:?}", relay.lines());
    // Another one need not wait.
    assert_eq!(lease(&rig), "0");
    eprintln!("the relay ended {:.1?} after SIGTERM", asked.elapsed());
    rig.no_slot().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_that_come_and_go_leave_one_slot_at_most() {
    let rig = Rig::start().await;
    for _ in 0..4 {
        rig.relay(Way::Straight).await.kill();
    }
    let _last = rig.relay(Way::Straight).await;
    until("one slot is left", async || rig.slots().await == "1").await;
}

/// No row of a mapped table changes; what other tables write is still confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_relay_lets_the_log_go() {
    let rig = Rig::start().await;
    let _relay = rig.relay(Way::Straight).await;
    for _ in 0..3 {
        rig.sql("INSERT INTO notes SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
            .await;
        let written = rig.postgres.sql("SELECT pg_current_wal_lsn()").await;
        let confirmed = format!(
            "SELECT bool_and(confirmed_flush_lsn >= '{written}') FROM pg_replication_slots"
        );
        until("the slot has moved on", async || {
            rig.postgres.sql(&confirmed).await == "t"
        })
        .await;
    }
}

/// What is left of the log is what the server keeps by itself, however much was written meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_relay_holds_no_log_back() {
    let rig = Rig::bare(&[("max_wal_size", "2MB"), ("min_wal_size", "2MB")]).await;
    rig.prepare().await;
    let relay = rig.relay(Way::Straight).await;
    relay.kill();
    rig.no_slot().await;
    for _ in 0..6 {
        rig.sql("INSERT INTO notes SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
            .await;
        rig.postgres.sql("CHECKPOINT").await;
    }
    let kept = "SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()";
    until("the log is small again", async || {
        rig.postgres.sql("CHECKPOINT").await;
        rig.postgres.sql(kept).await.parse::<u64>().unwrap() < 12 << 20
    })
    .await;
}

/// A transaction that stays open holds back what marks prove, not what other transactions commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_stops_neither_marks_nor_changes() {
    let rig = Rig::start().await;
    let _relay = rig.relay(Way::Straight).await;
    let open = super::database::Database::new(rig.postgres.url("app", "app", "shop"));
    open.run("BEGIN; INSERT INTO notes VALUES ('open')").await;
    rig.sql("INSERT INTO accounts VALUES (1, 1)").await;
    for node in &rig.nodes {
        until("what is not changed is a hit for long", async || {
            let read = node.account(1).await.unwrap();
            read.is_hit() && read.age > 3 * rig.bound
        })
        .await;
    }
    rig.sql("UPDATE accounts SET version = 2").await;
    let committed = Instant::now();
    let mut late = Duration::ZERO;
    until("the change is there", async || {
        let began = committed.elapsed();
        let value = rig.nodes[0].account(1).await.unwrap().value;
        if value != Some(2) {
            late = began;
        }
        value == Some(2)
    })
    .await;
    assert!(late <= rig.bound + super::ALLOWANCE, "{late:?}");
    open.run("COMMIT").await;
}
