//! The subscription to the lanes of one server: subscribes to every lane, proves it, and delivers what comes.

mod exchange;
mod listener;
mod queue;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::listener::Listener;
use super::action::Action;
use super::peer::Peer;
use super::retry::Retry;
use super::status::Status;
use crate::bus::{BusEvent, GapCause};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Subscription {
    peer: Arc<Peer>,
    pub(super) status: watch::Sender<Status>,
}

impl Subscription {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        Self {
            peer,
            status: watch::Sender::default(),
        }
    }

    /// Asks for something to be done about it; returns at once.
    pub(super) fn ask(&self, action: Action) {
        self.peer.actions.ask(action);
    }

    /// Keeps the subscription until the bus is closed or the receiver of the events is gone.
    pub(super) async fn run(self: Arc<Self>, events: mpsc::Sender<BusEvent>) {
        let peer = &*self.peer;
        let lanes = peer.common.names.iter().zip(0u32..);
        let lanes: HashMap<Vec<u8>, u32> = lanes
            .map(|(names, lane)| (names.channel.as_bytes().to_vec(), lane))
            .collect();
        let mut retry = Retry::default();
        loop {
            let began = Instant::now();
            let mut listener = Listener::new(peer, &self.status, &lanes, &events);
            let end = select! {
                biased;
                () = peer.closed() => None,
                () = events.closed() => return,
                end = listener.serve() => Some(end),
            };
            let proven = listener.proven;
            let Some(end) = end else {
                // The lanes live elsewhere now, and what was published there may be missed.
                if proven && !peer.common.is_closed() {
                    let _ = events.send(BusEvent::Gap(GapCause::Disconnected)).await;
                }
                return;
            };
            peer.lost("subscription", &self.status, end);
            let gap = BusEvent::Gap(GapCause::Disconnected);
            if proven && events.send(gap).await.is_err() {
                return;
            }
            select! {
                biased;
                () = peer.closed() => return,
                () = retry.wait(began) => {}
            }
        }
    }
}
