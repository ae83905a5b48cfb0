//! One server in use: the lanes that live there and its two connections, each kept up by a task.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::commands::Commands;
use super::common::Common;
use super::peer::Peer;
use super::subscription::Subscription;
use super::target::Target;
use crate::bus::BusEvent;
use crate::url::Place;

/// See the module's documentation.
pub(super) struct Node {
    pub(super) peer: Arc<Peer>,
    pub(super) commands: Arc<Commands>,
    pub(super) subscription: Arc<Subscription>,
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
        let peer = Peer::new(Arc::clone(common), place, target, lanes);
        let commands = Arc::new(Commands::new(Arc::clone(&peer)));
        let subscription = Arc::new(Subscription::new(Arc::clone(&peer)));
        let watched = &common.config.tasks;
        watched.spawn_into(tasks, "commands", Arc::clone(&commands).run());
        let listens = Arc::clone(&subscription).run(events.clone());
        watched.spawn_into(tasks, "subscription", listens);
        Arc::new(Self {
            peer,
            commands,
            subscription,
        })
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("place", &self.peer.place)
            .field("lanes", &self.peer.lanes())
            .field("connected", &self.commands.connected())
            .finish_non_exhaustive()
    }
}
