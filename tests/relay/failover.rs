//! A replica of the database takes over: under load, judged from the commit.

use testkit::postgres::{PostgresServer, url};
use testkit::proxy::Cut;
use tokio::time::{Duration, Instant, sleep};

use super::database::Database;
use super::rig::{Rig, Way};
use super::trial::{Reads, Scene, trial_over};
use super::{MAX_STALENESS, fleet, setup};
use crate::support::over_redis::until;

const SETTINGS: &[(&str, &str)] = &[("max_slot_wal_keep_size", "1GB")];

/// Gives a primary that is prepared a replica. All programs reach the database by one name, which leads to the primary of
/// the moment, and no commit is answered that the replica does not have.
async fn replicate(rig: &mut Rig) -> PostgresServer {
    let replica = rig.postgres.replica().await;
    for sql in [
        "ALTER SYSTEM SET synchronous_standby_names = '*'",
        "SELECT pg_reload_conf()",
    ] {
        rig.postgres.sql(sql).await;
    }
    until("commits wait for the replica", async || {
        let state = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        rig.postgres.sql(state).await == "1"
    })
    .await;
    rig.database = Database::new(by_name(rig));
    replica
}

fn by_name(rig: &Rig) -> String {
    url(rig.to_postgres.port(), "app", "app", "shop")
}

/// The primary dies, the replica takes over, and after a while the name leads to it.
async fn take_over(scene: &mut Scene, replica: &PostgresServer) {
    scene.rig.postgres.kill();
    assert_eq!(replica.sql("SELECT pg_promote()").await, "t");
    sleep(MAX_STALENESS / 2).await;
    scene.rig.to_postgres.set_upstream(replica.port());
    scene.rig.to_postgres.cut(Cut::Rst);
    until("the relay reads the other log", async || {
        scene.relay.says("relaying shop") == 2
    })
    .await;
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE active";
    assert_eq!(replica.sql(slots).await, "1");
}

async fn judged(slot: Option<&'static str>) {
    let mut rig = Rig::of(SETTINGS, "", fleet::RULES).await;
    rig.slot = slot;
    let services = fleet::over(&rig, &by_name(&rig)).await;
    let replica = replicate(&mut rig).await;
    let fault = async |scene: &mut Scene| take_over(scene, &replica).await;
    let fleet = (rig, services);
    trial_over(
        fleet,
        "failed over",
        Way::OverProxies,
        Reads::MayFail,
        fault,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_and_the_relay_begins_again_there() {
    judged(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_the_slot_takes_over_and_gets_one() {
    judged(Some("unstale_lasts")).await;
}

/// What was loaded from the old primary stays a hit for an hour, if nothing drops it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_between_two_primaries_is_dropped() {
    let mut rig = Rig::bare(SETTINGS).await;
    rig.prepare().await;
    let replica = replicate(&mut rig).await;
    rig.bound = setup::BOUND;
    rig.join().await;
    rig.sql("INSERT INTO accounts VALUES (42, 1)").await;
    let relay = rig.relay(Way::OverProxies).await;
    for node in &rig.nodes {
        until("it is a hit", async || {
            node.account(42).await.is_ok_and(|read| read.is_hit())
        })
        .await;
    }
    rig.postgres.kill();
    assert_eq!(replica.sql("SELECT pg_promote()").await, "t");
    // The relay cannot read this: its log begins later.
    replica
        .sql_in("shop", "UPDATE accounts SET version = 2 WHERE id = 42")
        .await;
    let committed = Instant::now();
    rig.to_postgres.set_upstream(replica.port());
    rig.to_postgres.cut(Cut::Rst);
    until("the relay reads the other log", async || {
        relay.says("relaying shop") == 2
    })
    .await;
    let mut last = Duration::ZERO;
    for node in &rig.nodes {
        until("the new value", async || {
            let began = committed.elapsed();
            let read = node.account(42).await;
            let is_new = read.is_ok_and(|read| read.value == Some(2));
            if !is_new {
                last = began;
            }
            is_new
        })
        .await;
    }
    assert!(last < rig.bound / 2, "served {last:?} after the commit");
}
