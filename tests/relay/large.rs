//! A transaction of a million rows: the relay's memory does not grow with it.

use std::fs;

use super::rig::{Rig, Way};
use crate::support::over_redis::until;

const MANY: i64 = 1_000_000;

/// The most memory that a relay may ever have had, in KiB.
const MOST: u64 = 64 << 10;

/// The most memory that a process has had, in KiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines();
    let peak = lines.find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    peak.expect("Linux says it").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_rows_in_one_transaction_take_no_memory() {
    let rig = Rig::start().await;
    let relay = rig.relay(Way::Straight).await;
    let before = peak(relay.pid());
    let insert = format!("INSERT INTO accounts SELECT n, 1 FROM generate_series(1, {MANY}) n");
    for sql in [
        &*insert,
        "UPDATE accounts SET version = 2",
        "DELETE FROM accounts",
    ] {
        rig.sql(sql).await;
        let end = rig.postgres.sql("SELECT pg_current_wal_lsn()").await;
        let confirmed =
            format!("SELECT bool_and(confirmed_flush_lsn >= '{end}') FROM pg_replication_slots");
        until("all of it is read and published", async || {
            rig.postgres.sql(&confirmed).await == "t"
        })
        .await;
    }
    assert_eq!(relay.says("is opened again"), 0, "{:?}", relay.lines());
    let after = peak(relay.pid());
    eprintln!("{before} KiB before, {after} KiB at most");
    assert!(after < MOST, "{after} KiB, {before} KiB before");
}
