//! Runs a schedule.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::time::Duration;

use tokio::time::{Instant, advance, sleep, sleep_until};
use unstale::testing::inside::{self, History};
use unstale::{LocalBus, Outcome, State};

use crate::fleet::{Log, Node, Shared, keys_of, ms};
use crate::schedule::*;
use crate::source::{Source, Version};

/// How long a fleet may take to converge once all faults have stopped: a command that is lost (1 s),
/// the longest pause of a publisher (1 s), silence until a writer counts as dead, its deadline, and
/// a few verifications.
const HEAL: Duration = ms(1_000 + 1_000 + MEMBER_TIMEOUT + WRITE_TIMEOUT + 800);

/// How often it is looked whether it has.
const LOOK: Duration = ms(200);

/// Rounds of reads in which everything must come from memory once. What a late publication drops
/// takes a round more.
const ROUNDS: usize = 3;

/// What a run has shown.
pub(crate) struct Ran {
    pub(crate) started: Instant,
    pub(crate) log: Log,
    pub(crate) versions: Vec<Version>,
    pub(crate) history: History,
    pub(crate) schedule: Schedule,
    /// Reads of this step and later ones were made once all faults had stopped.
    pub(crate) end: usize,
    /// The numbers of the connections of those who lived to see it.
    pub(crate) alive: Vec<usize>,
    /// What else was wrong then.
    pub(crate) unhealed: Vec<String>,
}

/// Runs it on a runtime of its own.
pub(crate) fn run(schedule: &Schedule) -> Ran {
    inside::seed(schedule.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs no more than memory");
    runtime.block_on(async { World::new(schedule).await.run().await })
}

struct World<'a> {
    schedule: &'a Schedule,
    started: Instant,
    bus: LocalBus,
    source: Source,
    shared: Shared,
    nodes: BTreeMap<usize, Node>,
    /// Places whose instance does not run for the moment.
    stalled: Vec<usize>,
    /// Connections with which something was wrong at some time.
    tainted: Vec<usize>,
    all_tainted: bool,
}

impl<'a> World<'a> {
    async fn new(schedule: &'a Schedule) -> Self {
        let bus = LocalBus::default();
        bus.keep_history();
        let mut world = Self {
            schedule,
            started: Instant::now(),
            source: Source::new(bus.clone()),
            bus,
            shared: Shared::default(),
            nodes: BTreeMap::new(),
            stalled: Vec::new(),
            tainted: Vec::new(),
            all_tainted: false,
        };
        for place in 0..schedule.nodes.len() {
            world.start(place).await;
        }
        world
    }

    async fn start(&mut self, place: usize) {
        let parts = (&self.bus, &self.source, &self.shared);
        let (lanes, settings) = (self.schedule.lanes, self.schedule.nodes[place]);
        if let Slot::Vacant(slot) = self.nodes.entry(place) {
            slot.insert(Node::start(place, lanes, settings, parts).await);
        }
    }

    async fn run(mut self) -> Ran {
        for (index, step) in self.schedule.steps.iter().enumerate() {
            sleep_until(self.started + ms(step.at)).await;
            self.step(index, step.what).await;
        }
        let unhealed = self.heal().await;
        let mut log = std::mem::take(&mut *self.shared.log());
        for node in self.nodes.values() {
            count(&mut log.totals, node);
        }
        Ran {
            end: self.schedule.steps.len() + 1,
            alive: self.nodes.values().map(|node| node.number).collect(),
            started: self.started,
            log,
            versions: self.source.versions(),
            history: self.bus.take_history(),
            schedule: self.schedule.clone(),
            unhealed,
        }
    }

    fn clean(&self, node: &Node) -> bool {
        !self.all_tainted && !self.tainted.contains(&node.number)
    }

