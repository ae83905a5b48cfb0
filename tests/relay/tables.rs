//! Tables that are made of others, and values that the log leaves out.

use super::rig::Rig;
use super::setup::{BOUND, Steady};

/// Two partitions for the accounts that every test begins with, and room for more.
const PARTITIONED: &str = "
    DROP TABLE accounts;
    CREATE TABLE accounts (id bigint PRIMARY KEY, version bigint NOT NULL) PARTITION BY RANGE (id);
    CREATE TABLE accounts_low PARTITION OF accounts FOR VALUES FROM (MINVALUE) TO (32);
    CREATE TABLE accounts_high PARTITION OF accounts FOR VALUES FROM (32) TO (1000);";

async fn fleet(sql: &str) -> Steady {
    let rig = Rig::bare(&[]).await;
    rig.sql(sql).await;
    Steady::over(rig.ready(BOUND).await).await
}

async fn account(fleet: &Steady, sql: &str, id: i64, version: Option<i64>) {
    fleet
        .load(async |node| node.accounts.lookup(&id).await)
        .await;
    let changed = fleet.run(sql).await;
    fleet
        .fresh(changed, version, async |node| {
            node.accounts.lookup(&id).await
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_a_partition_is_a_row_of_its_table() {
    let fleet = fleet(PARTITIONED).await;
    fleet
        .load(async |node| node.accounts.lookup(&60).await)
        .await;
    let by_root = "UPDATE accounts SET version = 7 WHERE id IN (5, 42)";
    account(&fleet, by_root, 5, Some(7)).await;
    account(
        &fleet,
        "UPDATE accounts SET version = 8 WHERE id = 42",
        42,
        Some(8),
    )
    .await;
    let by_leaf = "UPDATE accounts_low SET version = 9 WHERE id = 5";
    account(&fleet, by_leaf, 5, Some(9)).await;
    account(&fleet, "DELETE FROM accounts_high WHERE id = 43", 43, None).await;
    account(
        &fleet,
        "INSERT INTO accounts_high VALUES (43, 3)",
        43,
        Some(3),
    )
    .await;
    let keeps = fleet
        .keeps(async |node| node.accounts.lookup(&60).await)
        .await;
    assert!(keeps, "no other row was dropped");
    // It leaves one partition for the other.
    fleet
        .load(async |node| node.accounts.lookup(&900).await)
        .await;
    account(&fleet, "UPDATE accounts SET id = 900 WHERE id = 5", 5, None).await;
    let now = tokio::time::Instant::now();
    fleet
        .fresh(now, Some(9), async |node| node.accounts.lookup(&900).await)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_truncated_takes_the_cache_along() {
    let fleet = fleet(PARTITIONED).await;
    account(&fleet, "TRUNCATE accounts_low", 5, None).await;
    account(
        &fleet,
        "UPDATE accounts SET version = 4 WHERE id = 42",
        42,
        Some(4),
    )
    .await;
    account(&fleet, "TRUNCATE accounts", 42, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_joins_later_is_watched() {
    let fleet = fleet(PARTITIONED).await;
    let join = "CREATE TABLE accounts_more (id bigint PRIMARY KEY, version bigint NOT NULL);
        INSERT INTO accounts_more VALUES (1500, 1);
        ALTER TABLE accounts ATTACH PARTITION accounts_more FOR VALUES FROM (1000) TO (2000)";
    account(&fleet, join, 1_500, Some(1)).await;
    let update = "UPDATE accounts SET version = 2 WHERE id = 1500";
    account(&fleet, update, 1_500, Some(2)).await;
    account(
        &fleet,
        "INSERT INTO accounts_more VALUES (1600, 3)",
        1_600,
        Some(3),
    )
    .await;
}

/// So long that PostgreSQL stores it beside the row, and that an index still takes it.
fn long_code() -> String {
    (0..2_400_u32)
        .map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 26))
        .collect()
}

/// An update of another column does not write the key again, so the new row in the log does not have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_key_that_an_update_leaves_as_it_was_is_known() {
    for identity in ["DEFAULT", "FULL"] {
        let stored = format!(
            "ALTER TABLE codes ALTER code SET STORAGE EXTERNAL;
             ALTER TABLE codes REPLICA IDENTITY {identity}"
        );
        let fleet = fleet(&stored).await;
        let code = long_code();
        let insert = format!("INSERT INTO codes VALUES ('{code}', 1)");
        fleet.run(&insert).await;
        let beside =
            "SELECT pg_relation_size(reltoastrelid) > 0 FROM pg_class WHERE relname = 'codes'";
        assert_eq!(fleet.rig.postgres.sql_in("shop", beside).await, "t");
        fleet.settled().await;
        for version in 2..5 {
            fleet
                .load(async |node| node.codes.lookup(&code).await)
                .await;
            let sql = format!("UPDATE codes SET version = {version}");
            let changed = fleet.run(&sql).await;
            fleet
                .fresh(changed, Some(version), async |node| {
                    node.codes.lookup(&code).await
                })
                .await;
        }
    }
}
