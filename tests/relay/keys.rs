//! Keys of several parts and of text, and tags that columns name.

use super::setup::Steady;

/// A text that SQL and JSON have to quote.
const NAME: &str = r#"o'brien "ä" \ x"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_two_columns_is_dropped_and_no_neighbour_of_it() {
    let fleet = Steady::start().await;
    let name = NAME.replace('\'', "''");
    fleet
        .run(&format!(
            "INSERT INTO members VALUES (7, '{name}', 1), (7, 'bob', 1), (8, '{name}', 1)"
        ))
        .await;
    fleet.settled().await;
    let key = (7, NAME.to_owned());
    let neighbours = [(7, "bob".to_owned()), (8, NAME.to_owned())];
    fleet
        .load(async |node| node.members.lookup(&key).await)
        .await;
    for other in &neighbours {
        fleet
            .load(async |node| node.members.lookup(other).await)
            .await;
    }
    let sql = format!("UPDATE members SET version = 2 WHERE tenant = 7 AND name = '{name}'");
    let changed = fleet.run(&sql).await;
    fleet
        .fresh(changed, Some(2), async |node| {
            node.members.lookup(&key).await
        })
        .await;
    fleet.settled().await;
    for other in &neighbours {
        assert!(
            fleet
                .keeps(async |node| node.members.lookup(other).await)
                .await
        );
    }
    // A part of the key changes: both keys are fresh.
    let there = (9, NAME.to_owned());
    fleet
        .load(async |node| node.members.lookup(&there).await)
        .await;
    let sql = format!("UPDATE members SET tenant = 9 WHERE tenant = 7 AND name = '{name}'");
    let moved = fleet.run(&sql).await;
    fleet
        .fresh(moved, None, async |node| node.members.lookup(&key).await)
        .await;
    fleet
        .fresh(moved, Some(2), async |node| {
            node.members.lookup(&there).await
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_text_are_dropped_whatever_is_in_them() {
    let fleet = Steady::start().await;
    let long = "ß".repeat(300);
    for code in ["", " ", "42", "NULL", NAME, &long] {
        fleet.load(async |node| node.codes.lookup(code).await).await;
        let quoted = code.replace('\'', "''");
        let inserted = fleet
            .run(&format!("INSERT INTO codes VALUES ('{quoted}', 1)"))
            .await;
        fleet
            .fresh(inserted, Some(1), async |node| {
                node.codes.lookup(code).await
            })
            .await;
        let sql = format!("UPDATE codes SET version = 2 WHERE code = '{quoted}'");
        let changed = fleet.run(&sql).await;
        fleet
            .fresh(changed, Some(2), async |node| node.codes.lookup(code).await)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_with_the_tag_of_a_column_are_dropped_before_and_after_the_change() {
    let fleet = Steady::start().await;
    fleet
        .run("INSERT INTO items VALUES (1, 1, 10), (2, 1, 20), (3, 2, 5), (4, 3, 1)")
        .await;
    fleet.settled().await;
    fleet.load(async |node| node.totals.lookup(&1).await).await;
    fleet.load(async |node| node.totals.lookup(&2).await).await;
    fleet.load(async |node| node.totals.lookup(&3).await).await;

    let changed = fleet.run("UPDATE items SET amount = 11 WHERE id = 1").await;
    fleet
        .fresh(changed, Some(31), async |node| node.totals.lookup(&1).await)
        .await;
    // It moves from one tenant to the other: the old row says the tag that it had.
    let moved = fleet.run("UPDATE items SET tenant = 2 WHERE id = 2").await;
    fleet
        .fresh(moved, Some(11), async |node| node.totals.lookup(&1).await)
        .await;
    fleet
        .fresh(moved, Some(25), async |node| node.totals.lookup(&2).await)
        .await;
    let deleted = fleet.run("DELETE FROM items WHERE id = 1").await;
    fleet
        .fresh(deleted, None, async |node| node.totals.lookup(&1).await)
        .await;
    fleet.load(async |node| node.totals.lookup(&1).await).await;
    let inserted = fleet.run("INSERT INTO items VALUES (5, 1, 99)").await;
    fleet
        .fresh(inserted, Some(99), async |node| {
            node.totals.lookup(&1).await
        })
        .await;
    fleet.settled().await;
    assert!(fleet.keeps(async |node| node.totals.lookup(&3).await).await);
}
