//! Redis is slow or away: instances go on from memory and their loaders.

use std::time::Duration;

use tokio::time::Instant;
use unstale::{LocalBus, Outcome, Settings, SharedTier, testing};

use super::{SECOND, three};
use crate::support::nodes::{Source, metric, ms, pass};
use crate::support::sharing::Node;

const TRIPS: &str = "unstale_shared_trips_total";
const BROKEN: &str = "unstale_shared_broken";

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_cut_costs_a_read_nothing() {
    let (bus, source, [a, _, _]) = three(SharedTier::new).await;
    bus.faults(0).cut();
    let began = Instant::now();
    for key in 1..50 {
        source.set(key, key);
        assert_eq!(a.get(key).await, Some(key));
    }
    assert_eq!(began.elapsed(), ms(0));
    assert_eq!(a.reads("missing") + a.reads("failed"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_redis_costs_a_few_short_waits_and_then_none_until_it_is_back() {
    let (bus, source, [a, b, _]) = three(SharedTier::new).await;
    b.get(1).await;
    pass(ms(1)).await;
    // Verified a moment ago, so that the tier is asked.
    bus.faults(0).silence();
    let began = Instant::now();
    for key in 100..150 {
        source.set(key, key);
        assert_eq!(a.get(key).await, Some(key));
    }
    let waited = began.elapsed();
    assert!(waited >= ms(100) && waited <= ms(600), "{waited:?}");
    assert_eq!(a.reads("failed"), 5);
    assert_eq!(metric(&a.instance, TRIPS), 1);
    assert_eq!(metric(&a.instance, BROKEN), 1);
    bus.faults(0).heal();
    pass(3 * SECOND).await;
    // The probe finds it, and closes the breaker.
    assert_eq!(a.outcome(1).await, Outcome::Tier);
    pass(SECOND).await;
    assert_eq!(metric(&a.instance, BROKEN), 0);
}

#[tokio::test(start_paused = true)]
async fn many_reads_of_a_silent_redis_at_once_open_the_breaker_once() {
    let (bus, source, [a, _, _]) = three(SharedTier::new).await;
    let keys: Vec<u64> = (100..700).collect();
    for key in &keys {
        source.set(*key, *key);
    }
    bus.faults(0).silence();
    let began = Instant::now();
    let readers: Vec<_> = keys.iter().map(|key| a.spawn(*key)).collect();
    for (reader, key) in readers.into_iter().zip(&keys) {
        assert_eq!(reader.await.unwrap().value, Some(*key));
    }
    // 32 ask, the others wait for their turn and learn from them.
    assert!(began.elapsed() <= ms(150), "{:?}", began.elapsed());
    pass(SECOND).await;
    assert_eq!(metric(&a.instance, TRIPS), 1);
    assert_eq!((a.reads("failed"), a.reads("skipped")), (32, 600 - 32));
}

#[tokio::test(start_paused = true)]
async fn a_value_is_as_fresh_as_the_verification_and_not_as_of_when_it_was_found() {
    let (bus, source) = (LocalBus::default(), Source::default());
    source.set(1, 10);
    let mut settings = Settings::default();
    settings.verify_interval = ms(900);
    let a = Node::with(&bus, &source, SharedTier::new(), settings.clone()).await;
    let b = Node::with(&bus, &source, SharedTier::new(), settings).await;
    a.get(1).await;
    let verified = || b.instance.health().verified_age[0].unwrap();
    while verified() < ms(800) {
        pass(ms(10)).await;
    }
    // Loaded just now, long after B was verified.
    a.cache.invalidate(&1).await.unwrap();
    a.get(1).await;
    pass(ms(1)).await;
    assert_eq!(b.outcome(1).await, Outcome::Tier);
    // From here on B hears nothing; row 1 changes.
    bus.faults(1).silence();
    source.set(1, 11);
    a.cache.invalidate(&1).await.unwrap();
    pass(2 * SECOND - verified()).await;
    assert_eq!(b.outcome(1).await, Outcome::Hit);
    pass(ms(10)).await;
    assert_eq!(b.get(1).await, Some(11));
}

#[tokio::test(start_paused = true)]
async fn without_a_record_everything_is_loaded_until_a_verification_begins_one() {
    let (bus, source, [a, b, _]) = three(SharedTier::new).await;
    a.get(1).await;
    pass(ms(1)).await;
    bus.drop_tier();
    assert_eq!(b.outcome(1).await, Outcome::Miss);
    assert_eq!(b.reads("refused"), 1);
    pass(SECOND).await;
    source.set(2, 20);
    b.get(2).await;
    pass(ms(1)).await;
    assert_eq!(a.outcome(2).await, Outcome::Tier);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_the_fleet_that_no_clock_holds_is_refused_when_the_cache_is_built() {
    let bus = LocalBus::default();
    let instance = testing::start_on(&bus, Settings::default()).await.unwrap();
    for (wait, fits) in [
        (Duration::ZERO, false),
        (ms(1), true),
        (Duration::from_secs(3_600), true),
        (Duration::from_secs(3_601), false),
        (Duration::from_millis(u64::MAX), false),
        (Duration::MAX, false),
    ] {
        let cache = instance
            .cache::<u64, u64>("waits")
            .loader(|key: u64| async move { Ok(key) })
            .tier(SharedTier::new().fleet_single_flight(wait))
            .build();
        match cache {
            Ok(cache) => assert!(fits && cache.get(&1).await.unwrap() == Some(1), "{wait:?}"),
            Err(error) => {
                assert!(!fits, "{wait:?}: {error}");
                assert!(error.to_string().contains("fleet_single_flight"), "{error}");
            }
        }
    }
}
