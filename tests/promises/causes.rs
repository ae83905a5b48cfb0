//! What `explain` says of a read is what the read does, what the metrics count and what its span says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use unstale::{
    Cache, Explanation, Instance, Loaded, LocalBus, Outcome, Refusal, Settings, testing,
};

use crate::spans::Spans;
use crate::support::nodes::{Source, get, ms, pair, pass};

const READS: usize = 1_000;
const KEYS: u64 = 150;

fn numbers(instance: &Instance) -> Cache<u64, u64> {
    instance
        .cache("numbers")
        .loader(|key: u64| async move {
            // A third does not exist.
            let value = (!key.is_multiple_of(3)).then_some(key);
            Ok(Loaded::new(value).tag(format!("tens-{}", key / 10)))
        })
        .capacity(20)
        .ttl(Duration::from_secs(8))
        .negative_ttl(Duration::from_secs(4))
        .build()
        .unwrap()
}

/// Every series by which a read may be counted.
fn counted(instance: &Instance) -> BTreeMap<String, u64> {
    let text = instance.metrics_text();
    let reads = [
        "unstale_hits_total{",
        "unstale_negative_hits_total{",
        "unstale_misses_total{",
        "unstale_coalesced_total{",
    ];
    let lines = text
        .lines()
        .filter(|line| reads.iter().any(|name| line.starts_with(name)));
    let series = lines.filter_map(|line| line.rsplit_once(' '));
    series
        .map(|(name, value)| (name.to_owned(), value.parse::<f64>().unwrap() as u64))
        .collect()
}

