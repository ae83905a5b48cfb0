//! One load for the whole fleet.

use unstale::{ErrorKind, Outcome, SharedTier};

use super::{SECOND, three};
use crate::support::nodes::{ms, pass};
use crate::support::sharing::Node;

fn alone() -> SharedTier<u64> {
    SharedTier::new().fleet_single_flight(2 * SECOND)
}

#[tokio::test(start_paused = true)]
async fn fifty_callers_on_two_instances_are_one_load() {
    let (_bus, source, [a, b, c]) = three(alone).await;
    source.slow(ms(300));
    let callers: Vec<_> = (0..50)
        .map(|n| if n % 2 == 0 { a.spawn(1) } else { b.spawn(1) })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().value, Some(10));
    }
    assert_eq!(source.loads(), 1);
    pass(SECOND).await;
    assert_eq!(c.outcome(1).await, Outcome::Tier);
    assert_eq!(a.waits("found") + b.waits("found"), 1);
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_one_instance_is_not_shared_with_others() {
    let (_bus, source, [a, b, _]) = three(alone).await;
    source.slow(ms(100));
    source.fail(true);
    let (one, other) = (a.cache.clone(), b.cache.clone());
    let (one, other) = tokio::join!(one.get(&1), async {
        pass(ms(10)).await;
        // It waits for A's load, and tries itself once that has failed.
        let failed = other.get(&1).await;
        (failed, source.loads())
    });
    assert_eq!(one.unwrap_err().kind(), ErrorKind::Load);
    assert_eq!(other.0.unwrap_err().kind(), ErrorKind::Load);
    assert_eq!(other.1, 2);
    assert_eq!(b.waits("led"), 1);
    // No read is kept waiting by what has failed.
    source.fail(false);
    pass(ms(1_000)).await;
    assert_eq!(a.get(1).await, Some(10));
    assert_eq!(source.loads(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_dies_costs_the_others_the_bounded_wait_at_most() {
    let (bus, source, [a, b, _]) = three(alone).await;
    source.slow(60 * SECOND);
    let stuck = a.spawn(1);
    pass(ms(10)).await;
    // It ends without a goodbye.
    bus.faults(0).cut();
    source.slow(ms(0));
    let began = tokio::time::Instant::now();
    assert_eq!(b.get(1).await, Some(10));
    let waited = began.elapsed();
    assert!(
        waited >= SECOND && waited <= 2 * SECOND + ms(100),
        "{waited:?}"
    );
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn no_read_waits_for_a_load_that_began_before_an_invalidation() {
    let (_bus, source, [a, b, _]) = three(alone).await;
    source.slow(SECOND);
    let old = a.spawn(1);
    pass(ms(10)).await;
    source.set(1, 11);
    source.slow(ms(50));
    b.cache.invalidate(&1).await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(b.get(1).await, Some(11));
    assert!(began.elapsed() < ms(100), "{:?}", began.elapsed());
    assert_eq!(old.await.unwrap().value, Some(10));
    pass(ms(1)).await;
    assert_eq!(a.get(1).await, Some(11));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_due_is_refreshed_once_for_all() {
    use unstale::{LocalBus, Settings};

    let (bus, source) = (
        LocalBus::default(),
        crate::support::nodes::Source::default(),
    );
    source.set(1, 10);
    let mut settings = Settings::default();
    settings.refresh_ahead = Some(unstale::RefreshAhead::Share(0.5));
    let a = Node::with(&bus, &source, alone(), settings.clone()).await;
    let b = Node::with(&bus, &source, alone(), settings).await;
    a.get(1).await;
    pass(ms(1)).await;
    assert_eq!(b.outcome(1).await, Outcome::Tier);
    pass(31 * SECOND).await;
    source.slow(ms(20));
    source.set(1, 11);
    // Both are past half of its life; the second finds what the first has loaded.
    for node in [&a, &b] {
        assert_eq!(node.outcome(1).await, Outcome::Hit);
    }
    pass(SECOND).await;
    for node in [&a, &b] {
        assert_eq!(node.get(1).await, Some(11));
    }
    assert_eq!(source.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_first_callers_of_a_fleet_that_has_just_started_are_one_load() {
    use unstale::{LocalBus, Settings, testing};

    let (bus, source) = (
        LocalBus::default(),
        crate::support::nodes::Source::default(),
    );
    source.set(1, 10);
    source.slow(ms(300));
    let a = testing::start_on(&bus, Settings::default()).await.unwrap();
    let b = testing::start_on(&bus, Settings::default()).await.unwrap();
    // Nothing has been verified since: the lane has no record yet, and no instance could claim a load.
    let (a, b) = (Node::of(a, &source, alone()), Node::of(b, &source, alone()));
    let (one, other) = tokio::join!(a.get(1), b.get(1));
    assert_eq!((one, other), (Some(10), Some(10)));
    assert_eq!(source.loads(), 1);
    // A Redis that does not answer costs one short wait.
    pass(SECOND).await;
    bus.faults(0).silence();
    source.set(2, 20);
    source.slow(ms(0));
    let began = tokio::time::Instant::now();
    assert_eq!(a.get(2).await, Some(20));
    assert!(began.elapsed() <= ms(510), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_read_that_finds_no_place_in_the_queue_loads_by_itself() {
    use unstale::{LocalBus, Settings};

    let (bus, source) = (
        LocalBus::default(),
        crate::support::nodes::Source::default(),
    );
    let mut settings = Settings::default();
    settings.max_loads = 1_000;
    let a = Node::with(&bus, &source, alone(), settings.clone()).await;
    let b = Node::with(&bus, &source, alone(), settings).await;
    source.slow(ms(500));
    let keys: Vec<u64> = (0..600).collect();
    for key in &keys {
        source.set(*key, key + 1);
    }
    let first: Vec<_> = keys.iter().map(|key| a.spawn(*key)).collect();
    pass(ms(100)).await;
    assert_eq!(source.loads(), 600);
    let second: Vec<_> = keys.iter().map(|key| b.spawn(*key)).collect();
    for (key, reader) in keys
        .iter()
        .chain(&keys)
        .zip(first.into_iter().chain(second))
    {
        assert_eq!(reader.await.unwrap().value, Some(key + 1));
    }
    assert_eq!((b.waits("found"), b.waits("gave_up")), (512, 88));
    assert_eq!(source.loads(), 688);
    // The places are free again.
    source.set(700, 1);
    let (one, other) = (a.spawn(700), b.spawn(700));
    assert_eq!(one.await.unwrap().value, other.await.unwrap().value);
    assert_eq!(source.loads(), 689);
}

#[tokio::test(start_paused = true)]
async fn a_slow_redis_does_not_make_one_load_two() {
    let (bus, source, [a, b, _]) = three(alone).await;
    source.slow(ms(300));
    // A read without a claim would not wait so long for an answer.
    for number in 0..2 {
        bus.faults(number).slow(ms(100), ms(100));
    }
    let (one, other) = (a.spawn(1), b.spawn(1));
    assert_eq!(one.await.unwrap().value, Some(10));
    assert_eq!(other.await.unwrap().value, Some(10));
    assert_eq!(source.loads(), 1);
}
