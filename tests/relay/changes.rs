//! Every kind of change of a row and of a table: what it drops, and what it leaves alone.

use super::rig::Rig;
use super::setup::{BOUND, ROWS, Steady};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_row_is_dropped_and_no_other() {
    let fleet = Steady::start().await;
    fleet
        .load(async |node| node.accounts.lookup(&60).await)
        .await;
    let changed = fleet
        .run("UPDATE accounts SET version = 7 WHERE id = 42")
        .await;
    fleet
        .fresh(changed, Some(7), async |node| {
            node.accounts.lookup(&42).await
        })
        .await;
    fleet.settled().await;
    assert!(
        fleet
            .keeps(async |node| node.accounts.lookup(&60).await)
            .await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_deleted_is_gone_and_one_that_is_inserted_is_there() {
    let fleet = Steady::start().await;
    let deleted = fleet.run("DELETE FROM accounts WHERE id = 42").await;
    fleet
        .fresh(deleted, None, async |node| node.accounts.lookup(&42).await)
        .await;
    // A hit that says there is none.
    fleet
        .load(async |node| node.accounts.lookup(&42).await)
        .await;
    fleet
        .load(async |node| node.accounts.lookup(&1_000).await)
        .await;
    let inserted = fleet
        .run("INSERT INTO accounts VALUES (42, 8), (1000, 9)")
        .await;
    fleet
        .fresh(inserted, Some(8), async |node| {
            node.accounts.lookup(&42).await
        })
        .await;
    fleet
        .fresh(inserted, Some(9), async |node| {
            node.accounts.lookup(&1_000).await
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_key_changes_reads_of_the_old_and_the_new_one_are_fresh() {
    let fleet = Steady::start().await;
    fleet
        .load(async |node| node.accounts.lookup(&1_042).await)
        .await;
    let moved = fleet
        .run("UPDATE accounts SET id = 1042, version = 5 WHERE id = 42")
        .await;
    fleet
        .fresh(moved, None, async |node| node.accounts.lookup(&42).await)
        .await;
    fleet
        .fresh(moved, Some(5), async |node| {
            node.accounts.lookup(&1_042).await
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_table_takes_its_cache_along_and_no_other() {
    let fleet = Steady::start().await;
    fleet.run("INSERT INTO codes VALUES ('a', 1)").await;
    fleet.settled().await;
    fleet.load(async |node| node.codes.lookup("a").await).await;
    let truncated = fleet.run("TRUNCATE accounts").await;
    for id in [0, 42, 63] {
        fleet
            .fresh(truncated, None, async |node| {
                node.accounts.lookup(&id).await
            })
            .await;
    }
    assert!(fleet.keeps(async |node| node.codes.lookup("a").await).await);
}

const ADD: &str = "ALTER TABLE accounts ADD COLUMN extra bigint NOT NULL DEFAULT 1000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_is_added_with_a_default_is_seen_at_once_by_the_event_trigger() {
    let fleet = Steady::start().await;
    let added = fleet.run(ADD).await;
    for id in 0..4 {
        fleet
            .fresh(added, Some(1_001), async |node| {
                node.accounts.lookup(&id).await
            })
            .await;
    }
    // The first row after it shows the table as it is now, which drops the cache once more. From then on the rules
    // apply row by row, as before.
    fleet
        .run("UPDATE accounts SET version = 2 WHERE id = 4")
        .await;
    fleet.settled().await;
    fleet
        .load(async |node| node.accounts.lookup(&60).await)
        .await;
    fleet
        .run("UPDATE accounts SET version = 2 WHERE id = 5")
        .await;
    fleet.settled().await;
    assert!(
        fleet
            .keeps(async |node| node.accounts.lookup(&60).await)
            .await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_event_triggers_a_column_that_is_added_is_seen_with_the_next_row_of_its_table() {
    let fleet = Steady::start().await;
    let drop = "DROP EVENT TRIGGER unstale_altered; DROP EVENT TRIGGER unstale_dropped";
    fleet.rig.postgres.sql_in("shop", drop).await;
    fleet.run(ADD).await;
    let one_row = fleet
        .run("UPDATE accounts SET version = 1 WHERE id = 60")
        .await;
    for id in 0..4 {
        fleet
            .fresh(one_row, Some(1_001), async |node| {
                node.accounts.lookup(&id).await
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_rolled_back_or_that_no_rule_names_drops_nothing() {
    let fleet = Steady::start().await;
    fleet
        .load(async |node| node.accounts.lookup(&42).await)
        .await;
    fleet
        .run("BEGIN; UPDATE accounts SET version = 9 WHERE id = 42; ROLLBACK")
        .await;
    fleet
        .run("INSERT INTO notes SELECT 'note' FROM generate_series(1, 1000)")
        .await;
    fleet.settled().await;
    assert!(
        fleet
            .keeps(async |node| node.accounts.lookup(&42).await)
            .await
    );
}

/// Rows, a tag, a statement and a truncation: what concerns one lane, and what concerns each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lane_is_relayed() {
    let mut rig = Rig::bare(&[]).await;
    rig.lanes = 4;
    // Begins with changes of rows in every lane.
    let fleet = Steady::over(rig.ready(BOUND).await).await;
    fleet.rig.sql("INSERT INTO items VALUES (1, 7, 5)").await;
    fleet.settled().await;
    fleet.load(async |node| node.totals.lookup(&7).await).await;
    let changed = fleet.run("UPDATE items SET amount = 6").await;
    fleet
        .fresh(changed, Some(6), async |node| node.totals.lookup(&7).await)
        .await;
    let gone = fleet.run("TRUNCATE accounts").await;
    for id in 0..ROWS {
        fleet
            .fresh(gone, None, async |node| node.accounts.lookup(&id).await)
            .await;
    }
}
