//! Runs a schedule.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use tokio::time::{Instant, advance, sleep_until};
use unstale::internals::Without;
use unstale::internals::{self, Timeline};
use unstale::testing::Snapshot;
use unstale::{InstanceState, Key, LocalBus};

use crate::fleet::{Node, ms};
use crate::heal::count;
use crate::log::{Log, Shared};
use crate::mind;
use crate::relay::Relay;
use crate::schedule::*;
use crate::source::{NO_NODE, Source, Version};
use crate::watch::{Hangs, step, take_panics, watched};

/// What a run has shown.
pub(crate) struct Ran {
    pub(crate) started: Instant,
    pub(crate) log: Log,
    pub(crate) versions: Vec<Version>,
    pub(crate) timeline: Timeline,
    pub(crate) schedule: Schedule,
    /// Reads of this step and later ones were made once all faults had stopped.
    pub(crate) end: usize,
    /// The numbers of the connections of the instances that were alive then.
    pub(crate) alive: Vec<usize>,
    /// What else was wrong then.
    pub(crate) unhealed: Vec<String>,
}

/// Runs it on a thread and a runtime of its own.
pub(crate) fn run(schedule: &Schedule) -> Result<Ran, Hangs> {
    let schedule = schedule.clone();
    watched(move || {
        let _without = schedule.without.map(Without::new);
        internals::seed(schedule.seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime needs no more than memory");
        let mut ran = runtime.block_on(async { World::new(&schedule).await.run().await });
        (0..ran.schedule.nodes.len()).for_each(mind::move_out);
        ran.unhealed.extend(take_panics());
        ran
    })
}

pub(super) struct World<'a> {
    pub(super) schedule: &'a Schedule,
    started: Instant,
    pub(super) bus: LocalBus,
    pub(super) source: Source,
    pub(super) shared: Shared,
    pub(super) nodes: BTreeMap<usize, Node>,
    /// Places whose instance does not run for the moment.
    stalled: Vec<usize>,
    /// Connections with which something was wrong at some time.
    tainted: Vec<usize>,
    all_tainted: bool,
    /// What the server held when it was copied last.
    copy: Option<Snapshot>,
    pub(super) relays: Vec<Relay>,
}

impl<'a> World<'a> {
    async fn new(schedule: &'a Schedule) -> Self {
        let bus = LocalBus::default();
        internals::keep_timeline(&bus);
        let mut world = Self {
            schedule,
            started: Instant::now(),
            source: {
                internals::pause_deliveries(&bus, ms(schedule.pause));
                Source::new(bus.clone())
            },
            bus,
            shared: Shared::default(),
            nodes: BTreeMap::new(),
            stalled: Vec::new(),
            tainted: Vec::new(),
            all_tainted: false,
            copy: None,
            relays: Vec::new(),
        };
        for (place, settings) in schedule.nodes.iter().enumerate() {
            if !settings.late {
                world.start(place, false).await;
            }
        }
        world.on_relay(RelayFault::Start).await;
        world
    }

    pub(super) async fn start(&mut self, place: usize, silent: bool) {
        let parts = (&self.bus, &self.source, &self.shared);
        let Slot::Vacant(slot) = self.nodes.entry(place) else {
            return;
        };
        let node = Node::start(self.schedule, place, silent, parts).await;
        // One with another number of lanes is refused, if the server answers.
        let Ok(node) = node else {
            return self.shared.log().count("starts_refused", 1);
        };
        if silent {
            self.tainted.push(node.number);
            let degraded = u64::from(node.instance.health().state == InstanceState::Degraded);
            self.shared.log().count("degraded_starts", degraded);
        }
        slot.insert(node);
    }

    async fn run(mut self) -> Ran {
        for (index, of) in self.schedule.steps.iter().enumerate() {
            sleep_until(self.started + ms(of.at)).await;
            step();
            self.shared.log().count(of.what.name(), 1);
            self.step(index, of.what).await;
        }
        let unhealed = self.heal().await;
        let mut log = std::mem::take(&mut *self.shared.log());
        for node in self.nodes.values() {
            count(&mut log.totals, node);
        }
        for (name, times) in mind::take_done() {
            log.count(name, times);
        }
        for options in [&self.schedule.rows, &self.schedule.columns] {
            for (name, used) in options.used() {
                log.count(name, u64::from(used));
            }
        }
        let fits = |node: &&Node| node.settings.lanes.is_none();
        Ran {
            end: self.schedule.steps.len() + 1,
            alive: self
                .nodes
                .values()
                .filter(fits)
                .map(|node| node.number)
                .collect(),
            started: self.started,
            log,
            versions: self.source.versions(),
            timeline: internals::take_timeline(&self.bus),
            schedule: self.schedule.clone(),
            unhealed,
        }
    }

    fn clean(&self, node: &Node) -> bool {
        !self.all_tainted
            && !self.tainted.contains(&node.number)
            && self.schedule.nodes.iter().all(|of| of.lanes.is_none())
    }

