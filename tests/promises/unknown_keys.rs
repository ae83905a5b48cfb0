//! Requests for keys that were made up cost the source what the user allows, and good keys nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use unstale::testing::start_on;
use unstale::{Cache, ErrorKind, Instance, LocalBus, Outcome, Settings};

use crate::support::nodes::{Node, Source, get, metric, ms, pair_with, pass};

const LIMITED: &str = r#"unstale_loads_total{cache="rows",outcome="limited"}"#;

/// Where keys begin that the source does not have.
const BAD: u64 = 1 << 32;

/// Two instances on one source with the keys 0 to 99, and a limit.
async fn limited(per_second: u32) -> (LocalBus, Source, Node, Node) {
    let mut settings = Settings::default();
    settings.unknown_loads = Some(per_second);
    let made = pair_with(settings).await;
    (0..100).for_each(|key| made.1.set(key, key));
    made
}

/// Reads keys that do not exist until one is refused; returns how many were looked for.
async fn attack(node: &Node, keys: &mut impl Iterator<Item = u64>) -> u64 {
    let before = node.cache.stats().misses;
    for key in keys.take(1_000) {
        match node.cache.get(&key).await {
            Ok(found) => assert_eq!(found, None),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Limited);
                assert!(error.to_string().contains("unknown_loads"), "{error}");
                assert!(!error.to_string().contains(&key.to_string()), "{error}");
                return node.cache.stats().misses - before - 1;
            }
        }
    }
    unreachable!("nothing is refused");
}

