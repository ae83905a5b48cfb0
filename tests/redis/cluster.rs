//! In a Redis Cluster: lanes on several primaries, slots that move, primaries that are replaced.

mod tier;

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use unstale::{InstanceState, Outcome, Settings, internals};

use super::watch::Watch;
use super::{COUNTER, MAX_STALENESS, fences, gaps, node, settings, until};
use crate::support::nodes::{Node, Source, ms};
use testkit::cluster::ClusterFleet;
use testkit::redis::RedisServer;
use testkit::resp::Client;
use testkit::tls::Certificates;

/// As under Sentinel: an event that only the old primary took is sent again.
const REPUBLISHED: Duration = ms(600);

const LANES: u32 = 8;

struct Fleet {
    redis: ClusterFleet,
    source: Source,
    a: Node,
    b: Node,
}

impl Fleet {
    async fn start(lanes: u32) -> Self {
        let redis = ClusterFleet::start(COUNTER);
        let settings = settings(&redis.url());
        Self::on(redis, settings, lanes).await
    }

    async fn on(redis: ClusterFleet, mut settings: Settings, lanes: u32) -> Self {
        let source = Source::default();
        settings.lanes = lanes;
        let a = node(settings.clone(), &source).await;
        let b = node(settings, &source).await;
        Self {
            redis,
            source,
            a,
            b,
        }
    }

    async fn watch(&self) -> Watch {
        Watch::begin(&self.a, &self.b, &self.source, REPUBLISHED).await
    }

    async fn coherent(&self) {
        until("both are coherent", async || {
            let both = [&self.a, &self.b];
            both.iter()
                .all(|node| node.instance.health().state == InstanceState::Coherent)
        })
        .await;
    }

    /// A changes rows of many lanes, and B, which has them all in memory, hears of each.
    async fn follows(&self, version: u64) {
        for key in 0..40 {
            self.source.set(key, version);
            until("it is acknowledged", async || {
                self.a.cache.invalidate(&key).await.is_ok()
            })
            .await;
        }
        for key in 0..40 {
            until("B follows and hits", async || {
                self.b.get(key).await == Some(version) && self.b.outcome(key).await == Outcome::Hit
            })
            .await;
        }
    }
}

fn admin(server: &RedisServer, command: &[&str]) -> String {
    Client::connect(server.port()).cmd(command).text()
}

