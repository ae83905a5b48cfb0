//! The load race: a value that was read before its invalidation is never stored after it, and
//! no read that began after the invalidation is answered with it.

use tokio::task::JoinHandle;

use unstale::{LocalBus, Lookup, Outcome, Settings};

use crate::support::nodes::{Node, Source, ms, pair, pair_with, pass};

const DISCARDED: &str = r#"unstale_loads_discarded_total{cache="rows"}"#;

/// What is invalidated while row 1 is being loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Key,
    Tag,
    Cache,
    /// Everything, as after a message that no instance can read.
    Lane,
}

/// Where that happens, seen from the instance that loads.
#[derive(Clone, Copy, Debug)]
enum Where {
    Here,
    AtAPeer,
}

impl What {
    async fn invalidate(self, bus: &LocalBus, by: &Node) {
        match self {
            Self::Key => drop(by.cache.invalidate(&1).await.unwrap()),
            Self::Tag => drop(by.cache.invalidate_tag("tens-0").await.unwrap()),
            Self::Cache => drop(by.cache.invalidate_all().await.unwrap()),
            Self::Lane => bus.publish_raw(0, &b"no message"[..]),
        }
        pass(ms(1)).await;
    }
}

fn read(node: &Node, key: u64) -> JoinHandle<Lookup<u64>> {
    let node = node.clone();
    tokio::spawn(async move { node.cache.lookup(&key).await.unwrap() })
}

/// A load of row 1 that reads 10 and answers 100 ms later; 10 ms of them have passed, two callers
/// wait for it, and the row is 11 by now.
async fn slow_load(source: &Source, node: &Node) -> [JoinHandle<Lookup<u64>>; 2] {
    source.set(1, 10);
    source.slow(ms(100));
    let waiting = [read(node, 1), read(node, 1)];
    pass(ms(10)).await;
    source.set(1, 11);
    source.slow(ms(30));
    waiting
}

