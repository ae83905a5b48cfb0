//! The subscription to the lanes of one server: subscribes to every lane, proves it, and delivers what comes.

mod exchange;
mod listener;
mod place;
mod queue;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::listener::Listener;
use self::place::Choice;
use super::action::Action;
use super::peer::Peer;
use super::retry::Retry;
use super::status::Status;
use crate::Error;
use crate::bus::{BusEvent, GapCause};

/// Why a connection is over.
enum End {
    /// The server has lost its lanes, or the bus is closed.
    Retired,
    /// There is a replica to subscribe at again.
    Moves,
    Lost(Error),
}

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
        let (mut retry, mut choice) = (Retry::default(), Choice::default());
        loop {
            let began = Instant::now();
            let target = select! {
                biased;
                () = peer.closed() => return,
                () = events.closed() => return,
                target = choice.next(peer) => target,
            };
            let mut listener = Listener::new(peer, &target, &self.status, &lanes, &events);
            let end = select! {
                biased;
                () = peer.closed() => End::Retired,
                () = events.closed() => return,
                () = choice.better(peer) => End::Moves,
                end = listener.serve() => End::Lost(end),
            };
            let proven = listener.proven;
            choice.ended();
            if let End::Lost(error) = &end {
                peer.lost("subscription", &self.status, error.clone());
            }
            // Events that were published since may be missed. A retired server's lanes are heard elsewhere.
            let gap = BusEvent::Gap(GapCause::Disconnected);
            let missed = proven && !peer.common.is_closed();
            if missed && events.send(gap).await.is_err() {
                return;
            }
            match end {
                End::Retired => return,
                End::Moves => {}
                End::Lost(_) => select! {
                    biased;
                    () = peer.closed() => return,
                    () = retry.wait(began) => {}
                },
            }
        }
    }
}
