//! `latest` reflects whatever was published before it was called, heard of or not.

use std::time::Duration;

use tokio::time::Instant;
use unstale::{LocalBus, Outcome};

use crate::support::nodes::{Node, Source, ms, pair, pass};
#[cfg(feature = "shared")]
use crate::support::nodes::{Tier, pair_over};

/// As in `pair`, where the second has heard that 7 does not exist.
async fn refusing() -> (LocalBus, Source, Node, Node) {
    let (bus, source, a, b) = pair().await;
    assert_eq!(b.get(7).await, None);
    (bus, source, a, b)
}

async fn create(source: &Source, on: &Node) {
    source.set(7, 70);
    on.cache.invalidate(&7).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_latest_value_is_read_although_its_event_has_not_arrived() {
    let (bus, source, a, b) = refusing().await;
    bus.faults(1).delay(ms(100));
    create(&source, &a).await;
    assert_eq!(b.outcome(7).await, Outcome::Negative, "a hop behind");
    let began = Instant::now();
    assert_eq!(b.cache.latest(&7).await.unwrap().value, Some(70));
    assert!(began.elapsed() < ms(100), "{:?}", began.elapsed());
    // And from memory where nothing has changed.
    let latest = b.cache.latest(&7).await.unwrap();
    assert_eq!((latest.value, latest.outcome), (Some(70), Outcome::Hit));
    assert_eq!(source.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_latest_value_is_read_although_its_event_was_lost() {
    let (bus, source, a, b) = refusing().await;
    bus.faults(1).lose_next(1);
    create(&source, &a).await;
    assert_eq!(b.cache.latest(&7).await.unwrap().value, Some(70));
}

#[tokio::test(start_paused = true)]
async fn the_latest_value_is_loaded_while_the_bus_is_away_and_waits_once() {
    let (bus, source, a, b) = refusing().await;
    bus.faults(1).silence();
    create(&source, &a).await;
    let began = Instant::now();
    assert_eq!(b.cache.latest(&7).await.unwrap().value, Some(70));
    assert_eq!(began.elapsed(), ms(250));
    source.set(7, 71);
    assert_eq!(b.cache.latest(&7).await.unwrap().value, Some(71));
    assert_eq!(began.elapsed(), ms(250));
    bus.faults(1).cut();
    source.set(7, 72);
    assert_eq!(b.cache.latest(&7).await.unwrap().value, Some(72));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_is_no_latest_value_while_the_bus_is_away() {
    let (bus, source, a, b) = refusing().await;
    bus.faults(1).cut();
    b.cache.invalidate(&7).await.unwrap_err();
    source.slow(ms(1_000));
    let reader = crate::support::nodes::get(&b.cache, 7);
    pass(ms(500)).await;
    source.set(7, 70);
    drop(a);
    assert_eq!(b.cache.latest(&7).await.unwrap().value, Some(70));
    assert_eq!(reader.await.unwrap().unwrap(), None);
    assert_eq!(b.cache.peek(&7), Some(70));
}

#[tokio::test(start_paused = true)]
async fn however_many_ask_for_the_latest_the_bus_is_asked_now_and_then() {
    let (_bus, _source, _a, b) = refusing().await;
    let verified = r#"unstale_verifications_total{outcome="ok"}"#;
    let before = b.metric(verified);
    let until = Instant::now() + Duration::from_secs(1);
    let mut reads = 0;
    while Instant::now() < until {
        let readers: Vec<_> = (0..50)
            .map(|_| {
                let cache = b.cache.clone();
                tokio::spawn(async move { cache.latest(&7).await })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.await.unwrap().unwrap().outcome, Outcome::Negative);
            reads += 1;
        }
        assert!(reads < 50_000, "no time passes: nobody waits");
    }
    let rounds = b.metric(verified) - before;
    assert!(reads > 5_000, "{reads} reads");
    assert!((100..=210).contains(&rounds), "{rounds} rounds");
}

/// The second instance still speaks to a server that was replaced, whose tier has 70 where the source has
/// 71. Its verifications are answered too late to be waited for, and the tier in time.
#[cfg(feature = "shared")]
async fn replaced_tier() -> (LocalBus, Node, Node) {
    let (bus, source, a, b) = pair_over(unstale::Settings::default(), Tier::On).await;
    source.set(7, 70);
    a.get(7).await;
    pass(ms(100)).await;
    bus.split(0, &[1]);
    source.set(7, 71);
    a.cache.invalidate(&7).await.unwrap();
    bus.faults(1).slow_lane(0, ms(400));
    (bus, a, b)
}

/// The server that one instance still speaks to has been replaced, and its shared tier has not heard
/// of the change.
#[cfg(feature = "shared")]
#[tokio::test(start_paused = true)]
async fn the_latest_value_is_never_that_of_a_tier_whose_server_was_replaced() {
    let (_bus, _a, b) = replaced_tier().await;
    let latest = b.cache.latest(&7).await.unwrap();
    assert_eq!((latest.value, latest.outcome), (Some(71), Outcome::Miss));
}

/// 1: a read asks for the latest value, and Redis does not answer in time; 2: another read is on its way to the
/// tier, and the first one joins it; 3: what the tier had is in memory now, and is not the latest.
#[cfg(feature = "shared")]
#[tokio::test(start_paused = true)]
async fn the_latest_value_is_not_what_another_read_has_brought_from_such_a_tier() {
    let (_bus, _a, b) = replaced_tier().await;
    let other = {
        let b = b.clone();
        tokio::spawn(async move {
            pass(ms(250)).await;
            b.get(7).await
        })
    };
    tokio::task::yield_now().await;
    let latest = b.cache.latest(&7).await.unwrap();
    assert_eq!(latest.value, Some(71));
    other.await.unwrap();
}
