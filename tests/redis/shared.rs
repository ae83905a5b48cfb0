//! Over a real Redis, with the clock of the kernel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use unstale::{Instance, Outcome, SharedTier};

use crate::support::nodes::{Source, metric, ms};
use crate::support::over_redis::{settings, until};
use crate::support::sharing::Node;
use testkit::redis::RedisServer;
use testkit::resp::Client;

async fn node(server: &RedisServer, source: &Source, shared: SharedTier<u64>) -> Node {
    Node::of(
        Instance::start(settings(&server.url())).await.unwrap(),
        source,
        shared,
    )
}

/// Two instances whose lane has a record, over a source in which row 1 is 10.
async fn two(shared: impl Fn() -> SharedTier<u64>) -> (RedisServer, Source, Node, Node) {
    let (server, source) = (RedisServer::start(), Source::default());
    source.set(1, 10);
    let a = node(&server, &source, shared()).await;
    let b = node(&server, &source, shared()).await;
    let mut admin = Client::connect(server.port());
    until("the record", async || {
        admin.cmd(&["EXISTS", "us:{shop:0}r"]).text() == "1"
    })
    .await;
    (server, source, a, b)
}

/// Reads row 1 on A, until it has been stored.
async fn stored(a: &Node) {
    let before = a.stores("stored");
    a.get(1).await;
    until("it is stored", async || a.stores("stored") > before).await;
}

