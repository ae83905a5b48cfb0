//! The end of a run: all faults stop, and the fleet must be as if there had been none.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use unstale::internals;
use unstale::{InstanceState, Outcome};

use crate::fleet::{Answer, Node, keys_of, ms};
use crate::mind;
use crate::run::World;
use crate::schedule::*;
use crate::watch::step;

/// How long a fleet may take to converge once all faults have stopped: a command that is lost (1 s),
/// the longest pause of a publisher (1 s), silence until a writer counts as dead, its deadline, and
/// a few verifications.
const HEAL: Duration = ms(1_000 + 1_000 + LONGEST_MEMBER_TIMEOUT + WRITE_TIMEOUT + 800);

/// How often it is looked whether it has.
const LOOK: Duration = ms(200);

/// Rounds of reads in which everything must come from memory once. What a late publication drops
/// takes a round more, and errors that are kept take a second.
const ROUNDS: usize = 60;

impl World<'_> {
    /// All faults stop, and the fleet must be as if there had been none.
    pub(super) async fn heal(&mut self) -> Vec<String> {
        self.source.catch_up();
        self.source.set_delays(0, 0);
        self.source.set_fails(false);
        self.source.set_hangs(false);
        self.bus.unsplit();
        self.on_relay(RelayFault::Heal).await;
        self.on_relay(RelayFault::Start).await;
        mind::disarm();
        internals::before_next_landing(None);
        let last = self.schedule.steps.len();
        for place in 0..self.schedule.nodes.len() {
            self.on_link(last, place, LinkFault::EndAll);
            self.start(place, false).await;
        }
        // What was begun last gets its turn first.
        sleep(LOOK).await;
        let until = Instant::now() + HEAL;
        while Instant::now() < until && !self.is_well() {
            step();
            sleep(LOOK).await;
        }
        let mut wrong = Vec::new();
        // The first events after a subscription was lost are not heard by it; after these it is
        // repaired.
        for _ in 0..2 {
            self.write_everywhere().await;
            sleep(ms(450)).await;
        }
        for node in self.fits() {
            let health = node.instance.health();
            if health.state != InstanceState::Coherent || health.open_writes > 0 {
                wrong.push(format!("instance {} is not well: {health:?}", node.place));
            }
            if !self.all_hits(last, node).await {
                wrong.push(format!(
                    "instance {} does not answer from memory",
                    node.place
                ));
            }
        }
        wrong.extend(self.untrue_health());
        self.write_everywhere().await;
        sleep(ms(3 + self.schedule.pause)).await;
        for node in self.fits() {
            for key in 0..KEYS {
                let until = Instant::now() + ms(node.options_of(key).longest_read());
                let read = node.read((last + 1, key), key, true, How::Lookup);
                if tokio::time::timeout_at(until, read).await.is_err() {
                    wrong.push(format!("hangs: instance {} does not answer", node.place));
                }
            }
        }
        wrong.extend(self.what_hangs().await);
        wrong
    }

    /// The instances that are set up as the fleet is.
    fn fits(&self) -> impl Iterator<Item = &Node> {
        let fits = |node: &&Node| node.settings.lanes.is_none();
        self.nodes.values().filter(fits)
    }

    fn is_well(&self) -> bool {
        self.fits().all(|node| {
            let health = node.instance.health();
            health.state == InstanceState::Coherent && health.open_writes == 0
        })
    }

    /// An instance that calls itself coherent has verified every lane lately. An idle one does so once
    /// in half a `member_timeout`.
    fn untrue_health(&self) -> Vec<String> {
        let mut untrue = Vec::new();
        for node in self.nodes.values() {
            let health = node.instance.health();
            let of = &node.settings;
            let latest = ms(of
                .max_staleness
                .max(of.member_timeout / 2 + of.verify_interval));
            let verified = |age: &Option<Duration>| age.is_some_and(|age| age <= latest);
            if health.state == InstanceState::Coherent && !health.verified_age.iter().all(verified)
            {
                untrue.push(format!(
                    "instance {} calls itself coherent: {health:?}",
                    node.place
                ));
            }
            if health.state == InstanceState::Coherent
                && of.lanes.is_some_and(|of| of != self.schedule.lanes)
            {
                untrue.push(format!(
                    "instance {} calls itself coherent with another number of lanes",
                    node.place
                ));
            }
        }
        untrue
    }

    /// Reads that have not ended by their deadlines.
    async fn what_hangs(&self) -> Vec<String> {
        loop {
            let left: Vec<Instant> = self.shared.log().underway.values().copied().collect();
            let Some(until) = left.iter().max() else {
                return std::mem::take(&mut self.shared.log().late);
            };
            if *until < Instant::now() {
                return vec![format!("hangs: {} reads never end", left.len())];
            }
            step();
            sleep(LOOK).await;
        }
    }

    async fn write_everywhere(&self) {
        for node in self.nodes.values() {
            // In a task: what a value does at its end is done to this caller.
            let put = node.clone().put(node.place as u64, 0);
            let _ = tokio::spawn(put).await;
        }
    }

    /// Returns whether everything that was read once comes from memory then, as far as there is room.
    async fn all_hits(&self, index: usize, node: &Node) -> bool {
        let roomy = [node.options_of(0), node.options_of(FIRST_COLUMN)];
        let roomy = roomy.iter().all(|options| options.is_roomy());
        for _ in 0..ROUNDS {
            let mut hits = 0;
            let mut failed = 0;
            for _ in 0..2 {
                (hits, failed) = (0, 0);
                for key in keys_of(false).chain(keys_of(true)) {
                    let until = Instant::now() + ms(node.options_of(key).longest_read());
                    let read = node.read((index, key), key, false, How::Lookup);
                    let Ok(answer) = tokio::time::timeout_at(until, read).await else {
                        return false;
                    };
                    let hit = Answer::Got(Outcome::Hit);
                    hits += u64::from(answer == hit || answer == Answer::Got(Outcome::Negative));
                    failed += u64::from(answer == Answer::Failed);
                }
            }
            if if roomy { hits == KEYS } else { failed == 0 } {
                return true;
            }
            step();
            sleep(ms(50)).await;
        }
        false
    }
}

/// What an instance has done, before it is gone.
pub(super) fn count(totals: &mut BTreeMap<&'static str, u64>, node: &Node) {
    let mut add = |name: &'static str, count: u64| *totals.entry(name).or_default() += count;
    for (name, count) in internals::counters(&node.instance) {
        add(name, count);
    }
    for cache in [node.cache(false), node.cache(true)] {
        let stats = cache.stats();
        add("hits", stats.hits + stats.negative_hits);
        add("coalesced", stats.coalesced);
        add("discarded", stats.loads_discarded);
        add("evictions", stats.evictions);
        for (name, count) in internals::cache_counters(cache) {
            add(name, count);
        }
    }
}