#[tokio::test(start_paused = true)]
async fn loads_of_unknown_keys_are_limited_and_counted() {
    let (_bus, source, a, _b) = limited(20).await;
    let mut keys = BAD..;
    assert_eq!(attack(&a, &mut keys).await, 20);
    assert_eq!(source.loads(), 20);
    for seconds in 1..=10 {
        pass(ms(1_000)).await;
        assert_eq!(attack(&a, &mut keys).await, 20);
        assert_eq!(source.loads(), 20 * (1 + seconds));
    }
    assert_eq!(a.metric(LIMITED), 11);
    // What is remembered is served, refused or not.
    assert_eq!(a.outcome(keys.start - 2).await, Outcome::Negative);
    let error = a.cache.get(&(keys.start - 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limited);
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_is_no_attack() {
    let (_bus, source, a, _b) = limited(2).await;
    source.slow(ms(10));
    let reads: Vec<_> = (0..100).map(|key| get(&a.cache, key)).collect();
    for (key, read) in (0..).zip(reads) {
        assert_eq!(read.await.unwrap().unwrap(), Some(key));
    }
    assert_eq!((source.loads(), a.metric(LIMITED)), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn an_attack_costs_no_good_key_its_reload() {
    let (_bus, source, a, b) = limited(5).await;
    for key in 0..100 {
        assert_eq!(a.get(key).await, Some(key));
    }
    let mut keys = BAD..;
    attack(&a, &mut keys).await;
    // Invalidated by this instance, by a peer, by a tag; expired, and reaped; all while others attack.
    source.set(1, 101);
    a.cache.invalidate(&1).await.unwrap();
    source.set(2, 102);
    b.cache.invalidate(&2).await.unwrap();
    source.set(30, 130);
    b.cache.invalidate_tag("tens-3").await.unwrap();
    attack(&a, &mut keys).await;
    assert_eq!(a.get(1).await, Some(101));
    assert_eq!(a.get(2).await, Some(102));
    assert_eq!(a.get(30).await, Some(130));
    pass(ms(120_000)).await;
    assert_eq!(a.cache.stats().entries, 0, "all are reaped");
    attack(&a, &mut keys).await;
    for key in 3..30 {
        assert_eq!(a.get(key).await, Some(key));
    }
    // A source that fails: the next read tries again, and finds the key as known as before.
    source.fail(true);
    for _ in 0..10 {
        let error = a.cache.get(&40).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Load);
    }
    source.fail(false);
    pass(ms(1_000)).await;
    assert_eq!(a.get(40).await, Some(40));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_just_created_is_known_everywhere() {
    let (_bus, source, a, b) = limited(5).await;
    let mut keys = BAD..;
    attack(&b, &mut keys).await;
    let create = async {
        source.set(500, 1);
        Ok::<_, std::io::Error>(())
    };
    a.cache.write(&500, create).await.unwrap();
    pass(ms(1)).await;
    attack(&b, &mut keys).await;
    assert_eq!(b.get(500).await, Some(1));
    // Once it is gone, the load that finds out is the last that costs nothing.
    source.remove(500);
    a.cache.invalidate(&500).await.unwrap();
    pass(ms(1)).await;
    assert_eq!(b.get(500).await, None);
    pass(ms(6_000)).await;
    attack(&b, &mut keys).await;
    let error = b.cache.get(&500).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limited);
}

#[tokio::test(start_paused = true)]
async fn loads_that_fail_count_as_those_that_find_nothing() {
    let (_bus, source, a, _b) = limited(5).await;
    source.fail(true);
    for key in 0..5 {
        let error = a.cache.get(&key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Load);
    }
    let error = a.cache.get(&5).await.unwrap_err();
    assert_eq!((error.kind(), source.loads()), (ErrorKind::Limited, 5));
}

/// A batch loader, counted by calls and by keys.
#[derive(Default)]
struct Calls {
    batches: AtomicU64,
    keys: AtomicU64,
}

fn batches(instance: &Instance, calls: &Arc<Calls>) -> Cache<u64, u64> {
    let calls = calls.clone();
    instance
        .cache::<u64, u64>("rows")
        .batch_loader(move |keys: Vec<u64>| {
            calls.batches.fetch_add(1, SeqCst);
            calls.keys.fetch_add(keys.len() as u64, SeqCst);
            let found = keys.into_iter().filter(|key| *key < BAD);
            let found: Vec<(u64, u64)> = found.map(|key| (key, key)).collect();
            async move { Ok(found) }
        })
        .unknown_loads(10)
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_batch_begins_like_one_load_and_costs_what_it_did_not_find() {
    let instance = start_on(&LocalBus::default(), Settings::default())
        .await
        .unwrap();
    let calls = Arc::new(Calls::default());
    let cache = batches(&instance, &calls);
    let good: Vec<u64> = (0..1_000).collect();
    assert_eq!(cache.preload(&good).await.held, 1_000);
    let bad: Vec<u64> = (BAD..BAD + 30).collect();
    assert_eq!(cache.get_many(&bad).await.unwrap(), [None; 30]);
    assert_eq!(calls.batches.load(SeqCst), 2);
    // Two seconds of debt and a full bucket: meanwhile unknown keys are refused, known ones loaded.
    pass(ms(1_900)).await;
    cache.invalidate_all().await.unwrap();
    let mixed = [1, BAD + 100, 2, BAD + 101, 3];
    let error = cache.get_many(&mixed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limited);
    assert_eq!(calls.keys.load(SeqCst), 1_030 + 3);
    assert_eq!([1, 2, 3].map(|key| cache.peek(&key)), [1, 2, 3].map(Some));
    let refused = r#"unstale_loads_total{cache="rows",outcome="limited"}"#;
    assert_eq!(metric(&instance, refused), 2);
    pass(ms(200)).await;
    assert_eq!(cache.get_many(&mixed).await.unwrap()[1], None);
}

/// The limit protects the source. A value that the fleet has in Redis is still found there.
#[tokio::test(start_paused = true)]
async fn a_value_of_the_shared_tier_is_found_whatever_the_limit() {
    use crate::support::sharing::Node as Sharing;
    let mut settings = Settings::default();
    settings.unknown_loads = Some(5);
    let (bus, source) = (LocalBus::default(), Source::default());
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let instance = start_on(&bus, settings.clone()).await.unwrap();
        nodes.push(Sharing::of(instance, &source, unstale::SharedTier::new()));
        // Its first verification since the cache was built begins the record.
        pass(ms(1)).await;
    }
    let [a, b] = [&nodes[0], &nodes[1]];
    source.set(1, 10);
    source.set(2, 20);
    assert_eq!(a.get(1).await, Some(10));
    pass(ms(10)).await;
    for guess in 0..5 {
        assert_eq!(b.get(BAD + guess).await, None);
    }
    let loads = source.loads();
    let error = b.cache.get(&2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limited, "no instance has it");
    let found = b.cache.lookup(&1).await.unwrap();
    assert_eq!((found.value, found.outcome), (Some(10), Outcome::Tier));
    assert_eq!(source.loads(), loads);
}
