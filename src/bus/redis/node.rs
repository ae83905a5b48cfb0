//! One server as this bus uses it: two connections and the lanes that live there.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::select;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::commands::{self, Commands};
use super::fault::LogGate;
use super::link::Target;
use super::scripts::Names;
use super::subscription::{self, Care, Subscription};
use super::url::Place;
use crate::bus::{BusConfig, BusEvent, EVENT_BYTES};
use crate::lock::Lock;

/// What all servers share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) config: BusConfig,
    /// By lane.
    pub(super) names: Vec<Names>,
    /// Whether the lanes' channels are those of a cluster, each on its lane's node.
    pub(super) sharded: bool,
    pub(super) closing: watch::Sender<bool>,
    /// Marked changed whenever a connection or the places of the lanes did.
    pub(super) changes: watch::Sender<()>,
    /// Somebody doubts that the lanes are where they are thought to be.
    pub(super) doubt: Notify,
    /// A server said so: the slots are looked up again.
    pub(super) moved: AtomicBool,
    /// This instance uses the shared tier.
    pub(super) shares: AtomicBool,
    pub(super) refusals: LogGate,
    /// Bytes that the queue of events has room for.
    pub(super) room: Arc<Semaphore>,
}

impl Common {
    pub(super) fn new(names: Vec<Names>, config: BusConfig, sharded: bool) -> Self {
        Self {
            config,
            names,
            sharded,
            closing: watch::Sender::default(),
            changes: watch::Sender::default(),
            doubt: Notify::new(),
            moved: AtomicBool::new(false),
            shares: AtomicBool::new(false),
            refusals: LogGate::default(),
            room: Arc::new(Semaphore::new(EVENT_BYTES)),
        }
    }

    /// Waits until the bus is closed.
    pub(super) async fn closed(&self) {
        // The sender lives as long as `self`.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closing.borrow()
    }
}

/// See the module's documentation.
pub(super) struct Node {
    pub(super) common: Arc<Common>,
    pub(super) place: Place,
    pub(super) target: Target,
    pub(super) commands: Commands,
    pub(super) subscription: Subscription,
    lanes: Lock<Vec<u32>>,
    retired: watch::Sender<bool>,
}

impl Node {
    /// Begins to connect.
    pub(super) fn start(
        common: &Arc<Common>,
        place: Place,
        target: Target,
        lanes: Vec<u32>,
        tasks: &mut JoinSet<()>,
        events: &mpsc::Sender<BusEvent>,
    ) -> Arc<Self> {
        let node = Arc::new(Self {
            common: Arc::clone(common),
            place,
            target,
            commands: Commands::default(),
            subscription: Subscription::default(),
            lanes: Lock::new(lanes),
            retired: watch::Sender::default(),
        });
        let watched = &common.config.tasks;
        watched.spawn_into(tasks, "commands", commands::run(Arc::clone(&node)));
        let listens = subscription::run(Arc::clone(&node), events.clone());
        watched.spawn_into(tasks, "subscription", listens);
        node
    }

    /// Lanes that live here, in ascending order.
    pub(super) fn lanes(&self) -> Vec<u32> {
        self.lanes.lock().clone()
    }

    /// Lanes came or went. The subscription of those that came is proven like the first one.
    pub(super) fn set_lanes(&self, lanes: Vec<u32>) {
        let mut present = self.lanes.lock();
        let grew = lanes.iter().any(|lane| !present.contains(lane));
        *present = lanes;
        drop(present);
        if grew {
            self.subscription.ask(Care::Resubscribe);
        }
    }

    /// No lane lives here any more: the connections are dropped.
    pub(super) fn retire(&self) {
        self.retired.send_replace(true);
    }

    pub(super) fn is_retired(&self) -> bool {
        *self.retired.borrow()
    }

    /// Waits until this server is not used any more.
    pub(super) async fn closed(&self) {
        let mut retired = self.retired.subscribe();
        select! {
            biased;
            () = self.common.closed() => {}
            _ = retired.wait_for(|retired| *retired) => {}
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("place", &self.place)
            .field("lanes", &self.lanes())
            .field("connected", &self.commands.connected())
            .finish_non_exhaustive()
    }
}