    async fn step(&mut self, index: usize, what: What) {
        match what {
            What::Loader { before, after } => self.source.set_delays(before, after),
            What::LoaderFails(fails) => self.source.set_fails(fails),
            What::Server(fault) => self.on_server(fault),
            What::Freeze { time } => {
                self.all_tainted = true;
                advance(ms(time)).await;
                for node in self.nodes.values() {
                    node.peek(index, false);
                }
            }
            What::Fault { node, fault } => self.on_link(index, node, fault),
            What::Crash { node } => {
                if let Some(node) = self.nodes.remove(&node) {
                    count(&mut self.shared.log().totals, &node);
                    self.bus.faults(node.number).crash();
                    node.abort();
                }
            }
            What::Start { node } => self.start(node).await,
            What::Shutdown { node } => {
                if let Some(node) = self.nodes.remove(&node) {
                    count(&mut self.shared.log().totals, &node);
                    let instance = node.instance.clone();
                    tokio::spawn(async move { instance.shutdown().await });
                }
            }
            What::Read { node, .. }
            | What::ReadMany { node }
            | What::ReadCancelled { node, .. }
            | What::Put { node, .. }
            | What::PutTag { node, .. }
            | What::PutAll { node, .. }
            | What::PutBatch { node, .. }
            | What::Write { node, .. }
            | What::Flood { node, .. } => self.call(index, node, what),
        }
    }

    fn call(&self, id: usize, place: usize, what: What) {
        let Some(node) = self
            .nodes
            .get(&place)
            .filter(|_| !self.stalled.contains(&place))
        else {
            return;
        };
        let (callee, clean) = (node.clone(), self.clean(node));
        match what {
            What::Read { key, .. } => node.call(async move {
                callee.read((id, 0), key, clean).await;
            }),
            What::ReadMany { .. } => node.call(async move { callee.read_many(id, clean).await }),
            What::ReadCancelled { key, after, .. } => node.call(async move {
                let read = callee.read((id, 0), key, clean);
                let _ = tokio::time::timeout(ms(after), read).await;
            }),
            What::Put {
                key, publish_after, ..
            } => node.call(callee.put(key, publish_after)),
            What::PutTag { column, odd, .. } => node.call(callee.put_tag(column, odd)),
            What::PutAll { column, .. } => node.call(callee.put_all(column)),
            What::PutBatch { keys, .. } => node.call(callee.put_batch(keys)),
            What::Write { key, commit, .. } => node.call(callee.write(key, commit)),
            What::Flood { keys, .. } => node.call(callee.flood(keys)),
            _ => {}
        }
    }

    fn on_link(&mut self, index: usize, place: usize, fault: LinkFault) {
        let Some(node) = self.nodes.get(&place) else {
            return;
        };
        self.tainted.push(node.number);
        let faults = self.bus.faults(node.number);
        match fault {
            LinkFault::Cut => faults.cut(),
            LinkFault::Silence => faults.silence(),
            LinkFault::Heal => faults.heal(),
            LinkFault::Unsubscribe => faults.unsubscribe(),
            LinkFault::Deafen => faults.deafen(),
            LinkFault::Mute => faults.mute(),
            LinkFault::LoseReplies => faults.lose_replies(),
            LinkFault::Slow(request, reply) => faults.slow(ms(request), ms(reply)),
            LinkFault::Stall => {
                faults.stall();
                self.stalled.push(place);
            }
            LinkFault::Release | LinkFault::EndAll | LinkFault::ReleaseReversed => {
                // A caller may run before anything that the instance missed.
                if self.stalled.contains(&place) {
                    node.peek(index, false);
                    self.stalled.retain(|stalled| *stalled != place);
                }
                match fault {
                    LinkFault::Release => faults.release(),
                    LinkFault::ReleaseReversed => faults.release_reordered(),
                    _ => faults.end_all(),
                }
            }
            LinkFault::Hold => faults.hold(),
            LinkFault::Lose(deliveries) => faults.lose_next(deliveries),
            LinkFault::Duplicate(deliveries) => faults.duplicate_next(deliveries),
            LinkFault::Garble => faults.garble_next(),
            LinkFault::Delay(delay) => faults.delay(ms(delay)),
            LinkFault::FailPublish(publishes) => faults.fail_next_publish(publishes),
            LinkFault::LoseAck(publishes) => faults.lose_next_ack(publishes),
            LinkFault::PausePublish => faults.pause_publish(),
            LinkFault::ResumePublish => faults.resume_publish(),
        }
    }

