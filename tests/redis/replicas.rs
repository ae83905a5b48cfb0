//! Subscriptions at a replica, which is late, stands still, is cut off, dies or is promoted.

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;
use unstale::SubscribeAt;

use super::watch::{Watch, endure};
use super::{COUNTER, MAX_STALENESS, Pair, gaps, node, settings, until};
use crate::support::nodes::{Source, ms};
use testkit::cluster::ClusterFleet;
use testkit::proxy::{Direction, Mode, Proxy};
use testkit::redis::RedisServer;
use testkit::resp::Client;
use testkit::sentinel::{SentinelFleet, wait};

/// An event that only the old primary took is sent again after its writer's next verification.
const REPUBLISHED: Duration = ms(600);

fn admin(server: &RedisServer, command: &[&str]) -> String {
    block_in_place(|| Client::connect(server.port()).cmd(command).text())
}

/// A replica of what is at this port, once it is in step.
fn replica_of(port: u16) -> RedisServer {
    let of = format!("127.0.0.1 {port}");
    let replica = RedisServer::start_with(&["--replicaof", &of, "--repl-diskless-sync-delay", "0"]);
    wait("the replica", || {
        let info = Client::connect(replica.port()).cmd(&["INFO", "replication"]);
        info.text().contains("master_link_status:up")
    });
    replica
}

/// Both subscribe at the replica.
async fn pair(primary: RedisServer, replica: &RedisServer) -> Pair {
    let server = format!("127.0.0.1:{}", replica.port());
    let pair = Pair::with(primary, |url| {
        let mut settings = settings(url);
        settings.subscribe_at = SubscribeAt::Server(server.clone());
        settings
    })
    .await;
    assert_eq!((subscribers(&pair.server), subscribers(replica)), (0, 2));
    pair
}

fn subscribers(server: &RedisServer) -> u64 {
    let command = ["PUBSUB", "NUMSUB", super::CHANNEL];
    let heard = block_in_place(|| Client::connect(server.port()).cmd(&command));
    heard.array()[1].text().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stands_still_makes_nothing_stale() {
    let primary = RedisServer::start();
    let replica = block_in_place(|| replica_of(primary.port()));
    let pair = pair(primary, &replica).await;
    endure(&pair, async |_| {
        replica.stop();
        sleep(MAX_STALENESS * 2).await;
        replica.cont();
    })
    .await;
}

/// It answers, and receives no events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_from_its_primary_makes_nothing_stale_and_is_left() {
    let primary = RedisServer::start();
    let replica = block_in_place(|| replica_of(primary.port()));
    let pair = pair(primary, &replica).await;
    endure(&pair, async |pair| {
        admin(&replica, &["REPLICAOF", "NO", "ONE"]);
        until("both are at the primary", async || {
            subscribers(&pair.server) == 2
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_late_makes_nothing_stale() {
    let primary = RedisServer::start();
    let between = Proxy::start(primary.port()).await;
    let port = between.port();
    let replica = tokio::task::spawn_blocking(move || replica_of(port))
        .await
        .unwrap();
    let pair = pair(primary, &replica).await;
    endure(&pair, async |_| {
        between.set(Direction::ToClient, Mode::Delay(ms(300)));
        sleep(MAX_STALENESS * 2).await;
        between.set(Direction::ToClient, Mode::Pass);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_dies_makes_nothing_stale() {
    let primary = RedisServer::start();
    let replica = block_in_place(|| replica_of(primary.port()));
    let pair = pair(primary, &replica).await;
    endure(&pair, async |pair| {
        replica.kill();
        until("both are at the primary", async || {
            subscribers(&pair.server) == 2
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_sentinel_the_replica_is_found_and_its_promotion_makes_nothing_stale() {
    let redis = SentinelFleet::start();
    let (source, mut settings) = (Source::default(), settings(&redis.url()));
    settings.subscribe_at = SubscribeAt::Replicas;
    let a = node(settings.clone(), &source).await;
    let b = node(settings, &source).await;
    assert_eq!(
        (subscribers(&redis.primary), subscribers(&redis.replica)),
        (0, 2)
    );
    let watch = Watch::begin(&a, &b, &source, REPUBLISHED).await;
    redis.primary.kill();
    block_in_place(|| redis.wait_for_promotion());
    watch.worked().await;
    // It is the primary now, and there is no replica.
    until("both are there", async || subscribers(&redis.replica) == 2).await;
    watch.end().await;
}

/// The lane is on the first primary, which has a replica; the others have none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_events_are_heard_at_the_replica_of_their_lane() {
    let redis = ClusterFleet::start(COUNTER);
    let (source, mut settings) = (Source::default(), settings(&redis.url()));
    settings.subscribe_at = SubscribeAt::Replicas;
    let a = node(settings.clone(), &source).await;
    let b = node(settings, &source).await;
    let channel = super::CHANNEL.trim_end_matches('0');
    let subscribers = |server: &RedisServer| -> u64 {
        let command = ["PUBSUB", "SHARDNUMSUB", channel];
        let heard = block_in_place(|| Client::connect(server.port()).cmd(&command));
        heard.array()[1].text().parse().unwrap()
    };
    assert_eq!(subscribers(&redis.primaries[0]), 0);
    assert_eq!(subscribers(&redis.replica), 2);
    let received = || b.metric("unstale_events_received_total");
    until("the replica delivers", async || {
        let (before, missed) = (received(), gaps(&b, "silent"));
        let _ = a.cache.invalidate(&1).await;
        let heard = async || received() > before;
        let heard = tokio::time::timeout(MAX_STALENESS, until("a push", heard)).await;
        heard.is_ok() && gaps(&b, "silent") == missed
    })
    .await;
    let watch = Watch::begin(&a, &b, &source, REPUBLISHED).await;
    redis.primaries[0].kill();
    block_in_place(|| redis.wait_for_promotion(COUNTER));
    watch.worked().await;
    until("both are at the new primary", async || {
        subscribers(&redis.replica) == 2
    })
    .await;
    watch.end().await;
}
