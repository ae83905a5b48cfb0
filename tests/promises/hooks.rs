//! A program hears of every invalidation that its instance applies, and of what may have been missed.

use std::time::Duration;

use tokio::time::timeout;
use unstale::{Invalidation, Invalidations, KeyHash, Scope, Settings, TagHash};

use crate::support::nodes::{Node, Source, ms, pair, pair_with, pass};

/// Longer than any wait of a fleet on the paused clock.
const PATIENCE: Duration = Duration::from_secs(60);

async fn next(reported: &mut Invalidations) -> Option<Invalidation> {
    let next = timeout(PATIENCE, reported.next()).await;
    next.expect("something is reported in time")
}

async fn nothing(reported: &mut Invalidations) {
    let next = timeout(ms(5_000), reported.next()).await;
    assert!(next.is_err(), "{next:?}");
}

fn key(key: u64) -> Scope {
    Scope::Key(KeyHash::of(&key).unwrap())
}

#[tokio::test(start_paused = true)]
async fn own_and_remote_invalidations_are_reported_once_with_their_origin() {
    let (_bus, _source, a, b) = pair().await;
    let mut reported = [a.cache.invalidations(), b.instance.invalidations()];
    a.cache.invalidate(&7).await.unwrap();
    let [own, others] = &mut reported;
    let (own, others) = (next(own).await.unwrap(), next(others).await.unwrap());
    for it in [&own, &others] {
        assert_eq!((it.scope, it.cache.as_deref()), (key(7), Some("rows")));
        assert_eq!(it.origin, Some(a.instance.id()));
        assert!(it.concerns(&7_u64, &[]) && !it.concerns(&8_u64, &["tens-0"]));
    }
    assert_eq!(
        own.sequence, None,
        "it was reported before it was published"
    );
    assert!(
        others.sequence.is_some() && others.epoch.is_some(),
        "{others:?}"
    );

    a.cache.invalidate_tag("tens-1").await.unwrap();
    a.cache.invalidate_all().await.unwrap();
    for reported in &mut reported {
        let tag = next(reported).await.unwrap();
        assert_eq!(tag.scope, Scope::Tag(TagHash::of("tens-1")));
        assert!(tag.concerns(&10_u64, &["tens-1"]) && !tag.concerns(&20_u64, &["tens-2"]));
        assert_eq!(next(reported).await.unwrap().scope, Scope::Cache);
        nothing(reported).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_is_reported_when_reads_follow_it() {
    let (_bus, source, a, b) = pair().await;
    source.set(1, 10);
    assert_eq!(b.get(1).await, Some(10));
    let mut reported = b.cache.invalidations();
    source.set(1, 11);
    a.cache.invalidate(&1).await.unwrap();
    assert_eq!(next(&mut reported).await.unwrap().scope, key(1));
    assert_eq!(b.get(1).await, Some(11));
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_is_reported_from_the_journal_or_as_a_lane() {
    let (bus, _source, a, b) = pair().await;
    let mut reported = b.cache.invalidations();
    bus.faults(1).lose_next(1);
    a.cache.invalidate(&7).await.unwrap();
    assert_eq!(next(&mut reported).await.unwrap().scope, key(7));

    bus.faults(1).lose_next(1);
    a.cache.invalidate(&8).await.unwrap();
    bus.drop_journal();
    let lane = next(&mut reported).await.unwrap();
    assert_eq!(
        lane.scope,
        Scope::Lane {
            lane: 0,
            why: "gap"
        }
    );
    assert_eq!((lane.cache.as_deref(), lane.origin), (None, None));
    assert!(lane.concerns(&8_u64, &[]));
    nothing(&mut reported).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lane_concerns_its_own_keys_only() {
    let mut settings = Settings::default();
    settings.lanes = 2;
    let (bus, _source, a, b) = pair_with(settings).await;
    let mut reported = b.instance.invalidations();
    bus.faults(1).lose_next(1);
    a.cache.invalidate(&8).await.unwrap();
    bus.drop_journal();
    let lane = next(&mut reported).await.unwrap();
    assert!(
        matches!(lane.scope, Scope::Lane { why: "gap", .. }),
        "{lane}"
    );
    let concerned = (0..100_u64).filter(|key| lane.concerns(key, &[])).count();
    assert!(lane.concerns(&8_u64, &[]) && (20..80).contains(&concerned));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_lags_learns_it_once_and_holds_nothing_up() {
    let (_bus, source, a, b) = pair().await;
    source.set(1, 10);
    assert_eq!(b.get(1).await, Some(10));
    let mut reported = b.cache.invalidations();
    source.set(1, 11);
    for keys in [2..5_000_u64, 5_000..10_000, 1..2] {
        a.cache.invalidate_many(keys).await.unwrap();
    }
    pass(ms(1)).await;
    // It was never read from, and the link went on.
    assert_eq!(b.get(1).await, Some(11));
    let lagged = next(&mut reported).await.unwrap();
    assert_eq!(lagged.scope, Scope::Lagged { missed: 9_999 });
    assert!(lagged.concerns(&1_u64, &[]));
    nothing(&mut reported).await;
    a.cache.invalidate(&3).await.unwrap();
    assert_eq!(next(&mut reported).await.unwrap().scope, key(3));
}

#[tokio::test(start_paused = true)]
async fn a_cache_is_reported_of_its_own_and_its_lane_only() {
    let (bus, _source, a, b) = pair().await;
    let others = [&a, &b].map(|node| node.instance.cache::<u64, u64>("others").build());
    let [of_a, of_b] = others.map(Result::unwrap);
    let mut reported = of_b.invalidations();
    let mut all = b.instance.invalidations();
    a.cache.invalidate(&1).await.unwrap();
    of_a.invalidate(&2).await.unwrap();
    assert_eq!(
        next(&mut reported).await.unwrap().cache.as_deref(),
        Some("others")
    );
    for cache in ["rows", "others"] {
        assert_eq!(next(&mut all).await.unwrap().cache.as_deref(), Some(cache));
    }
    bus.drop_counter();
    let lane = next(&mut reported).await.unwrap();
    assert!(
        matches!(lane.scope, Scope::Lane { why: "epoch", .. }),
        "{lane}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_receiver_ends_with_its_instance_and_does_not_keep_it_alive() {
    let (bus, source, a, b) = pair().await;
    let mut reported = b.instance.invalidations();
    a.cache.invalidate(&1).await.unwrap();
    pass(ms(1)).await;
    b.instance.shutdown().await.unwrap();
    assert_eq!(next(&mut reported).await.unwrap().scope, key(1));
    for _ in 0..2 {
        assert_eq!(next(&mut reported).await, None);
    }
    assert_eq!(next(&mut b.cache.invalidations()).await, None);

    let third = Node::start(&bus, &Source::default(), Settings::default()).await;
    let mut reported = third.cache.invalidations();
    drop(third);
    assert_eq!(next(&mut reported).await, None);
    drop((source, a));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_loses_nothing() {
    let (_bus, _source, a, b) = pair().await;
    let mut reported = b.cache.invalidations();
    for number in 0..10 {
        assert!(timeout(ms(1), reported.next()).await.is_err());
        a.cache.invalidate(&number).await.unwrap();
        assert_eq!(next(&mut reported).await.unwrap().scope, key(number));
    }
}
