//! Invalidations that a transaction says itself: they commit and roll back with it.

use super::setup::Steady;

const KEY: &str = "SELECT unstale_invalidate('accounts', '42')";

/// Account 42 and a neighbour are loaded. No row changes from now on: what is loaded again was dropped.
async fn load(fleet: &Steady) {
    fleet
        .load(async |node| node.accounts.lookup(&42).await)
        .await;
    fleet
        .load(async |node| node.accounts.lookup(&43).await)
        .await;
}

async fn keeps(fleet: &Steady, id: i64) -> bool {
    fleet
        .keeps(async |node| node.accounts.lookup(&id).await)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_dropped_when_the_transaction_commits() {
    let fleet = Steady::start().await;
    load(&fleet).await;
    fleet
        .run(&format!(
            "BEGIN; INSERT INTO notes VALUES ('x'); {KEY}; COMMIT"
        ))
        .await;
    fleet.settled().await;
    assert!(!keeps(&fleet, 42).await, "it was dropped");
    assert!(keeps(&fleet, 43).await, "nothing else was dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_dropped_when_the_transaction_rolls_back() {
    let fleet = Steady::start().await;
    load(&fleet).await;
    fleet.run(&format!("BEGIN; {KEY}; ROLLBACK")).await;
    fleet
        .run(&format!("BEGIN; SAVEPOINT s; {KEY}; ROLLBACK TO s; COMMIT"))
        .await;
    fleet.settled().await;
    assert!(keeps(&fleet, 42).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_two_parts_tags_and_whole_caches_are_dropped_too() {
    let fleet = Steady::start().await;
    let key = (7, "ada".to_owned());
    for (sql, of_two, tagged, whole) in [
        (
            "SELECT unstale_invalidate('members', '7', 'ada')",
            true,
            false,
            false,
        ),
        (
            "SELECT unstale_invalidate_tag('totals', 'tenant:1')",
            false,
            true,
            false,
        ),
        ("SELECT unstale_invalidate_all('codes')", false, false, true),
    ] {
        fleet
            .load(async |node| node.members.lookup(&key).await)
            .await;
        fleet.load(async |node| node.totals.lookup(&1).await).await;
        fleet.load(async |node| node.codes.lookup("a").await).await;
        fleet.run(sql).await;
        fleet.settled().await;
        let members = fleet.keeps(async |node| node.members.lookup(&key).await);
        assert_eq!(!members.await, of_two, "{sql}");
        let totals = fleet.keeps(async |node| node.totals.lookup(&1).await);
        assert_eq!(!totals.await, tagged, "{sql}");
        let codes = fleet.keeps(async |node| node.codes.lookup("a").await);
        assert_eq!(!codes.await, whole, "{sql}");
    }
}

/// Who may connect may write such a message: the worst it does is that values are loaded again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_none_drops_everything_and_the_relay_goes_on() {
    let fleet = Steady::start().await;
    load(&fleet).await;
    fleet
        .run("SELECT pg_logical_emit_message(true, 'others', 'anything')")
        .await;
    fleet.settled().await;
    assert!(keeps(&fleet, 42).await, "it was another program's");
    fleet
        .run("SELECT pg_logical_emit_message(true, 'unstale', 'no JSON')")
        .await;
    fleet.settled().await;
    assert!(!keeps(&fleet, 42).await);
}
