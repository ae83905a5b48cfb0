//! `get_latest`, and reads of a cache that confirms absences, reflect what was published before the call,
//! whether its event has arrived or not.

use std::time::Duration;

use tokio::time::Instant;
use unstale::{LocalBus, Outcome};

use crate::support::nodes::{Node, Source, ms, pair, pass};
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
    assert_eq!(b.cache.lookup_latest(&7).await.unwrap().value, Some(70));
    assert!(began.elapsed() < ms(100), "{:?}", began.elapsed());
    // And from memory where nothing has changed.
    let latest = b.cache.lookup_latest(&7).await.unwrap();
    assert_eq!((latest.value, latest.outcome), (Some(70), Outcome::Hit));
    assert_eq!(source.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_latest_value_is_read_although_its_event_was_lost() {
    let (bus, source, a, b) = refusing().await;
    bus.faults(1).lose_next(1);
    create(&source, &a).await;
    assert_eq!(b.cache.lookup_latest(&7).await.unwrap().value, Some(70));
}

#[tokio::test(start_paused = true)]
async fn the_latest_value_is_loaded_while_the_bus_is_away_and_waits_once() {
    let (bus, source, a, b) = refusing().await;
    bus.faults(1).silence();
    create(&source, &a).await;
    let began = Instant::now();
    assert_eq!(b.cache.lookup_latest(&7).await.unwrap().value, Some(70));
    assert_eq!(began.elapsed(), ms(250));
    source.set(7, 71);
    assert_eq!(b.cache.lookup_latest(&7).await.unwrap().value, Some(71));
    assert_eq!(began.elapsed(), ms(250));
    bus.faults(1).cut();
    source.set(7, 72);
    assert_eq!(b.cache.lookup_latest(&7).await.unwrap().value, Some(72));
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
    assert_eq!(b.cache.lookup_latest(&7).await.unwrap().value, Some(70));
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
                tokio::spawn(async move { cache.lookup_latest(&7).await })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.await.unwrap().unwrap().outcome, Outcome::Negative);
            reads += 1;
        }
        assert!(reads < 50_000, "no time passes: no read waits");
    }
    let rounds = b.metric(verified) - before;
    assert!(reads > 5_000, "{reads} reads");
    assert!((100..=210).contains(&rounds), "{rounds} rounds");
}

/// The second instance still speaks to a server that was replaced, whose tier has 70 where the source has
/// 71. Its verifications are answered too late to be waited for, and the tier in time.
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
#[tokio::test(start_paused = true)]
async fn the_latest_value_is_never_that_of_a_tier_whose_server_was_replaced() {
    let (_bus, _a, b) = replaced_tier().await;
    let latest = b.cache.lookup_latest(&7).await.unwrap();
    assert_eq!((latest.value, latest.outcome), (Some(71), Outcome::Miss));
}

/// 1: a read asks for the latest value, and Redis does not answer in time; 2: another read is on its way to the
/// tier, and the first one joins it; 3: what the tier had is in memory now, and is not the latest.
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
    let latest = b.cache.lookup_latest(&7).await.unwrap();
    assert_eq!(latest.value, Some(71));
    other.await.unwrap();
}

/// The second instance confirms what it believes not to exist; it has heard that 7 does not.
async fn confirming() -> (LocalBus, Source, Node, unstale::Cache<u64, u64>) {
    let (bus, source, a, b) = pair().await;
    let loads = source.clone();
    let cache = b
        .instance
        .cache::<u64, u64>("confirmed")
        .confirm_absent(true)
        .loader(move |key: u64| {
            let source = loads.clone();
            async move { Ok(source.load(key).await?) }
        })
        .build()
        .unwrap();
    assert_eq!(cache.get(&7).await.unwrap(), None);
    (bus, source, a, cache)
}

#[tokio::test(start_paused = true)]
async fn an_absence_from_memory_is_confirmed_by_every_kind_of_read() {
    let (bus, source, a, cache) = confirming().await;
    let other = a.instance.cache::<u64, u64>("confirmed").build().unwrap();
    let loads = source.loads();
    assert_eq!(cache.get(&7).await.unwrap(), None);
    assert_eq!(
        source.loads(),
        loads,
        "nothing has changed: memory is right"
    );
    // Its event is on its way, for longer than this test.
    bus.faults(1).delay(ms(60_000));
    source.set(7, 70);
    other.invalidate(&7).await.unwrap();
    assert_eq!(cache.peek(&7), None);
    assert_eq!(cache.get(&7).await.unwrap(), Some(70));
    source.set(8, 80);
    let mut reads = Vec::new();
    for key in [18, 28, 38] {
        assert_eq!(cache.get(&key).await.unwrap(), None);
        source.set(key, 80);
        other.invalidate(&key).await.unwrap();
        reads.push(key);
    }
    assert_eq!(cache.lookup(&18).await.unwrap().value, Some(80));
    let fetch = async { Ok(81) };
    assert_eq!(cache.get_with(&28, fetch).await.unwrap(), Some(81));
    assert_eq!(cache.get_many([38, 48]).await.unwrap(), [Some(80), None]);
}

#[tokio::test(start_paused = true)]
async fn values_from_memory_and_absences_just_loaded_are_not_confirmed() {
    let (bus, source, _a, cache) = confirming().await;
    source.set(1, 10);
    assert_eq!(cache.get(&1).await.unwrap(), Some(10));
    // No verification comes; a read that confirmed something would wait for one.
    bus.faults(1).silence();
    let began = Instant::now();
    let hit = cache.lookup(&1).await.unwrap();
    assert_eq!((hit.value, hit.outcome), (Some(10), Outcome::Hit));
    let missed = cache.lookup(&99).await.unwrap();
    assert_eq!((missed.value, missed.outcome), (None, Outcome::Miss));
    assert_eq!(began.elapsed(), ms(0));
}

#[tokio::test(start_paused = true)]
async fn many_absences_are_confirmed_by_one_more_call_of_the_batch_loader_while_the_bus_is_away() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    let (bus, _source, _a, b) = pair().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let cache = b
        .instance
        .cache::<u64, u64>("many")
        .confirm_absent(true)
        .batch_loader(move |_: Vec<u64>| {
            counted.fetch_add(1, SeqCst);
            async { Ok(Vec::<(u64, u64)>::new()) }
        })
        .build()
        .unwrap();
    let keys: Vec<u64> = (0..100).collect();
    assert_eq!(cache.get_many(&keys).await.unwrap(), [None; 100]);
    assert_eq!(cache.get_many(&keys).await.unwrap(), [None; 100]);
    assert_eq!(calls.load(SeqCst), 1, "confirmed from memory");
    bus.faults(1).silence();
    let began = Instant::now();
    assert_eq!(cache.get_many(&keys).await.unwrap(), [None; 100]);
    assert_eq!(calls.load(SeqCst), 2);
    assert_eq!(began.elapsed(), ms(250), "one wait for all of them");
}
