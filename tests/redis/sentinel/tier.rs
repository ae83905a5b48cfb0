//! The shared tier over a failover.

use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use super::REPUBLISHED;
use crate::MAX_STALENESS;
use crate::support::nodes::ms;
use crate::tier::{CHANGED, Pair};
use crate::until;
use testkit::resp::Client;
use testkit::sentinel::{SentinelFleet, wait};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_the_tier_is_found_over_a_failover_and_none_is_stale() {
    let redis = SentinelFleet::start();
    let mut pair = Pair::start(&redis.url()).await;
    let watch = pair.watch(REPUBLISHED).await;
    redis.primary.kill();
    block_in_place(|| redis.wait_for_promotion());
    watch.worked().await;
    pair.works().await;
    watch.end().await;
    assert!(pair.b.reads("found") > 0);
}

/// The replica has a value and not what made it old: neither the event nor the record of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_lost_the_invalidation_brings_no_value_of_redis_back() {
    let redis = SentinelFleet::start();
    let mut pair = Pair::start(&redis.url()).await;
    pair.stored(CHANGED, 10).await;
    let admin = |server: &testkit::redis::RedisServer, command: &[&str]| {
        Client::connect(server.port()).cmd(command)
    };
    let in_step = admin(&redis.primary, &["WAIT", "1", "5000"]);
    assert_eq!(in_step.int(), Some(1));
    let values = values_of(&redis.replica);
    assert!(values > 0, "the replica has no value");
    // From here on the replica hears nothing, and cannot catch up.
    block_in_place(|| redis.replica.stop());
    admin(&redis.primary, &["CLIENT", "KILL", "TYPE", "replica"]);
    pair.source.set(CHANGED, 11);
    let changed = Instant::now();
    until("it is acknowledged", async || {
        pair.a.cache.invalidate(&CHANGED).await.is_ok()
    })
    .await;
    redis.primary.kill();
    redis.replica.cont();
    block_in_place(|| {
        assert_eq!(values_of(&redis.replica), values, "it has caught up");
        redis.wait_for_promotion();
        wait("the new primary takes writes", || {
            let answer = Client::connect(redis.replica.port()).try_cmd(&["SET", "probe", "1"]);
            answer.is_ok_and(|answer| answer.text() == "OK")
        });
    });
    // Whatever is asked, as soon as a server answers, and until all is as before.
    let mut asked = 0;
    let end = Instant::now() + MAX_STALENESS * 5;
    while Instant::now() < end || asked <= 50 {
        for node in [&pair.a, &pair.b] {
            let due = changed.elapsed() > MAX_STALENESS + REPUBLISHED;
            let got = node.get(CHANGED).await;
            asked += u32::from(due);
            assert!(!due || got == Some(11), "{got:?}");
        }
        sleep(ms(5)).await;
    }
    pair.works().await;
    until("the change is found as well", async || {
        pair.b.get(CHANGED).await == Some(11)
    })
    .await;
}

/// Values that lie on a server.
fn values_of(server: &testkit::redis::RedisServer) -> usize {
    let keys = Client::connect(server.port()).cmd(&["KEYS", "us:{shop:0}v*"]);
    keys.array().len()
}