    async fn step(&mut self, index: usize, what: What) {
        match what {
            What::Loader { before, after } => self.source.set_delays(before, after),
            What::LoaderFails(fails) => self.source.set_fails(fails),
            What::LoaderHangs(hangs) => self.source.set_hangs(hangs),
            What::Arm { node, spot, act } => mind::arm(node, spot, act),
            What::AtLanding { node } => self.at_landing(index, node),
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
                    mind::move_out(node.place);
                    count(&mut self.shared.log().totals, &node);
                    self.bus.faults(node.number).crash();
                    node.abort();
                }
            }
            What::PutSilently { key } => self.source.commit(key, NO_NODE, None),
            What::Relay(fault) => self.on_relay(fault).await,
            What::Start { node } => self.start(node, false).await,
            What::StartSilent { node, lasts } => {
                self.start(node, true).await;
                let Some(node) = self.nodes.get(&node) else {
                    return;
                };
                let faults = self.bus.faults(node.number);
                tokio::spawn(async move {
                    tokio::time::sleep(ms(lasts)).await;
                    faults.heal();
                });
            }
            What::Shutdown { node } => {
                if let Some(node) = self.nodes.remove(&node) {
                    mind::move_out(node.place);
                    count(&mut self.shared.log().totals, &node);
                    let instance = node.instance.clone();
                    tokio::spawn(async move { instance.shutdown().await });
                }
            }
            _ => self.call(index, what),
        }
    }

    fn at_landing(&self, index: usize, node: usize) {
        let Some(node) = self.nodes.get(&node).cloned() else {
            return;
        };
        let act = move |hash| {
            let landing = (0..KEYS).find(|key| key.digest() == Some(hash));
            if let Some(key) = landing {
                node.put_and_read(index, key);
            }
        };
        internals::before_next_landing(Some(Box::new(act)));
    }

    fn call(&self, id: usize, what: What) {
        let Some(place) = what.caller() else { return };
        let Some(node) = self
            .nodes
            .get(&place)
            .filter(|_| !self.stalled.contains(&place))
        else {
            return;
        };
        let (callee, clean) = (node.clone(), self.clean(node));
        match what {
            What::Read { key, how, .. } => node.call(async move {
                callee.read((id, 0), key, clean, how).await;
            }),
            What::ReadOften { key, reads, .. } => {
                node.call(callee.read_often(id, key, reads, clean));
            }
            What::ReadMany { .. } => node.call(async move { callee.read_many(id, clean).await }),
            What::ReadCancelled { key, after, .. } => node.call(async move {
                let read = callee.read((id, 0), key, clean, How::Lookup);
                let _ = tokio::time::timeout(ms(after), read).await;
            }),
            What::Preload { .. } => node.call(callee.preload()),
            What::Peek { .. } => callee.peek(id, clean),
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

    pub(super) fn on_link(&mut self, index: usize, place: usize, fault: LinkFault) {
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
            LinkFault::Refuse => faults.refuse(),
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
        let bus = &self.bus;
        match fault {
            ServerFault::Restart { losing } => bus.restart_losing(losing),
            ServerFault::RestartEmpty => bus.restart_empty(),
            ServerFault::FailOver { losing } => bus.fail_over_losing(losing),
            ServerFault::FailOverWithoutIntents { losing } => {
                bus.fail_over_losing(losing);
                bus.drop_intents();
            }
            ServerFault::Flush => bus.flush(),
            ServerFault::DropJournal => bus.drop_journal(),
            ServerFault::DropCounter => bus.drop_counter(),
            ServerFault::DropMembers => bus.drop_members(),
            ServerFault::DropIntents => bus.drop_intents(),
            ServerFault::DropShared => bus.drop_tier(),
            ServerFault::DropSharedRecord => bus.drop_tier_history(),
            ServerFault::DropSharedValues => bus.drop_tier_values(),
            ServerFault::SetBack { events } => bus.set_back(events),
            ServerFault::Copy => self.copy = Some(bus.snapshot()),
            ServerFault::Restore => {
                if let Some(copy) = &self.copy {
                    bus.restore(copy);
                }
            }
            ServerFault::StepClock { ms } => bus.step_server_clock(ms),
            ServerFault::Split { losing, isolated } => {
                let of = isolated;
                let isolated = self
                    .nodes
                    .values()
                    .filter(|node| isolated >> node.place & 1 == 1);
                let relays = self.relays.iter().map(|relay| relay.number);
                let relays = relays.filter(|_| of >> RELAYS & 1 == 1);
                let isolated = isolated.map(|node| node.number);
                let isolated: Vec<_> = isolated.chain(relays).collect();
                bus.split(losing, &isolated);
            }
            ServerFault::Unsplit => bus.unsplit(),
            ServerFault::Garbage => bus.publish_raw(0, &b"garbage"[..]),
        }
    }
}
