//! Why reads miss, and what is done ahead of a TTL.

use std::time::Duration;

use unstale::{Cache, CacheBuilder, ErrorKind, Outcome};

use crate::support::nodes::{Node, Source, get, ms, pair, pass};

fn miss(node: &Node, cause: &str) -> u64 {
    node.metric(&format!(
        r#"unstale_misses_total{{cache="rows",cause="{cause}"}}"#
    ))
}

#[tokio::test(start_paused = true)]
async fn every_miss_names_its_cause() {
    let (bus, source, _a, b) = pair().await;
    let again = async |key| assert_eq!(b.outcome(key).await, Outcome::Miss);
    for key in [1, 2, 3] {
        source.set(key, key);
    }
    b.cache.get_many(&[1, 2, 3, 4]).await.unwrap();
    assert_eq!(miss(&b, "cold"), 4);
    b.cache.invalidate(&1).await.unwrap();
    again(1).await;
    b.cache.invalidate_tag("tens-0").await.unwrap();
    again(2).await;
    b.cache.invalidate_all().await.unwrap();
    again(3).await;
    assert_eq!(miss(&b, "invalidated"), 3);
    bus.publish_raw(0, &b"garbage"[..]);
    pass(ms(1)).await;
    again(1).await;
    assert_eq!(miss(&b, "fenced"), 1);
    b.get(4).await;
    let negative = miss(&b, "negative");
    pass(ms(5_500)).await;
    again(4).await;
    assert_eq!(miss(&b, "negative"), negative + 1);
    pass(Duration::from_secs(70)).await;
    again(1).await;
    assert_eq!(miss(&b, "expired"), 1);
    bus.faults(1).cut();
    pass(ms(2_500)).await;
    again(1).await;
    assert_eq!(miss(&b, "unverified"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_miss_on_what_was_evicted_says_so() {
    let (_bus, source, a, _b) = pair().await;
    let small = rows(&a, "small")
        .capacity(100)
        .loader_of(&source)
        .build()
        .unwrap();
    for key in (0..300).chain(0..300) {
        source.set(key, key);
        small.get(&key).await.unwrap();
    }
    assert!(a.metric(r#"unstale_misses_total{cache="small",cause="evicted"}"#) > 50);
}

#[tokio::test(start_paused = true)]
async fn how_long_past_its_ttl_an_entry_was_found_is_observed() {
    let (_bus, source, a, _b) = pair().await;
    let unswept = rows(&a, "unswept")
        .reap_interval(None)
        .loader_of(&source)
        .build()
        .unwrap();
    let swept = rows(&a, "swept").loader_of(&source).build().unwrap();
    for cache in [&unswept, &swept] {
        source.set(1, 10);
        cache.get(&1).await.unwrap();
    }
    // Their TTL is 10 s.
    pass(ms(40_000)).await;
    for (cache, name) in [(&unswept, "unswept"), (&swept, "swept")] {
        assert_eq!(cache.lookup(&1).await.unwrap().outcome, Outcome::Miss);
        // In the bucket of 10 to 41 s, in which 30 s lie.
        let overage = |bound: &str| {
            let series = "unstale_expiry_overage_seconds_bucket";
            a.metric(&format!(r#"{series}{{cache="{name}",le="{bound}"}}"#))
        };
        let counts = ["10.24", "40.96", "+Inf"].map(overage);
        assert_eq!(counts, [0, 1, 1], "{name}");
    }
}

/// A cache of its own over the same rows, with a TTL of exactly 10 s.
pub(crate) fn rows(node: &Node, name: &str) -> CacheBuilder<u64, u64> {
    let cache = node.instance.cache::<u64, u64>(name);
    cache.ttl(ms(10_000)).ttl_jitter(0.0)
}

pub(crate) trait OverRows {
    fn loader_of(self, source: &Source) -> Self;
}

impl OverRows for CacheBuilder<u64, u64> {
    fn loader_of(self, source: &Source) -> Self {
        let source = source.clone();
        self.loader(move |key: u64| {
            let source = source.clone();
            async move { Ok(source.load(key).await?) }
        })
    }
}

/// Reads all the while, so that the lane stays verified.
pub(crate) async fn read_for(cache: &Cache<u64, u64>, time: Duration) {
    let end = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < end {
        assert_eq!(cache.lookup(&1).await.unwrap().outcome, Outcome::Hit);
        pass(ms(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hit_late_in_its_life_starts_one_reload_in_the_background() {
    let (_bus, source, a, _b) = pair().await;
    let cache = rows(&a, "ahead")
        .refresh_ahead(0.5)
        .loader_of(&source)
        .build()
        .unwrap();
    source.set(1, 10);
    cache.get(&1).await.unwrap();
    read_for(&cache, ms(5_000)).await;
    assert_eq!(source.loads(), 1);
    // This change is not published.
    source.set(1, 11);
    source.slow(ms(1_000));
    pass(ms(1)).await;
    for _ in 0..20 {
        assert_eq!(get(&cache, 1).await.unwrap().unwrap(), Some(10));
    }
    read_for(&cache, ms(900)).await;
    assert_eq!(source.loads(), 2);
    pass(ms(200)).await;
    assert_eq!(cache.get(&1).await.unwrap(), Some(11));
    // And this continues: no reader ever waits.
    read_for(&cache, ms(30_000)).await;
    assert_eq!(cache.stats().misses, 1);
    assert!(a.metric(r#"unstale_refreshes_total{cache="ahead"}"#) >= 5);
}

#[tokio::test(start_paused = true)]
async fn a_reload_ahead_loses_the_race_like_any_load() {
    let (_bus, source, a, b) = pair().await;
    let cache = rows(&a, "ahead")
        .refresh_ahead(0.5)
        .loader_of(&source)
        .build()
        .unwrap();
    let at_b = rows(&b, "ahead").loader_of(&source).build().unwrap();
    source.set(1, 10);
    cache.get(&1).await.unwrap();
    read_for(&cache, ms(5_100)).await;
    source.slow(ms(1_000));
    pass(ms(1_000)).await;
    cache.get(&1).await.unwrap();
    pass(ms(100)).await;
    source.set(1, 11);
    at_b.invalidate(&1).await.unwrap();
    pass(ms(1)).await;
    assert_eq!(cache.get(&1).await.unwrap(), Some(11));
    pass(ms(2_000)).await;
    assert_eq!(cache.peek(&1), Some(11));
}

#[tokio::test(start_paused = true)]
async fn a_reload_ahead_that_fails_changes_nothing() {
    let (_bus, source, a, _b) = pair().await;
    let cache = rows(&a, "ahead")
        .refresh_ahead(0.5)
        .loader_of(&source)
        .build()
        .unwrap();
    source.set(1, 10);
    cache.get(&1).await.unwrap();
    source.fail(true);
    read_for(&cache, ms(9_900)).await;
    assert!(source.loads() > 2);
    pass(ms(200)).await;
    assert_eq!(cache.get(&1).await.unwrap_err().kind(), ErrorKind::Load);
}