    fn on_server(&mut self, fault: ServerFault) {
        self.all_tainted = true;
        match fault {
            ServerFault::Restart { losing } => self.bus.restart_losing(losing),
            ServerFault::RestartEmpty => self.bus.restart_empty(),
            ServerFault::FailOver { losing } => self.bus.fail_over_losing(losing),
            ServerFault::Flush => self.bus.flush(),
            ServerFault::DropJournal => self.bus.drop_journal(),
            ServerFault::DropCounter => self.bus.drop_counter(),
            ServerFault::DropMembers => self.bus.drop_members(),
            ServerFault::Split { losing, isolated } => {
                let isolated = self
                    .nodes
                    .values()
                    .filter(|node| isolated >> node.place & 1 == 1);
                let isolated: Vec<_> = isolated.map(|node| node.number).collect();
                self.bus.split(losing, &isolated);
            }
            ServerFault::Unsplit => self.bus.unsplit(),
            ServerFault::Garbage => self.bus.publish_raw(0, &b"garbage"[..]),
        }
    }

    /// All faults stop, and the fleet must be as if there had been none.
    async fn heal(&mut self) -> Vec<String> {
        self.source.set_delays(0, 0);
        self.source.set_fails(false);
        self.bus.unsplit();
        let last = self.schedule.steps.len();
        for place in 0..self.schedule.nodes.len() {
            self.on_link(last, place, LinkFault::EndAll);
            self.start(place).await;
        }
        // What was begun last gets its turn first.
        sleep(LOOK).await;
        let until = Instant::now() + HEAL;
        while Instant::now() < until && !self.is_well() {
            sleep(LOOK).await;
        }
        let mut wrong = Vec::new();
        // The first events after a subscription was lost are not heard by it; after these it is
        // mended.
        for _ in 0..2 {
            self.write_everywhere().await;
            sleep(ms(450)).await;
        }
        for node in self.nodes.values() {
            let health = node.instance.health();
            if health.state != State::Coherent || health.open_writes > 0 {
                wrong.push(format!("instance {} is not well: {health:?}", node.place));
            }
            if !self.all_hits(last, node).await {
                wrong.push(format!(
                    "instance {} does not answer from memory",
                    node.place
                ));
            }
        }
        self.write_everywhere().await;
        sleep(ms(1)).await;
        for node in self.nodes.values() {
            for key in 0..KEYS {
                node.read((last + 1, key), key, true).await;
            }
        }
        wrong
    }

    fn is_well(&self) -> bool {
        self.nodes.values().all(|node| {
            let health = node.instance.health();
            health.state == State::Coherent && health.open_writes == 0
        })
    }

    async fn write_everywhere(&self) {
        for node in self.nodes.values() {
            node.clone().put(node.place as u64, 0).await;
        }
    }

    async fn all_hits(&self, index: usize, node: &Node) -> bool {
        for _ in 0..ROUNDS {
            let mut hits = 0;
            for _ in 0..2 {
                hits = 0;
                for key in keys_of(false).chain(keys_of(true)) {
                    let outcome = node.read((index, key), key, false).await;
                    hits += u64::from(matches!(outcome, Some(Outcome::Hit | Outcome::Negative)));
                }
            }
            if hits == KEYS {
                return true;
            }
            sleep(ms(50)).await;
        }
        false
    }
}

/// What an instance has done, before it is gone.
fn count(totals: &mut BTreeMap<&'static str, u64>, node: &Node) {
    for (name, count) in inside::counters(&node.instance) {
        *totals.entry(name).or_default() += count;
    }
    for stats in [node.cache(false).stats(), node.cache(true).stats()] {
        let counts = [
            ("hits", stats.hits + stats.negative_hits),
            ("coalesced", stats.coalesced),
            ("discarded", stats.loads_discarded),
        ];
        for (name, count) in counts {
            *totals.entry(name).or_default() += count;
        }
    }
}
