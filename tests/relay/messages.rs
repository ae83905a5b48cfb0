//! Invalidations that a transaction says itself: they commit and roll back with it.

use testkit::{example, postgres};
use unstale::Statement;

use super::database::Database;
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    Parameter,
    Text,
}

/// One transaction of an application's own connection.
async fn transaction(fleet: &Steady, statement: &Statement, how: As, end: &str) {
    let database = Database::new(fleet.rig.postgres.url("app", "app", "shop"));
    database.run("BEGIN; INSERT INTO notes VALUES ('x')").await;
    match how {
        As::Parameter => {
            let parameter = statement.parameter();
            let sent = database.change(statement.sql(), &[&parameter]).await;
            sent.unwrap();
        }
        As::Text => database.run(&statement.to_string()).await,
    }
    database.run(end).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_statement_of_a_batch_drops_what_it_names_when_it_is_committed() {
    let fleet = Steady::start().await;
    let key = (7, "ada".to_owned());
    let (instance, node) = (&fleet.rig.nodes[0].instance, &fleet.rig.nodes[0]);
    for how in [As::Parameter, As::Text] {
        let batch = instance.batch();
        let batch = batch
            .key(&node.accounts, &42)
            .key(&node.members, &key)
            .tag(&node.totals, "tenant:1")
            .all(&node.codes);
        let statement = batch.in_transaction().unwrap();
        fleet
            .load(async |node| node.members.lookup(&key).await)
            .await;
        fleet.load(async |node| node.totals.lookup(&1).await).await;
        fleet.load(async |node| node.codes.lookup("a").await).await;
        load(&fleet).await;
        transaction(&fleet, &statement, how, "ROLLBACK").await;
        fleet.settled().await;
        assert!(keeps(&fleet, 42).await, "it was rolled back");
        transaction(&fleet, &statement, how, "COMMIT").await;
        fleet.settled().await;
        assert!(!keeps(&fleet, 42).await, "{how:?}: the key");
        let members = fleet.keeps(async |node| node.members.lookup(&key).await);
        assert!(!members.await, "{how:?}: the key of two parts");
        let totals = fleet.keeps(async |node| node.totals.lookup(&1).await);
        assert!(!totals.await, "{how:?}: the tag");
        let codes = fleet.keeps(async |node| node.codes.lookup("a").await);
        assert!(!codes.await, "{how:?}: the cache");
        assert!(keeps(&fleet, 43).await, "nothing else was dropped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_of_very_many_keys_drops_them_and_nothing_else() {
    let fleet = Steady::start().await;
    let node = &fleet.rig.nodes[0];
    let mut batch = node.instance.batch();
    for id in (0..100_001).filter(|id| *id != 43) {
        batch = batch.key(&node.accounts, &id);
    }
    let statement = batch.in_transaction().unwrap();
    load(&fleet).await;
    transaction(&fleet, &statement, As::Parameter, "COMMIT").await;
    fleet.settled().await;
    assert!(!keeps(&fleet, 42).await);
    assert!(keeps(&fleet, 43).await);
    // More than a statement names: the whole cache.
    let mut batch = node.instance.batch();
    for id in 100_000..400_000 {
        batch = batch.key(&node.accounts, &id);
    }
    let statement = batch.in_transaction().unwrap();
    transaction(&fleet, &statement, As::Text, "COMMIT").await;
    fleet.settled().await;
    assert!(!keeps(&fleet, 43).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_and_the_sql_of_the_guide_drop_the_account() {
    let fleet = Steady::start().await;
    let url = fleet.rig.postgres.url("app", "app", "shop");
    load(&fleet).await;
    let lines = ["committed: account 42 is dropped on every instance"];
    example::shows("in_transaction", &[&url], &[], &lines).await;
    fleet.settled().await;
    assert!(!keeps(&fleet, 42).await);
    assert!(keeps(&fleet, 43).await);

    let guide = include_str!("../../docs/relay.md");
    let (_, sql) = guide.split_once("```sql\n").unwrap();
    let (sql, _) = sql.split_once("```").unwrap();
    assert!(sql.contains("INTO payments"), "the example's table: {sql}");
    load(&fleet).await;
    let undone = sql.replace("COMMIT", "ROLLBACK");
    postgres::query(&url, &undone).await.unwrap();
    fleet.settled().await;
    assert!(keeps(&fleet, 42).await);
    postgres::query(&url, sql).await.unwrap();
    fleet.settled().await;
    assert!(!keeps(&fleet, 42).await);
    assert!(keeps(&fleet, 43).await);
}

/// A user who may connect may write such a message: the worst it does is that values are loaded again.
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
