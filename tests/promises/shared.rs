//! The shared tier: what one instance has loaded the others find in Redis, under the same promise.
//!
//! In process, under tokio's paused clock.

mod fleet;
mod held;
mod outage;
mod storm;

use std::time::Duration;

use unstale::{LocalBus, Outcome, Settings, SharedTier, testing};

use crate::support::nodes::{Source, metric, ms, pass};
use crate::support::sharing::Node;

/// Three instances on one bus, over one source in which row 1 is 10.
async fn three(shared: impl Fn() -> SharedTier<u64>) -> (LocalBus, Source, [Node; 3]) {
    let (bus, source) = (LocalBus::default(), Source::default());
    source.set(1, 10);
    let nodes = [
        Node::start(&bus, &source, shared()).await,
        Node::start(&bus, &source, shared()).await,
        Node::start(&bus, &source, shared()).await,
    ];
    (bus, source, nodes)
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_value_that_one_instance_has_loaded_is_found_by_the_others() {
    let (_bus, source, [a, b, c]) = three(SharedTier::new).await;
    assert_eq!(a.lookup(1).await.outcome, Outcome::Miss);
    pass(ms(1)).await;
    let found = b.lookup(1).await;
    assert_eq!((found.value, found.outcome), (Some(10), Outcome::Tier));
    assert_eq!(b.outcome(1).await, Outcome::Hit);
    assert_eq!(c.cache.get_many(&[1]).await.unwrap(), [Some(10)]);
    assert_eq!(source.loads(), 1);
    assert_eq!((a.stores("stored"), b.reads("found")), (1, 1));
    assert!(b.bytes() > 0);
}

#[tokio::test(start_paused = true)]
async fn an_absence_that_one_instance_has_loaded_is_found_too() {
    let (_bus, source, [a, b, _]) = three(SharedTier::new).await;
    assert_eq!(a.get(7).await, None);
    pass(ms(1)).await;
    assert_eq!(b.lookup(7).await.outcome, Outcome::Tier);
    assert_eq!(b.outcome(7).await, Outcome::Negative);
    assert_eq!(source.loads(), 1);
    // As long as in memory, and no longer.
    pass(5 * SECOND).await;
    assert_eq!(b.lookup(7).await.outcome, Outcome::Miss);
}

#[tokio::test(start_paused = true)]
async fn a_value_ends_everywhere_when_it_ends_where_it_was_loaded() {
    let (_bus, source, [a, b, _]) = three(SharedTier::new).await;
    a.get(1).await;
    pass(50 * SECOND).await;
    let found = b.lookup(1).await;
    assert_eq!(found.outcome, Outcome::Tier);
    assert!(found.age >= 50 * SECOND, "{:?}", found.age);
    // 60 s since the load, not since it was found.
    pass(10 * SECOND).await;
    source.set(1, 11);
    assert_eq!(b.get(1).await, Some(11));
    assert_eq!(source.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn with_a_longer_life_in_redis_memory_is_renewed_from_there_until_that_ends() {
    let (_bus, source, [a, _, _]) = three(|| SharedTier::new().ttl(150 * SECOND)).await;
    assert_eq!(a.outcome(1).await, Outcome::Miss);
    for _ in 0..2 {
        pass(60 * SECOND).await;
        assert_eq!(a.outcome(1).await, Outcome::Tier);
    }
    pass(29 * SECOND).await;
    assert_eq!(a.outcome(1).await, Outcome::Hit);
    pass(SECOND).await;
    assert_eq!(a.outcome(1).await, Outcome::Miss);
    assert_eq!(source.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_that_came_with_the_value_is_never_outlived() {
    let bus = LocalBus::default();
    let mut caches = Vec::new();
    for _ in 0..2 {
        let instance = testing::start_on(&bus, Settings::default()).await.unwrap();
        let cache = instance
            .cache::<String, u64>("tokens")
            .ttl(600 * SECOND)
            .tier(SharedTier::new().ttl(900 * SECOND))
            .build()
            .unwrap();
        caches.push((instance, cache));
    }
    pass(ms(1)).await;
    let token = |n: u64| async move { Ok(unstale::Loaded::new(n).ttl(120 * SECOND)) };
    let key = "corp".to_owned();
    assert_eq!(caches[0].1.get_with(&key, token(1)).await.unwrap(), Some(1));
    pass(100 * SECOND).await;
    assert_eq!(caches[1].1.get_with(&key, token(2)).await.unwrap(), Some(1));
    pass(20 * SECOND).await;
    assert_eq!(caches[1].1.get_with(&key, token(3)).await.unwrap(), Some(3));
}

#[tokio::test(start_paused = true)]
async fn the_same_bytes_are_not_sent_again() {
    let (bus, source) = (LocalBus::default(), Source::default());
    source.set(1, 10);
    // 8,000 bytes for one number.
    let wide = || {
        SharedTier::projection(
            |n: &u64| {
                vec![*n; 1_000]
                    .iter()
                    .flat_map(|n| n.to_be_bytes())
                    .collect::<Vec<u8>>()
            },
            |bytes: Vec<u8>| bytes.first_chunk().map_or(0, |b| u64::from_be_bytes(*b)),
        )
        .compress_above(usize::MAX)
    };
    let a = Node::start(&bus, &source, wide()).await;
    a.get(1).await;
    pass(ms(1)).await;
    let first = a.bytes();
    assert!(first > 8_000);
    // Invalidated, and read again after its TTL: the row is the same both times.
    for wait in [ms(1), 61 * SECOND] {
        a.cache.invalidate(&1).await.unwrap();
        pass(wait).await;
        assert_eq!(a.outcome(1).await, Outcome::Miss);
        pass(ms(1)).await;
    }
    assert_eq!((a.stores("stored"), a.stores("unchanged")), (1, 2));
    assert!(a.bytes() - first < 1_000, "{} bytes", a.bytes() - first);
    // Another value is another matter, and the value that was renewed is served.
    let b = Node::start(&bus, &source, wide()).await;
    assert_eq!(b.outcome(1).await, Outcome::Tier);
    source.set(1, 1 << 56);
    b.cache.invalidate(&1).await.unwrap();
    assert_eq!(a.get(1).await, Some(1 << 56));
    pass(ms(1)).await;
    assert_eq!(a.stores("stored"), 2);
}

#[tokio::test(start_paused = true)]
async fn another_version_or_secret_is_a_miss_and_never_an_error() {
    let (bus, source) = (LocalBus::default(), Source::default());
    source.set(1, 10);
    let secret = |secret: &str| {
        let mut settings = Settings::default();
        settings.tier_secret = Some(secret.to_owned());
        settings
    };
    let old = Node::start(&bus, &source, SharedTier::new().version(1)).await;
    let new = Node::start(&bus, &source, SharedTier::new().version(2)).await;
    let (one, two) = (secret("one secret of many"), secret("another secret"));
    assert!(two.validate().is_err(), "14 bytes");
    let mut two = two;
    two.tier_secret = Some("another secret of many".to_owned());
    let one = Node::with(&bus, &source, SharedTier::new(), one).await;
    let two = Node::with(&bus, &source, SharedTier::new(), two).await;
    old.get(1).await;
    pass(ms(1)).await;
    for (node, missed) in [(&new, "foreign"), (&one, "missing"), (&two, "missing")] {
        assert_eq!(node.outcome(1).await, Outcome::Miss);
        assert_eq!(node.reads(missed), 1, "{missed}");
        pass(ms(1)).await;
    }
    assert_eq!(source.loads(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_too_large_or_cannot_be_written_stays_in_memory() {
    let (bus, source) = (LocalBus::default(), Source::default());
    source.set(1, 10);
    source.set(2, 20);
    let fussy = SharedTier::projection(
        |n: &u64| {
            assert_ne!(*n, 20, "the program's own bug");
            "x".repeat(100)
        },
        |_: String| 0,
    );
    let a = Node::start(&bus, &source, fussy.whole_where_loaded().max_bytes(100)).await;
    for key in [1, 2] {
        assert_eq!(a.get(key).await, Some(key * 10));
        pass(ms(1)).await;
        assert_eq!(a.outcome(key).await, Outcome::Hit);
    }
    assert_eq!((a.stores("oversized"), a.stores("broken")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_verifies_before_it_finds_a_value() {
    let (_bus, source, [a, b, _]) = three(SharedTier::new).await;
    a.get(1).await;
    // Its last verification is older than the bound by now, at some of these times.
    for n in 0..6 {
        pass(8 * SECOND + n * ms(500)).await;
        source.set(1, 10);
        let found = b.cache.get_with(&1, async { Ok(99) });
        assert_eq!(found.await.unwrap(), Some(10));
        if n == 0 {
            assert_eq!(b.reads("found"), 1);
        }
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_turn_the_tier_off() {
    let (bus, source) = (LocalBus::default(), Source::default());
    let vars = [("UNSTALE_TIER".to_owned(), "off".to_owned())];
    let settings = Settings::from_vars(vars).unwrap();
    let a = Node::with(&bus, &source, SharedTier::new(), settings).await;
    a.get(1).await;
    assert_eq!((a.bytes(), a.reads("missing")), (0, 0));
}

/// Two keys with one hash, and so with one name in Redis.
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
async fn a_key_is_never_served_the_value_of_another_with_its_name() {
    let bus = LocalBus::default();
    let mut caches = Vec::new();
    for _ in 0..2 {
        let instance = testing::start_on(&bus, Settings::default()).await.unwrap();
        let cache = instance
            .cache::<Twin, u64>("twins")
            .tier(SharedTier::new())
            .loader(|twin: Twin| async move { Ok(twin.0) })
            .build()
            .unwrap();
        caches.push((instance, cache));
    }
    pass(ms(1)).await;
    for twin in [1, 2, 1, 2] {
        for (_, cache) in &caches {
            assert_eq!(cache.get(&Twin(twin)).await.unwrap(), Some(twin));
            pass(ms(1)).await;
        }
    }
    let foreign = r#"unstale_shared_reads_total{cache="twins",outcome="foreign"}"#;
    assert!(metric(&caches[0].0, foreign) + metric(&caches[1].0, foreign) > 0);
}