async fn the_race(what: What, place: Where) {
    let (bus, source, a, b) = pair().await;
    let [first, second] = slow_load(&source, &b).await;
    let by = match place {
        Where::Here => &b,
        Where::AtAPeer => &a,
    };
    what.invalidate(&bus, by).await;

    let late = read(&b, 1);
    pass(ms(40)).await;
    // A tag is not known before the load ends: then, and only then, the late reader must wait.
    assert_eq!(late.is_finished(), what != What::Tag, "{what:?}");
    assert!(!first.is_finished());
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    let late = late.await.unwrap();

    assert_eq!((first.value, first.outcome), (Some(10), Outcome::Miss));
    assert_eq!(
        (second.value, second.outcome),
        (Some(10), Outcome::Coalesced)
    );
    assert_eq!(
        late.value,
        Some(11),
        "{what:?} {place:?}: joined a poisoned load"
    );
    assert_eq!(b.metric(DISCARDED), 1, "{what:?} {place:?}");
    assert_eq!(source.loads(), 2);
    // The load that came too late took nothing with it.
    assert_eq!(b.outcome(1).await, Outcome::Hit, "{what:?} {place:?}");
    assert_eq!(b.get(1).await, Some(11));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_lost_to_a_key_is_not_stored_and_not_joined() {
    the_race(What::Key, Where::Here).await;
    the_race(What::Key, Where::AtAPeer).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_lost_to_a_tag_is_not_stored_and_late_joiners_load_again() {
    the_race(What::Tag, Where::Here).await;
    the_race(What::Tag, Where::AtAPeer).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_lost_to_its_cache_is_not_stored_and_not_joined() {
    the_race(What::Cache, Where::Here).await;
    the_race(What::Cache, Where::AtAPeer).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_lost_to_a_fence_is_not_stored_and_not_joined() {
    the_race(What::Lane, Where::AtAPeer).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_late_reader_the_next_read_loads() {
    for what in [What::Key, What::Tag, What::Cache, What::Lane] {
        let (bus, source, a, b) = pair().await;
        let [first, second] = slow_load(&source, &b).await;
        what.invalidate(&bus, &a).await;
        assert_eq!(first.await.unwrap().value, Some(10));
        assert_eq!(second.await.unwrap().value, Some(10));
        assert_eq!(b.cache.stats().entries, 0, "{what:?}: stored");
        assert_eq!(b.cache.stats().loads_discarded, 1);
        let later = b.cache.lookup(&1).await.unwrap();
        assert_eq!((later.value, later.outcome), (Some(11), Outcome::Miss));
    }
}

/// The newest stamp of the tag hides the one that the late reader must respect.
#[tokio::test(start_paused = true)]
async fn a_late_reader_between_two_invalidations_of_a_tag_loads_again() {
    let (_bus, source, _a, b) = pair().await;
    let [first, _second] = slow_load(&source, &b).await;
    b.cache.invalidate_tag("tens-0").await.unwrap();
    let late = read(&b, 1);
    let many = tokio::spawn({
        let b = b.clone();
        async move { b.cache.get_many(&[1, 2]).await.unwrap() }
    });
    pass(ms(10)).await;
    b.cache.invalidate_tag("tens-0").await.unwrap();
    assert_eq!(first.await.unwrap().value, Some(10), "it began before both");
    assert_eq!(
        late.await.unwrap().value,
        Some(11),
        "it began after the first"
    );
    assert_eq!(many.await.unwrap(), [Some(11), None]);
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_of_something_else_discards_nothing() {
    let (_bus, source, a, b) = pair().await;
    let [first, _second] = slow_load(&source, &b).await;
    a.cache.invalidate(&2).await.unwrap();
    a.cache.invalidate_tag("tens-7").await.unwrap();
    pass(ms(1)).await;
    let late = read(&b, 1);
    assert_eq!(first.await.unwrap().value, Some(10));
    assert_eq!(late.await.unwrap().outcome, Outcome::Coalesced);
    assert_eq!(b.outcome(1).await, Outcome::Hit);
    assert_eq!((b.metric(DISCARDED), source.loads()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_absence_loses_the_race_as_well() {
    let (_bus, source, a, b) = pair().await;
    source.slow(ms(100));
    let absent = read(&b, 1);
    pass(ms(10)).await;
    source.set(1, 11);
    a.cache.invalidate(&1).await.unwrap();
    assert_eq!(absent.await.unwrap().value, None);
    assert_eq!(b.get(1).await, Some(11));
    // And the other way round.
    b.cache.invalidate(&1).await.unwrap();
    let present = read(&b, 1);
    pass(ms(10)).await;
    source.remove(1);
    a.cache.invalidate(&1).await.unwrap();
    assert_eq!(present.await.unwrap().value, Some(11));
    assert_eq!(b.get(1).await, None);
    assert_eq!(b.metric(DISCARDED), 2);
}

/// A loader's work begins with its load: what it does before its first await is part of it.
#[tokio::test(start_paused = true)]
async fn what_a_loader_reads_before_its_future_is_polled_takes_part_in_the_race() {
    let (_bus, source, a, _b) = pair().await;
    let rows = source.clone();
    let eager = a
        .instance
        .cache::<u64, u64>("eager")
        .max_loads(1)
        .loader(move |key: u64| {
            let row = rows.row(key);
            async move {
                pass(ms(20)).await;
                Ok(row)
            }
        })
        .build()
        .unwrap();
    source.set(1, 10);
    // The load of 2 takes the only place: that of 1 waits for its turn.
    let blocker = tokio::spawn({
        let eager = eager.clone();
        async move { eager.get(&2).await.unwrap() }
    });
    pass(ms(1)).await;
    let waiting = tokio::spawn({
        let eager = eager.clone();
        async move { eager.get(&1).await.unwrap() }
    });
    pass(ms(1)).await;
    source.set(1, 11);
    eager.invalidate(&1).await.unwrap();
    blocker.await.unwrap();
    assert_eq!(
        waiting.await.unwrap(),
        Some(11),
        "read before its load began"
    );
    assert_eq!(eager.get(&1).await.unwrap(), Some(11));
}

/// An outbox that overflows over many caches names the whole lane.
#[tokio::test(start_paused = true)]
async fn a_load_that_lost_to_a_peers_overflow_is_not_stored() {
    let mut settings = Settings::default();
    settings.outbox = 1_024;
    let (bus, source, a, b) = pair_with(settings).await;
    let cache = |number: u64| a.instance.cache::<u64, u64>(&format!("c{number}")).build();
    let many: Vec<_> = (0..300).map(|number| cache(number).unwrap()).collect();
    let [first, _second] = slow_load(&source, &b).await;
    bus.faults(0).pause_publish();
    for cache in &many {
        for key in 0..4 {
            drop(cache.invalidate(&key));
        }
    }
    drop(a.cache.invalidate(&1));
    bus.faults(0).resume_publish();
    pass(ms(1)).await;
    assert_eq!(a.metric(r#"unstale_outbox_collapses_total{to="lane"}"#), 1);
    assert_eq!(b.metric(r#"unstale_fences_total{cause="requested"}"#), 1);
    assert_eq!(b.get(1).await, Some(11));
    assert_eq!(first.await.unwrap().value, Some(10));
    assert_eq!(b.metric(DISCARDED), 1);
}
