//! The shared tier in a cluster: its values live with their lane.

use tokio::task::block_in_place;

use super::{REPUBLISHED, admin, migrate, rights};
use crate::COUNTER;
use crate::tier::Pair;
use testkit::cluster::ClusterFleet;
use testkit::resp::Client;

/// With no more rights than documented: the lane goes to another server and back, key by key, while
/// rows are written and read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_the_tier_is_found_after_its_slot_has_moved_and_none_is_stale() {
    let redis = ClusterFleet::start(COUNTER);
    let rights = rights("users-cluster.acl");
    let set: Vec<&str> = ["ACL", "SETUSER", "app", "on", ">s3cret"]
        .into_iter()
        .chain(rights.iter().map(String::as_str))
        .collect();
    let servers = || redis.primaries.iter().chain([&redis.replica]);
    for server in servers() {
        admin(server, &set);
    }
    let url = redis.url().replace("://", "://app:s3cret@");
    let mut pair = Pair::start(&url).await;
    for row in 0..20 {
        pair.stored(row, 100 + row).await;
    }
    let watch = pair.watch(REPUBLISHED).await;
    let [from, to] = [&redis.primaries[0], &redis.primaries[1]];
    for (from, to) in [(from, to), (to, from)] {
        block_in_place(|| migrate(&redis, from, to));
        watch.worked().await;
        pair.works().await;
    }
    watch.end().await;
    for row in 10..20 {
        assert_eq!(pair.b.get(row).await, Some(100 + row));
    }
    for server in servers() {
        let refused = Client::connect(server.port()).cmd(&["ACL", "LOG"]);
        assert_eq!(refused.array(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_the_tier_is_found_after_its_primary_was_replaced_and_none_is_stale() {
    let redis = ClusterFleet::start(COUNTER);
    let mut pair = Pair::start(&redis.url()).await;
    let watch = pair.watch(REPUBLISHED).await;
    redis.primaries[0].kill();
    block_in_place(|| redis.wait_for_promotion(COUNTER));
    watch.worked().await;
    pair.works().await;
    block_in_place(|| redis.primaries[0].restart());
    watch.worked().await;
    pair.works().await;
    watch.end().await;
}
