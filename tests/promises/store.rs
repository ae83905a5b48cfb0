//! What a cache keeps, for how long at most, and how much of it.

use std::time::Duration;

use unstale::Outcome;
use unstale::{Cache, CacheBuilder, Instance, Loaded, LocalBus, Settings};

use crate::support::nodes::{alone, metric, ms, pass};

/// A cache whose values are their keys, and that serves them without a verification, so that a
/// test may look without keeping the instance busy. Keys from 1,000,000 do not exist.
pub(crate) fn plain(instance: &Instance) -> CacheBuilder<u64, u64> {
    instance
        .cache::<u64, u64>("plain")
        .max_staleness(None)
        .ttl_jitter(0.0)
        .loader(|key: u64| async move { Ok((key < 1_000_000).then_some(key)) })
}

async fn fill(cache: &Cache<u64, u64>, keys: std::ops::Range<u64>) {
    for key in keys {
        cache.get(&key).await.unwrap();
    }
}

fn held(cache: &Cache<u64, u64>, keys: std::ops::Range<u64>) -> usize {
    keys.filter(|key| cache.peek(key).is_some()).count()
}

#[tokio::test(start_paused = true)]
async fn an_entry_lives_exactly_its_ttl_without_jitter() {
    let (_bus, instance) = alone().await;
    let cache = plain(&instance).ttl(ms(10_000)).build().unwrap();
    fill(&cache, 0..1).await;
    pass(ms(9_999)).await;
    assert_eq!(cache.peek(&0), Some(0));
    pass(ms(1)).await;
    assert_eq!(cache.peek(&0), None);
}

