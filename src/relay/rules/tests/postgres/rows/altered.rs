//! The same while tables become partitions, or are altered.

use super::*;

#[tokio::test]
async fn rows_of_tables_that_were_altered_are_what_they_are_called() {
    let mut log = start().await;
    // The log has named the tables before.
    rows(&mut log).await;
    partitions(&mut log).await;
    definitions(&mut log).await;
}

async fn partitions(log: &mut Log) {
    let key = log.key("events", &[b"7"]);
    log.says("INSERT INTO events VALUES (7, 1)", vec![key])
        .await;
    log.says("INSERT INTO events VALUES (7, 2)", vec![key])
        .await;
    log.says(
        "UPDATE events SET day = 2, id = 8 WHERE day = 1",
        vec![key, log.key("events", &[b"8"])],
    )
    .await;
    let all = log.all("events");
    log.says("TRUNCATE events_2", vec![all]).await;
    log.says("TRUNCATE events", vec![all]).await;
    log.server
        .sql("CREATE TABLE events_3 PARTITION OF events FOR VALUES IN (3)")
        .await;
    let (recheck, names) = log.of("INSERT INTO events VALUES (7, 3)").await;
    assert!(recheck && names.contains(&key), "{names:?}");
    log.says("INSERT INTO events VALUES (7, 1)", vec![key])
        .await;
    log.says("UPDATE events SET id = 7 WHERE day = 3", vec![key])
        .await;
    log.server
        .sql("DROP EVENT TRIGGER unstale_altered; DROP EVENT TRIGGER unstale_dropped")
        .await;
    log.server
        .sql(
            "CREATE TABLE late (id bigint, day int, PRIMARY KEY (id, day));
         ALTER PUBLICATION unstale_orders ADD TABLE late",
        )
        .await;
    let (_, names) = log.of("INSERT INTO late VALUES (9, 4)").await;
    assert_eq!(
        names,
        [all],
        "it may be a partition until the catalog is read"
    );
    log.says("UPDATE late SET day = 5 WHERE id = 9", vec![])
        .await;
    log.server
        .sql("ALTER TABLE events ATTACH PARTITION late FOR VALUES IN (5)")
        .await;
    let (recheck, names) = log.of("UPDATE late SET id = 10").await;
    let (before, after) = (log.key("events", &[b"9"]), log.key("events", &[b"10"]));
    assert!(recheck && names.contains(&all), "{names:?}");
    assert!(
        names.contains(&before) && names.contains(&after),
        "{names:?}"
    );
}

/// Without the triggers, what was altered is seen at the next row.
async fn definitions(log: &mut Log) {
    log.server
        .sql("ALTER TABLE accounts ADD COLUMN more text DEFAULT 'x'")
        .await;
    let (_, names) = log.of("INSERT INTO accounts VALUES (44)").await;
    assert!(names.contains(&log.all("accounts")) && names.contains(&log.key("accounts", &[b"44"])));
    log.says(
        "UPDATE accounts SET name = 'z'",
        vec![log.key("accounts", &[b"44"])],
    )
    .await;
    log.server
        .sql("ALTER TABLE accounts ALTER COLUMN id TYPE int")
        .await;
    let (recheck, names) = log.of("DELETE FROM accounts").await;
    assert!(recheck && names.contains(&log.all("accounts")));
    log.says(
        "INSERT INTO accounts VALUES (45)",
        vec![log.key("accounts", &[b"45"])],
    )
    .await;
}
