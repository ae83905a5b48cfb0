//! Everything at once: three instances, writers and readers, and whatever can go wrong with the bus,
//! in an order that a seed decides. Every read is judged by the promise.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::LocalSet;
use tokio::time::Instant;
use unstale::internals::{Mechanism, Without};
use unstale::testing::Faults;
use unstale::{LocalBus, Outcome, Settings, SharedTier, testing};

use crate::support::nodes::{Source, ms, pass};
use crate::support::sharing::Node;

const KEYS: u64 = 4;

/// The default.
const MAX_STALENESS: Duration = Duration::from_secs(2);

/// What has been invalidated: key, value, and when that was acknowledged.
type Acknowledged = Rc<RefCell<Vec<(u64, u64, Instant)>>>;

/// How reads were answered.
#[derive(Debug, Default)]
struct Tally {
    outcomes: BTreeMap<String, usize>,
    refused: u64,
    unchanged: u64,
    broken: Option<String>,
}

struct Storm {
    rng: Rng,
    bus: LocalBus,
    source: Source,
    nodes: Vec<Node>,
    faults: Vec<Faults>,
    acknowledged: Acknowledged,
    tally: Rc<RefCell<Tally>>,
    next: u64,
}

impl Storm {
    async fn new(seed: u64) -> Self {
        // The crate's own dice, too.
        fastrand::seed(seed);
        let (bus, source) = (LocalBus::default(), Source::default());
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let instance = testing::start_on(&bus, Settings::default()).await.unwrap();
            let shared = SharedTier::new().fleet_single_flight(ms(200));
            nodes.push(Node::of(instance, &source, shared));
        }
        let faults = (0..3).map(|number| bus.faults(number)).collect();
        Self {
            rng: Rng::with_seed(seed),
            bus,
            source,
            nodes,
            faults,
            acknowledged: Acknowledged::default(),
            tally: Rc::default(),
            next: 0,
        }
    }

    fn node(&mut self) -> Node {
        self.nodes[self.rng.usize(0..3)].clone()
    }

    /// A read that begins now must find this, or something newer.
    fn read(&mut self) {
        let (node, key) = (self.node(), self.rng.u64(0..KEYS));
        let now = Instant::now();
        let oldest = self
            .acknowledged
            .borrow()
            .iter()
            .filter(|(of, _, at)| *of == key && now > *at + MAX_STALENESS)
            .map(|(_, value, _)| *value)
            .max();
        let tally = self.tally.clone();
        tokio::task::spawn_local(async move {
            let Ok(lookup) = node.cache.lookup(&key).await else {
                return;
            };
            let mut tally = tally.borrow_mut();
            let outcome = format!("{:?}", lookup.outcome);
            *tally.outcomes.entry(outcome).or_default() += 1;
            if lookup.value < oldest {
                let broken = format!("{key}: {lookup:?}, not {oldest:?}");
                tally.broken.get_or_insert(broken);
            }
        });
    }

    fn write(&mut self) {
        self.next += 1;
        let (node, key, value) = (self.node(), self.rng.u64(0..KEYS), self.next);
        self.source.set(key, value);
        let (how, acknowledged) = (self.rng.u8(0..10), self.acknowledged.clone());
        tokio::task::spawn_local(async move {
            let done = match how {
                0 => node.cache.invalidate_all().await,
                1 => node.cache.invalidate_tag("tens-0").await,
                _ => node.cache.invalidate(&key).await,
            };
            if done.is_ok() {
                acknowledged.borrow_mut().push((key, value, Instant::now()));
            }
        });
    }

    fn fault(&mut self) {
        let faults = &self.faults[self.rng.usize(0..3)];
        let few = self.rng.u32(1..4);
        match self.rng.u8(0..18) {
            0 => faults.lose_next(few),
            1 => faults.duplicate_next(few),
            2 => faults.hold(),
            3 => faults.release(),
            4 => faults.release_reordered(),
            5 => faults.cut(),
            6 => faults.silence(),
            7 => faults.unsubscribe(),
            8 => faults.delay(ms(u64::from(few) * 40)),
            9 => faults.fail_next_publish(few),
            10 => faults.lose_next_ack(1),
            11 | 12 => faults.pause_publish(),
            13 => self.bus.flush(),
            14 => self.bus.restart_losing(few.into()),
            15 => self.bus.fail_over_losing(few.into()),
            16 => self.bus.drop_journal(),
            _ => self.bus.drop_tier(),
        }
    }

    fn heal(&self) {
        for faults in &self.faults {
            faults.release();
            faults.delay(ms(0));
            faults.resume_publish();
            faults.heal();
        }
    }

    async fn run(mut self) -> Tally {
        for step in 0..400 {
            match self.rng.u8(0..20) {
                0..10 => self.read(),
                10..12 => self.write(),
                12 => self.fault(),
                13 => self.source.slow(ms(self.rng.u64(0..3) * 30)),
                _ => pass(ms(self.rng.u64(0..120))).await,
            }
            // As often in order as not.
            if step % 100 == 50 {
                self.heal();
            }
        }
        self.heal();
        pass(ms(3_000)).await;
        let mut tally = self.tally.take();
        for node in &self.nodes {
            tally.refused += node.stores("refused") + node.reads("refused");
            tally.unchanged += node.stores("unchanged");
        }
        tally
    }
}

fn storm(seed: u64) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let local = LocalSet::new();
    local.block_on(&runtime, async { Storm::new(seed).await.run().await })
}

#[test]
fn nothing_is_served_beyond_the_bound_whatever_goes_wrong() {
    let mut all = Tally::default();
    for seed in 0..24 {
        let tally = storm(seed);
        assert_eq!(tally.broken, None, "seed {seed}");
        for (outcome, count) in tally.outcomes {
            *all.outcomes.entry(outcome).or_default() += count;
        }
        all.refused += tally.refused;
        all.unchanged += tally.unchanged;
    }
    for outcome in [
        Outcome::Hit,
        Outcome::Tier,
        Outcome::Miss,
        Outcome::Coalesced,
    ] {
        let count = all.outcomes.get(&format!("{outcome:?}"));
        assert!(count.is_some_and(|count| *count > 100), "{all:?}");
    }
    assert!(all.refused > 100, "{all:?}");
}

#[test]
fn without_the_record_old_values_are_served() {
    let _without = Without::new(Mechanism::SharedRecord);
    let caught = (0..20).find(|seed| storm(*seed).broken.is_some());
    assert!(caught.is_some());
}