/// The series that grew, by one; none other did.
fn grown(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> String {
    let was = |name: &String| before.get(name).copied().unwrap_or(0);
    let grown: Vec<_> = after
        .iter()
        .filter(|(name, now)| **now != was(name))
        .collect();
    let [(name, now)] = grown[..] else {
        unreachable!("a read is counted once: {grown:?}");
    };
    assert_eq!(*now, was(name) + 1, "{name}");
    name.clone()
}

fn matches(said: &Explanation, series: &str) -> bool {
    match said.outcome {
        Outcome::Hit => series.starts_with("unstale_hits_total"),
        Outcome::Negative => series.starts_with("unstale_negative_hits_total"),
        _ => {
            let cause = said.cause.expect("no hit has a cause");
            series.starts_with("unstale_misses_total")
                && series.contains(&format!("cause=\"{cause}\""))
        }
    }
}

/// What happens to the fleet between two reads.
async fn happens(random: &mut Rng, bus: &LocalBus, peer: &Cache<u64, u64>) {
    let key = random.u64(..KEYS);
    match random.u32(..120) {
        0..20 => drop(peer.invalidate(&key).await.unwrap()),
        20..24 => {
            let tag = format!("tens-{}", key / 10);
            peer.invalidate_tag(&tag).await.unwrap();
        }
        24 => drop(peer.invalidate_all().await.unwrap()),
        25..27 => {
            // Nothing can supply what is lost.
            bus.faults(1).lose_next(1);
            peer.invalidate(&key).await.unwrap();
            bus.drop_journal();
        }
        27..29 => bus.faults(1).cut(),
        29..34 => bus.faults(1).heal(),
        34..36 => bus.faults(1).silence(),
        36..40 => pass(ms(random.u64(1_000..4_500))).await,
        _ => {}
    }
    pass(ms(random.u64(..60))).await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_reads_do_what_was_explained_before() {
    let bus = LocalBus::default();
    let peer = testing::start_on(&bus, Settings::default()).await.unwrap();
    let instance = testing::start_on(&bus, Settings::default()).await.unwrap();
    let (peer, cache) = (numbers(&peer), numbers(&instance));
    let mut random = Rng::with_seed(20);
    let (mut seen, mut waited) = (BTreeSet::new(), 0);
    let (spans, _watching) = Spans::watch();
    for read in 0..READS {
        happens(&mut random, &bus, &peer).await;
        let key = random.u64(..KEYS);
        let before = counted(&instance);
        let said = cache.explain(&key);
        // It changes nothing, so it says the same again.
        assert_eq!(said.to_string(), cache.explain(&key).to_string());
        let loads = spans.of("load").len();
        let lookup = cache.lookup(&key).await.unwrap();
        let series = grown(&before, &counted(&instance));
        match &spans.of("load")[loads..] {
            [] => assert_ne!(lookup.outcome, Outcome::Miss, "read {read}: {said}"),
            [load] => {
                assert_eq!(lookup.outcome, Outcome::Miss, "read {read}: {said}");
                let cause = format!("cause=\"{}\"", load.get("cause"));
                assert!(series.contains(&cause), "read {read}, {series}: {load:?}");
            }
            more => unreachable!("one load a read: {more:?}"),
        }
        if said.waits {
            // A verification decides, and what it brings.
            waited += 1;
            continue;
        }
        assert_eq!(lookup.outcome, said.outcome, "read {read}: {said}");
        assert!(matches(&said, &series), "read {read}, {series}: {said}");
        if said.refusal == Some(Refusal::Invalidated) {
            assert!(said.last_invalidation.is_some(), "read {read}: {said}");
        }
        if let (true, Some(held)) = (lookup.is_hit(), said.held) {
            assert_eq!(
                (held.exists, held.age),
                (lookup.value.is_some(), lookup.age)
            );
        }
        seen.insert(said.cause.map(|cause| cause.to_string()));
    }
    let causes = "cold evicted expired fenced invalidated negative unverified";
    let all = causes.split(' ').map(|cause| Some(cause.to_owned()));
    let all: BTreeSet<_> = all.chain([None]).collect();
    assert_eq!(seen, all, "{waited} waited");
    assert!(waited < READS / 5, "{waited}");
}

#[tokio::test(start_paused = true)]
async fn an_explanation_is_no_read() {
    let (_bus, source, a, _b) = pair().await;
    source.set(1, 10);
    let before = counted(&a.instance);
    let said = a.cache.explain(&1);
    assert_eq!((said.outcome, said.held), (Outcome::Miss, None));
    assert_eq!(said.refusal, Some(Refusal::NotHeld));
    assert_eq!((source.loads(), counted(&a.instance)), (0, before));
}

#[tokio::test(start_paused = true)]
async fn a_load_under_way_is_joined() {
    let (_bus, source, a, _b) = pair().await;
    source.slow(ms(100));
    let leads = get(&a.cache, 1);
    pass(ms(1)).await;
    assert_eq!(a.cache.explain(&1).outcome, Outcome::Coalesced);
    assert_eq!(a.outcome(1).await, Outcome::Coalesced);
    leads.await.unwrap().unwrap();
    assert_eq!(a.cache.explain(&1).outcome, Outcome::Negative);
}

#[tokio::test(start_paused = true)]
async fn the_last_invalidation_and_all_ages_are_reported_in_sentences() {
    let (_bus, source, a, b) = pair().await;
    source.set(1, 10);
    b.get(1).await;
    let unknown = b.cache.explain(&1);
    // The lane was adopted before the load.
    assert!(
        unknown
            .last_invalidation
            .is_some_and(|last| last.cache.is_none())
    );
    let tagged = a.cache.invalidate_tag("tens-0");
    tagged.await.unwrap();
    pass(ms(20)).await;
    let said = b.cache.explain(&1);
    assert_eq!(said.refusal, Some(Refusal::Invalidated));
    let last = said.last_invalidation.clone().unwrap();
    assert_eq!(last.origin, Some(a.instance.id()));
    let age = said.last_invalidation_age.unwrap();
    assert!(age >= ms(19) && age <= ms(20), "{age:?}");
    let held = said.held.unwrap();
    assert!(held.exists && held.tags == 1 && held.age >= ms(20));
    assert!(said.verified_age.is_some() && said.source_age.is_none());
    let sentences = said.to_string();
    for part in [
        "a read loads.",
        "miss cause: invalidated",
        "Last invalidated",
        "20ms ago",
    ] {
        assert!(sentences.contains(part), "{part}: {sentences}");
    }
    let long = "x".repeat(unstale::MAX_KEY_BYTES + 1);
    let names = a.instance.cache::<String, u64>("names").build().unwrap();
    assert_eq!(names.explain(&long).refusal, Some(Refusal::KeyTooLong));
    drop(Source::default());
}