/// B finds in Redis what A has loaded. A question that goes unanswered for 100 ms is a load instead,
/// and another try.
async fn found(a: &Node, b: &Node) {
    until("B finds what A has loaded", async || {
        let has = |node: &Node| node.stores("stored") + node.stores("unchanged");
        let before = has(a);
        a.cache.invalidate(&1).await.is_ok() && {
            a.get(1).await;
            until("it is stored", async || has(a) > before).await;
            b.outcome(1).await == Outcome::Tier
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_redis_a_value_of_one_instance_is_found_by_the_other_until_it_is_invalidated() {
    let (server, source, a, b) = two(SharedTier::new).await;
    found(&a, &b).await;
    source.set(1, 11);
    a.cache.invalidate(&1).await.unwrap();
    assert_eq!(a.get(1).await, Some(11));
    until("b has heard of it", async || b.get(1).await == Some(11)).await;
    // Nothing in Redis shows the key, and everything is under the lane's hash tag.
    let mut admin = Client::connect(server.port());
    let keys = admin.cmd(&["KEYS", "*"]);
    let keys: Vec<_> = keys.array().iter().map(|key| key.text()).collect();
    assert!(
        keys.iter().all(|key| key.starts_with("us:{shop:0}")),
        "{keys:?}"
    );
    let values = keys
        .iter()
        .filter(|key| key.len() == "us:{shop:0}v".len() + 22);
    assert_eq!(values.count(), 1, "{keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_redis_fifty_callers_are_one_load() {
    let (_server, source, a, b) = two(|| SharedTier::new().fleet_single_flight(ms(5_000))).await;
    source.slow(ms(100));
    let callers: Vec<_> = (0..50)
        .map(|n| if n % 2 == 0 { a.spawn(1) } else { b.spawn(1) })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().value, Some(10));
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_forgotten_what_was_applied_is_not_believed() {
    let (server, source, a, b) = two(SharedTier::new).await;
    stored(&a).await;
    let mut admin = Client::connect(server.port());
    let before = admin.cmd(&["HGET", "us:{shop:0}s", "q"]).text();
    source.set(1, 11);
    a.cache.invalidate(&1).await.unwrap();
    until("B has heard of it", async || {
        metric(&b.instance, "unstale_events_applied_total") > 0
    })
    .await;
    // As if the event had never been, in both counter and record, between two verifications.
    admin.cmd(&["MULTI"]);
    admin.cmd(&["HSET", "us:{shop:0}s", "q", &before]);
    admin.cmd(&["HSET", "us:{shop:0}f", "q", &before]);
    admin.cmd(&[
        "ZREMRANGEBYSCORE",
        "us:{shop:0}r",
        &format!("({before}"),
        "+inf",
    ]);
    admin.cmd(&["EXEC"]);
    for node in [&a, &b] {
        assert_eq!(node.get(1).await, Some(11));
        assert_eq!(node.reads("found"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_published_past_the_record_leaves_nothing_that_counts() {
    let (server, source, a, b) = two(SharedTier::new).await;
    let mut admin = Client::connect(server.port());
    let mut row = 1;
    // A verification that comes between begins the record again; then the next row is tried.
    until("the value is refused", async || {
        row += 1;
        source.set(row, 10);
        let before = a.stores("stored");
        a.get(row).await;
        let mut looks = 0..100;
        while a.stores("stored") == before && looks.next().is_some() {
            tokio::time::sleep(ms(5)).await;
        }
        source.set(row, 11);
        // A writer with a script that knows of no record: the sequence alone moves.
        admin.cmd(&["HINCRBY", "us:{shop:0}s", "q", "1"]);
        assert_eq!(b.get(row).await, Some(11));
        b.reads("refused") > 0
    })
    .await;
    // Until a verification has begun the record again.
    until("the tier is back", async || {
        a.cache.invalidate(&1).await.unwrap();
        a.get(1).await;
        b.outcome(1).await == Outcome::Tier
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_and_a_flush_leave_nothing_that_counts() {
    let (server, source, a, b) = two(SharedTier::new).await;
    stored(&a).await;
    Client::connect(server.port()).cmd(&["FLUSHALL"]);
    source.set(1, 11);
    assert_eq!(b.get(1).await, Some(11));
    until("the tier is back", async || {
        a.cache.invalidate(&1).await.unwrap();
        a.get(1).await;
        b.outcome(1).await == Outcome::Tier
    })
    .await;
    server.kill();
    source.set(1, 12);
    server.restart();
    until("the change is seen", async || {
        a.get(1).await == Some(12) && b.get(1).await == Some(12)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_accounts_are_found_in_few_bytes_and_counted_as_redis_counts() {
    let (server, loads) = (RedisServer::start(), Arc::new(AtomicU64::new(0)));
    let a = accounts(&server, &loads).await;
    let b = accounts(&server, &loads).await;
    let keys: Vec<u64> = (0..1_000).collect();
    let mut admin = Client::connect(server.port());
    let before = (net(&mut admin), a.bytes() + b.bytes());
    // By twenty: a question that goes unanswered for 100 ms is a load instead.
    for twenty in keys.chunks(20) {
        a.cache.get_many(twenty).await.unwrap();
    }
    until("all stores have ended", async || stores(&a) >= 1_000).await;
    assert!(a.stores("stored") > 0);
    for twenty in keys.chunks(20) {
        assert_eq!(b.cache.get_many(twenty).await.unwrap().len(), 20);
    }
    let (found, asked) = (b.reads("found"), loads.load(SeqCst));
    assert!(found > 0 && asked <= 100, "{found} found, {asked} loads");
    let after = (net(&mut admin), a.bytes() + b.bytes());
    let (theirs, ours) = (after.0 - before.0, after.1 - before.1);
    // Verifications go on meanwhile; they are few.
    assert!(
        ours.abs_diff(theirs) * 20 <= theirs,
        "counted {ours}, Redis {theirs}"
    );
    // 6,000 bytes of fields a value, once each way, and some 500 around them.
    assert!(theirs < 2 * 1_000 * 6_700, "{theirs}");

    // The same bytes again: neither the invalidation nor what follows sends them.
    a.cache.invalidate_many(&keys).await.unwrap();
    let invalidated = net(&mut admin);
    assert!(
        invalidated - after.0 < 1_000_000,
        "{}",
        invalidated - after.0
    );
    a.cache.get_many(&keys).await.unwrap();
    until("all stores have ended", async || stores(&a) >= 2_000).await;
    let renewed = net(&mut admin) - invalidated;
    let unchanged = a.stores("unchanged");
    // What could not be stored the first time is sent now.
    let sent = (1_000 - unchanged) * 6_700;
    assert!(unchanged > 0 && renewed < 1_000_000 + sent, "{renewed}");
}

/// Values whose store has ended, in any way.
fn stores(node: &Node) -> u64 {
    let text = node.instance.metrics_text();
    let series = "unstale_shared_stores_total{cache=\"rows\"";
    let lines = text.lines().filter(|line| line.starts_with(series));
    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.map(|value| value as u64).sum()
}

/// An instance that loads all that it misses in one call, which is counted.
async fn accounts(server: &RedisServer, loads: &Arc<AtomicU64>) -> Node {
    let (instance, loads) = (
        Instance::start(settings(&server.url())).await.unwrap(),
        loads.clone(),
    );
    let cache = instance
        .cache::<u64, u64>("rows")
        .tier(wide())
        .batch_loader(move |keys: Vec<u64>| {
            loads.fetch_add(1, SeqCst);
            async move { Ok(keys.into_iter().map(|key| (key, key)).collect()) }
        })
        .build()
        .unwrap();
    let mut admin = Client::connect(server.port());
    until("the record", async || {
        admin.cmd(&["EXISTS", "us:{shop:0}r"]).text() == "1"
    })
    .await;
    Node { instance, cache }
}

/// 6,000 bytes of a number that do not compress.
fn wide() -> SharedTier<u64> {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Slim(#[serde(with = "serde_bytes")] Vec<u8>);

    SharedTier::projection(
        |n: &u64| {
            let mut bytes = n.to_be_bytes().to_vec();
            let mut rng = fastrand::Rng::with_seed(*n);
            bytes.extend((8..6_000).map(|_| rng.u8(..)));
            Slim(bytes)
        },
        |slim: Slim| slim.0.first_chunk().map_or(0, |n| u64::from_be_bytes(*n)),
    )
}

/// What Redis has read and written.
fn net(admin: &mut Client) -> u64 {
    let text = admin.cmd(&["INFO", "stats"]).text();
    ["total_net_input_bytes:", "total_net_output_bytes:"]
        .map(|field| {
            let line = text.lines().find_map(|line| line.strip_prefix(field));
            line.expect("INFO stats has it").parse::<u64>().unwrap()
        })
        .iter()
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_that_are_documented_are_enough() {
    let (server, source) = (RedisServer::start(), Source::default());
    source.set(1, 10);
    let rules = include_str!("../../deploy/redis/users.acl");
    let rules = rules
        .lines()
        .find_map(|line| line.strip_prefix("user unstale on "));
    let rules = rules.unwrap().replace("default", "shop");
    let mut command = vec!["ACL", "SETUSER", "unstale", "on", ">pw"];
    command.extend(
        rules
            .split_whitespace()
            .filter(|rule| !rule.starts_with('#')),
    );
    let mut admin = Client::connect(server.port());
    admin.cmd(&command);
    let url = format!("redis://unstale:pw@127.0.0.1:{}", server.port());
    let start = async || {
        let instance = Instance::start(settings(&url)).await.unwrap();
        Node::of(
            instance,
            &source,
            SharedTier::new().fleet_single_flight(ms(1_000)),
        )
    };
    let (a, b) = (start().await, start().await);
    until("the record", async || {
        admin.cmd(&["EXISTS", "us:{shop:0}r"]).text() == "1"
    })
    .await;
    found(&a, &b).await;
    until("it is renewed", async || {
        let _ = a.cache.invalidate(&1).await;
        a.get(1).await;
        a.stores("unchanged") > 0
    })
    .await;
    let refused = admin.cmd(&["ACL", "LOG"]);
    assert!(refused.array().is_empty(), "{refused:?}");
}