fn lanes_at(server: &RedisServer) -> usize {
    let keys = Client::connect(server.port()).cmd(&["KEYS", "us:{shop:*}s"]);
    keys.array().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_are_spread_over_the_primaries_and_delivered() {
    let fleet = Fleet::start(LANES).await;
    fleet.follows(1).await;
    let lanes: Vec<usize> = fleet.redis.primaries.iter().map(lanes_at).collect();
    assert_eq!(lanes.iter().sum::<usize>(), LANES as usize);
    assert!(
        lanes.iter().filter(|lanes| **lanes > 0).count() > 1,
        "{lanes:?}"
    );
    // By the subscriptions, not by verifications; and not over the links between the nodes, which
    // lose every PUBLISH now.
    for server in &fleet.redis.primaries {
        admin(server, &["DEBUG", "DROP-CLUSTER-PACKET-FILTER", "4"]);
    }
    let mut version = 1;
    until("the subscriptions deliver all", async || {
        version += 1;
        let silent = gaps(&fleet.b, "silent");
        let received = fleet.b.metric("unstale_events_received_total");
        fleet.follows(version).await;
        fleet.b.metric("unstale_events_received_total") >= received + 40
            && gaps(&fleet.b, "silent") == silent
    })
    .await;
}

/// All nodes are found by what the first says of them, and the one that takes a dead one's place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_on_several_primaries_are_delivered_over_tls() {
    let Some(tls) = Certificates::for_server() else {
        return;
    };
    let redis = ClusterFleet::start_over(COUNTER, Some(&tls));
    let mut settings = settings(&redis.url());
    settings.tls_ca = Some(tls.file("ca.crt"));
    let fleet = Fleet::on(redis, settings, LANES).await;
    fleet.follows(1).await;
    let lanes = fleet.redis.primaries.iter().map(lanes_at);
    assert!(lanes.filter(|lanes| *lanes > 0).count() > 1);
    fleet.redis.primaries[0].kill();
    block_in_place(|| fleet.redis.wait_for_promotion(COUNTER));
    fleet.coherent().await;
    fleet.follows(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_that_comes_back_on_its_port_serves_nothing_stale() {
    let fleet = Fleet::start(1).await;
    let watch = fleet.watch().await;
    fleet.redis.primaries[0].kill();
    block_in_place(|| fleet.redis.wait_for_promotion(COUNTER));
    watch.worked().await;
    block_in_place(|| fleet.redis.primaries[0].restart());
    watch.worked().await;
    sleep(MAX_STALENESS * 2).await;
    fleet.coherent().await;
    watch.end().await;
    until("both have taken up the new epoch", async || {
        fences(&fleet.a, "epoch") > 0 && fences(&fleet.b, "epoch") > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_primary_that_goes_on_when_it_was_replaced_serves_nothing_stale() {
    let fleet = Fleet::start(1).await;
    let watch = fleet.watch().await;
    block_in_place(|| {
        fleet.redis.primaries[0].stop();
        fleet.redis.wait_for_promotion(COUNTER);
    });
    fleet.redis.primaries[0].cont();
    watch.worked().await;
    sleep(MAX_STALENESS * 2).await;
    fleet.coherent().await;
    watch.end().await;
}

/// The slot of lane 0 goes to another primary and back while writes flow, keys one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_while_writes_flow_loses_no_event() {
    let fleet = Fleet::start(1).await;
    let watch = fleet.watch().await;
    let [from, to] = [&fleet.redis.primaries[0], &fleet.redis.primaries[1]];
    for (from, to) in [(from, to), (to, from)] {
        let fenced = fences(&fleet.b, "epoch");
        block_in_place(|| migrate(&fleet.redis, from, to));
        until("B takes up the new server's epoch", async || {
            fences(&fleet.b, "epoch") > fenced
        })
        .await;
        watch.worked().await;
        fleet.coherent().await;
    }
    // By the subscription again; a busy machine may need the journal once more.
    until("the subscription delivers all", async || {
        let silent = gaps(&fleet.b, "silent");
        let received = fleet.b.metric("unstale_events_received_total");
        watch.worked().await;
        fleet.b.metric("unstale_events_received_total") > received
            && gaps(&fleet.b, "silent") == silent
    })
    .await;
    watch.end().await;
}

/// As redis-cli reshards, and slower.
fn migrate(redis: &ClusterFleet, from: &RedisServer, to: &RedisServer) {
    let slot = admin(from, &["CLUSTER", "KEYSLOT", COUNTER]);
    let [from_id, to_id] = [from, to].map(|server| admin(server, &["CLUSTER", "MYID"]));
    let set = |server, state: &[&str]| {
        let command = [&["CLUSTER", "SETSLOT", slot.as_str()], state].concat();
        admin(server, &command);
    };
    set(to, &["IMPORTING", &from_id]);
    set(from, &["MIGRATING", &to_id]);
    let port = to.port().to_string();
    loop {
        let keys = Client::connect(from.port()).cmd(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
        let Some(key) = keys.array().first() else {
            break;
        };
        admin(
            from,
            &["MIGRATE", "127.0.0.1", &port, &key.text(), "0", "1000"],
        );
        std::thread::sleep(ms(20));
    }
    // Everything is there, and no instance has been notified yet.
    std::thread::sleep(ms(700));
    for server in [to, from] {
        set(server, &["NODE", &to_id]);
    }
    for server in &redis.primaries {
        if server.port() != from.port() && server.port() != to.port() {
            set(server, &["NODE", &to_id]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_call_one_another_in_two_ways_confirm_one_primary() {
    let redis = ClusterFleet::start(COUNTER);
    block_in_place(|| redis.call_by_name());
    let source = Source::default();
    let node = node(settings(&redis.url()), &source).await;
    source.set(1, 1);
    until("it hits", async || {
        node.get(1).await == Some(1) && node.outcome(1).await == Outcome::Hit
    })
    .await;
}

/// A primary that is replaced and hears nothing of it, because it no longer knows the others, goes
/// on as before. Whether an instance of before goes on serving what it holds.
async fn replaced_behind_its_back() -> bool {
    let redis = ClusterFleet::start(COUNTER);
    let source = Source::default();
    source.set(1, 1);
    let b = node(settings(&redis.url()), &source).await;
    until("B hits", async || {
        b.get(1).await == Some(1) && b.outcome(1).await == Outcome::Hit
    })
    .await;
    redis.replace_unnoticed(COUNTER);
    goes_on_serving(&b, &redis.url(), &source).await
}

/// Returns whether an instance that holds version 1 of row 1 goes on serving it when a writer that starts now,
/// and so is with the new primary, has changed it.
pub(super) async fn goes_on_serving(b: &Node, url: &str, source: &Source) -> bool {
    let a = node(settings(url), source).await;
    source.set(1, 2);
    until("it is acknowledged", async || {
        a.cache.invalidate(&1).await.is_ok()
    })
    .await;
    let changed = Instant::now();
    let due = MAX_STALENESS + REPUBLISHED;
    while changed.elapsed() < due * 3 {
        let began = changed.elapsed();
        if b.get(1).await == Some(1) && began > due {
            return true;
        }
        sleep(ms(5)).await;
    }
    false
}

#[tokio::test]
async fn a_replaced_primary_that_keeps_its_subscribers_is_not_believed() {
    assert!(!replaced_behind_its_back().await);
}

#[tokio::test]
async fn without_still_the_primary_a_replaced_one_is_believed() {
    let _without = internals::Without::new(internals::Mechanism::StillThePrimary);
    assert!(replaced_behind_its_back().await);
}

/// The rights of a user in `deploy/redis`, for the tests' namespace.
pub(super) fn rights(file: &str) -> Vec<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/redis");
    let users = std::fs::read_to_string(root.join(file)).unwrap();
    let (_, rules) = users
        .split_once("user unstale on #SHA256-OF-ITS-PASSWORD ")
        .unwrap();
    let rules = rules.lines().next().unwrap().replace("{default:", "{shop:");
    rules.split(' ').map(str::to_owned).collect()
}

/// With no more rights than documented: an instance, a slot that moves, and the program's commands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_rights_suffice() {
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
    let source = Source::default();
    let a = node(settings(&url), &source).await;
    let b = node(settings(&url), &source).await;
    block_in_place(|| migrate(&redis, &redis.primaries[0], &redis.primaries[1]));
    source.set(1, 1);
    let commit = async { Ok::<_, std::io::Error>(()) };
    a.cache.write(&1, commit).await.unwrap();
    until("B follows and hits", async || {
        b.get(1).await == Some(1) && b.outcome(1).await == Outcome::Hit
    })
    .await;
    a.instance.shutdown().await.unwrap();
    for server in servers() {
        let refused = Client::connect(server.port()).cmd(&["ACL", "LOG"]);
        assert_eq!(refused.array(), []);
    }
}

/// What an operator runs finds each lane where it lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_programs_commands_find_the_lanes() {
    let fleet = Fleet::start(LANES).await;
    fleet.follows(1).await;
    let url = fleet.redis.url();
    let lanes = LANES.to_string();
    let vars = [
        ("UNSTALE_REDIS_URL", &*url),
        ("UNSTALE_NAMESPACE", "shop"),
        ("UNSTALE_LANES", &*lanes),
    ];
    let run = |args: &[&str]| block_in_place(|| testkit::program::run(args, &vars));
    let doctor = run(&["doctor"]);
    assert_eq!(doctor.status, Some(0), "{doctor:?}");
    let status = run(&["status", "--json"]);
    assert_eq!(status.status, Some(0), "{status:?}");
    let lanes = status.json()["lanes"].as_array().unwrap().len();
    assert_eq!(lanes, LANES as usize, "{status:?}");
    for key in 0..10 {
        fleet.source.set(key, 2);
    }
    let keys: Vec<String> = (0..10).map(|key| key.to_string()).collect();
    let args = ["invalidate", "rows"]
        .into_iter()
        .chain(keys.iter().map(String::as_str));
    let invalidate = run(&args.collect::<Vec<_>>());
    assert_eq!(invalidate.status, Some(0), "{invalidate:?}");
    for key in 0..10 {
        until("B follows", async || fleet.b.get(key).await == Some(2)).await;
    }
}

/// The start names every right that only a cluster needs, and so does `doctor`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_a_cluster_needs_is_named_at_the_start_and_by_doctor() {
    let redis = ClusterFleet::start(COUNTER);
    let url = redis.url().replace("://", "://app:s3cret@");
    for right in [
        "cluster|slots",
        "ssubscribe",
        "spublish",
        "asking",
        "evalsha",
        "zadd",
    ] {
        let rule = format!("-{right}");
        let user = ["ACL", "SETUSER", "app", "reset", "on", ">s3cret"];
        let rules = ["~us:*", "&us:*", "+@all", &rule];
        for server in redis.primaries.iter().chain([&redis.replica]) {
            admin(server, &[&user[..], &rules].concat());
        }
        let refused = unstale::Instance::start(settings(&url)).await.unwrap_err();
        assert_eq!(
            refused.kind(),
            unstale::ErrorKind::Auth,
            "{right}: {refused}"
        );
        let remedy = format!("ACL SETUSER app +{right}");
        assert!(refused.to_string().contains(&remedy), "{right}: {refused}");
        let ran = block_in_place(|| testkit::program::run_on(&url, &["doctor"]));
        assert_eq!(ran.status, Some(1), "{right}: {ran:?}");
        assert!(ran.stdout.contains(&remedy), "{right}: {ran:?}");
    }
}