#[tokio::test(start_paused = true)]
async fn jitter_shortens_a_ttl_and_never_prolongs_it() {
    let (_bus, instance) = alone().await;
    let cache = plain(&instance)
        .ttl(ms(10_000))
        .ttl_jitter(0.5)
        .build()
        .unwrap();
    fill(&cache, 0..400).await;
    pass(ms(4_999)).await;
    assert_eq!(held(&cache, 0..400), 400);
    pass(ms(2_501)).await;
    let left = held(&cache, 0..400);
    assert!(
        (120..280).contains(&left),
        "{left} of 400 at three quarters"
    );
    pass(ms(2_500)).await;
    assert_eq!(held(&cache, 0..400), 0);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_that_comes_with_a_value_replaces_the_caches() {
    let (_bus, instance) = alone().await;
    let cache = plain(&instance)
        .ttl(ms(10_000))
        .loader(|key: u64| async move { Ok(Loaded::new(key).ttl(ms(key))) })
        .build()
        .unwrap();
    cache.get_many(&[5_000, 20_000]).await.unwrap();
    pass(ms(4_999)).await;
    assert_eq!(cache.peek(&5_000), Some(5_000));
    pass(ms(1)).await;
    assert_eq!(
        (cache.peek(&5_000), cache.peek(&20_000)),
        (None, Some(20_000))
    );
    pass(ms(14_999)).await;
    assert_eq!(cache.peek(&20_000), Some(20_000));
    pass(ms(1)).await;
    assert_eq!(cache.peek(&20_000), None);
}

#[tokio::test(start_paused = true)]
async fn an_absence_is_remembered_for_the_negative_ttl() {
    let (_bus, instance) = alone().await;
    let cache = plain(&instance).negative_ttl(ms(3_000)).build().unwrap();
    let outcome = async || cache.lookup(&1_000_000).await.unwrap().outcome;
    assert_eq!(outcome().await, Outcome::Miss);
    pass(ms(2_999)).await;
    assert_eq!(
        (outcome().await, cache.peek(&1_000_000)),
        (Outcome::Negative, None)
    );
    pass(ms(1)).await;
    assert_eq!(outcome().await, Outcome::Miss);
    let nothing = instance
        .cache::<u64, u64>("nothing")
        .negative_ttl(Duration::ZERO)
        .loader(|_| async { Ok(None) })
        .build()
        .unwrap();
    for _ in 0..2 {
        assert_eq!(nothing.lookup(&1).await.unwrap().outcome, Outcome::Miss);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_pushes_nothing_out_that_exists() {
    let (_bus, instance) = alone().await;
    let cache = plain(&instance).capacity(1_000).build().unwrap();
    fill(&cache, 0..600).await;
    fill(&cache, 1_000_000..1_010_000).await;
    assert_eq!(held(&cache, 0..600), 600);
    let entries = cache.stats().entries;
    assert!(
        (1_500..=1_600).contains(&entries),
        "{entries}: as many as the capacity for what does not exist"
    );
    let few = instance
        .cache::<u64, u64>("few")
        .loader(|_| async { Ok(None) })
        .negative_capacity(100)
        .build()
        .unwrap();
    fill(&few, 0..1_000).await;
    let entries = few.stats().entries;
    assert!((90..=100).contains(&entries), "{entries}");
}

#[tokio::test(start_paused = true)]
async fn a_full_cache_evicts_and_stays_within_its_capacity() {
    let (_bus, instance) = alone().await;
    let cache = plain(&instance).capacity(1_000).build().unwrap();
    for keys in [0..500, 500..1_000, 1_000..5_000] {
        fill(&cache, keys).await;
        assert!(cache.stats().entries <= 1_000);
    }
    let (entries, evictions) = (cache.stats().entries, cache.stats().evictions);
    assert!(entries >= 900, "{entries}");
    assert_eq!(entries + evictions, 5_000);
    assert_eq!(held(&cache, 0..5_000) as u64, entries);
    assert_eq!(
        metric(&instance, r#"unstale_evictions_total{cache="plain"}"#),
        evictions
    );
    assert_eq!(
        metric(&instance, r#"unstale_entries{cache="plain"}"#),
        entries
    );
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_and_what_is_too_large_is_served_but_not_stored() {
    const WEIGHT: &str = r#"unstale_weight_bytes{cache="plain"}"#;
    let (_bus, instance) = alone().await;
    // A value is its own weight.
    let cache = plain(&instance)
        .max_bytes(100_000)
        .weigher(|_, value| *value)
        .build()
        .unwrap();
    for key in 1_000..2_000 {
        cache.get(&key).await.unwrap();
        let weight = metric(&instance, WEIGHT);
        assert!(weight <= 100_000, "{weight}");
    }
    let held: u64 = (1_000..2_000).filter_map(|key| cache.peek(&key)).sum();
    assert_eq!(metric(&instance, WEIGHT), held);
    assert!(held >= 80_000, "{held}: too little is kept");
    for _ in 0..2 {
        assert_eq!(cache.get(&200_000).await.unwrap(), Some(200_000));
    }
    assert_eq!(cache.peek(&200_000), None);
    assert_eq!(
        metric(&instance, r#"unstale_oversized_total{cache="plain"}"#),
        2
    );
    // Every way out of the store takes the bytes along: by key, and by the reaper.
    let kept: Vec<u64> = (1_000..2_000)
        .filter(|key| cache.peek(key).is_some())
        .collect();
    let (half, rest) = kept.split_at(kept.len() / 2);
    cache.invalidate_many(half).await.unwrap();
    assert_eq!(metric(&instance, WEIGHT), rest.iter().sum::<u64>());
    cache.invalidate_all().await.unwrap();
    pass(ms(2_500)).await;
    assert_eq!((cache.stats().entries, metric(&instance, WEIGHT)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_reaper_frees_entries_that_are_not_read_and_can_be_off() {
    let (_bus, instance) = alone().await;
    let swept = plain(&instance)
        .ttl(ms(5_000))
        .negative_ttl(ms(2_000))
        .build()
        .unwrap();
    fill(&swept, 0..100).await;
    fill(&swept, 1_000_000..1_000_010).await;
    assert_eq!(swept.stats().entries, 110);
    pass(ms(3_500)).await;
    assert_eq!(swept.stats().entries, 100);
    pass(ms(3_000)).await;
    assert_eq!(swept.stats().entries, 0);
    assert_eq!(
        metric(&instance, r#"unstale_reaped_total{cache="plain"}"#),
        110
    );
    // Long before their TTL: what an invalidation of everything has left behind.
    fill(&swept, 0..100).await;
    swept.invalidate_all().await.unwrap();
    pass(ms(2_500)).await;
    assert_eq!(swept.stats().entries, 0);
    drop(swept);
    let kept = plain(&instance)
        .ttl(ms(5_000))
        .reap_interval(None)
        .build()
        .unwrap();
    fill(&kept, 0..100).await;
    pass(ms(60_000)).await;
    assert_eq!((kept.stats().entries, held(&kept, 0..100)), (100, 0));
}

#[tokio::test]
async fn blocking_code_may_peek_and_invalidate() {
    let instance = Instance::start_on(&LocalBus::default(), Settings::default())
        .await
        .unwrap();
    let cache = plain(&instance).build().unwrap();
    fill(&cache, 0..1).await;
    let blocking = std::thread::spawn({
        let cache = cache.clone();
        move || {
            let before = cache.peek(&0);
            let published = cache.invalidate(&0);
            (before, cache.peek(&0), published)
        }
    });
    let (before, after, published) = blocking.join().unwrap();
    assert_eq!((before, after), (Some(0), None));
    published.await.unwrap();
    assert_eq!(
        (cache.stats().hits, cache.stats().misses),
        (1, 1),
        "a peek loads nothing"
    );
}

/// Keys that have one hash, as an attacker may choose them.
#[derive(Clone, PartialEq, Eq)]
struct Twin(u64);

impl unstale::Key for Twin {
    fn encode(&self, out: &mut unstale::KeyEncoder) {
        self.0.encode(out);
    }

    fn digest(&self) -> Option<u64> {
        Some(7)
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_never_served_the_value_of_another_with_its_hash() {
    let (_bus, instance) = crate::support::nodes::alone().await;
    let twins = instance
        .cache::<Twin, u64>("twins")
        .loader(|twin: Twin| async move { Ok((twin.0 < 10).then_some(twin.0)) })
        .build()
        .unwrap();
    // Values and absences, each after each.
    for twin in [1, 2, 1, 1, 11, 12, 1, 11, 2, 2] {
        let value = twins.get(&Twin(twin)).await.unwrap();
        assert_eq!(value, (twin < 10).then_some(twin), "{twin}");
    }
    assert_eq!(twins.stats().hits, 2, "the same key twice");
}

#[tokio::test(start_paused = true)]
async fn absences_of_long_keys_take_a_tenth_of_the_bytes_at_most() {
    let (_bus, instance) = alone().await;
    let cache = instance
        .cache::<String, u64>("names")
        .capacity(100_000)
        .max_bytes(1_000_000)
        .weigher(|key, _| key.len() as u64)
        .loader(|_: String| async { Ok(None) })
        .build()
        .unwrap();
    for n in 0..1_000 {
        assert_eq!(cache.get(&format!("{n:01000}")).await.unwrap(), None);
    }
    let entries = cache.stats().entries;
    assert!(
        (1..=100).contains(&entries),
        "{entries} keys of 1,000 bytes"
    );
    let weight = metric(&instance, r#"unstale_weight_bytes{cache="names"}"#);
    assert!((entries * 1_000..=100_000).contains(&weight), "{weight}");
    cache.invalidate_all().await.unwrap();
    pass(ms(3_000)).await;
    assert_eq!(
        metric(&instance, r#"unstale_weight_bytes{cache="names"}"#),
        0
    );
}
