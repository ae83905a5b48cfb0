//! What the connections to all servers of one bus share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Notify, Semaphore, watch};

use super::listen::Listen;
use super::scripts::Names;
use crate::bus::{BusConfig, EVENT_BYTES};
use crate::lock::Lock;
use crate::log::LogLimit;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) config: BusConfig,
    /// By lane.
    pub(super) names: Vec<Names>,
    /// Whether the lanes' channels are those of a cluster, each on its lane's node.
    pub(super) sharded: bool,
    /// Another server may take the place of one.
    pub(super) moves: bool,
    /// Where events are subscribed to.
    pub(super) listen: Listen,
    pub(super) closing: watch::Sender<bool>,
    /// Marked changed whenever a connection or the places of the lanes did.
    pub(super) changes: watch::Sender<()>,
    /// Wakes the routing task: a lane may have moved.
    pub(super) doubt: Notify,
    /// A server said that a lane has moved: the slots are looked up again.
    pub(super) moved: AtomicBool,
    /// This instance uses the shared tier.
    pub(super) shares: AtomicBool,
    /// The sources whose marks this instance asks for.
    pub(super) sources: Lock<Arc<[String]>>,
    /// Limits the log lines of refusals, which only an operator can end.
    pub(super) refusals: LogLimit,
    /// Bytes that the queue of events has room for.
    pub(super) room: Arc<Semaphore>,
}

impl Common {
    pub(super) fn new(names: Vec<Names>, config: BusConfig, sharded: bool) -> Self {
        Self {
            config,
            names,
            sharded,
            moves: sharded,
            listen: Listen::Primary,
            closing: watch::Sender::default(),
            changes: watch::Sender::default(),
            doubt: Notify::new(),
            moved: AtomicBool::new(false),
            shares: AtomicBool::new(false),
            sources: Lock::new(Arc::default()),
            refusals: LogLimit::default(),
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
