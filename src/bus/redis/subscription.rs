//! The connection that listens: subscribes to every lane, proves it, and delivers what comes.

mod proof;
mod queue;

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;

use fred::bytes_utils::Str;
use fred::clients::Client;
use fred::error::Error as FredError;
use fred::types::Message;
use tokio::select;
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use self::proof::{Proof, answer};
use self::queue::{Queue, vacancy};
use super::action::Action;
use super::connection::{Connection, UNSUBSCRIBED};
use super::peer::Peer;
use super::retry::Retry;
use super::rights::MissingRight;
use super::status::Status;
use super::{error, renewal, scripts, values};
use crate::bus::{BusEvent, EVENT_QUEUE, GapCause};
use crate::metrics::Kind;
use crate::{Error, ErrorKind};

/// Delivered messages that may wait between fred and [`Listener`], which only passes them on.
///
/// With a full socket fred reads some 9,000 messages of 100 bytes before its task pauses; with room
/// for 8,192 a flood of 200,000 lost some, with this none. It costs 11 MB (fred makes eight such queues).
const PUSHES: usize = EVENT_QUEUE;

/// The subscription to the lanes of one server.
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
        let lanes: HashMap<Str, u32> = lanes
            .map(|(names, lane)| (names.channel.clone(), lane))
            .collect();
        let mut retry = Retry::default();
        loop {
            let began = Instant::now();
            let mut listener = Listener {
                peer,
                status: &self.status,
                lanes: &lanes,
                events: &events,
                queue: Queue::new(&events, &peer.common.room),
                proof: None,
                proven: false,
                heard: began,
            };
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

/// One connection's listening.
struct Listener<'a> {
    peer: &'a Peer,
    status: &'a watch::Sender<Status>,
    /// By channel.
    lanes: &'a HashMap<Str, u32>,
    events: &'a mpsc::Sender<BusEvent>,
    queue: Queue<'a>,
    proof: Option<Proof>,
    /// [`BusEvent::Subscribed`] was delivered.
    proven: bool,
    /// When the connection last showed that it lives.
    heard: Instant,
}

impl Listener<'_> {
    /// From the connection's opening to its end; returns why it ended.
    async fn serve(&mut self) -> Error {
        let peer = self.peer;
        // What was asked of the connection before does not concern this one.
        peer.actions.take();
        let traffic = &peer.common.config.traffic;
        let (mut connection, mut messages) =
            match Connection::open(&peer.target, traffic, PUSHES).await {
                Ok(open) => open,
                Err(error) => return peer.explained(&error),
            };
        let client = connection.client().clone();
        let renewals = renewal::keep(&client, peer, connection.version());
        tokio::pin!(renewals);
        self.subscribe(connection.client());
        let keepalive = peer.target.times().keepalive;
        loop {
            select! {
                // Proxies on the way end connections that are silent.
                () = sleep_until(self.heard + keepalive), if self.proof.is_none() => {
                    self.proof = Some(Proof::check(connection.client(), peer));
                }
                never = &mut renewals => match never {},
                error = connection.lost() => {
                    if self.proven {
                        self.drain(&mut messages);
                    }
                    return error::from_fred(&error);
                }
                // Not before the subscription is proven: its first event says so.
                message = messages.recv(), if self.proven => {
                    self.heard = Instant::now();
                    self.deliver(message).await;
                    self.drain(&mut messages);
                }
                () = vacancy(self.events, &peer.common.room), if self.queue.owes_a_gap() => {
                    self.queue.report_gap();
                }
                answer = answer(&mut self.proof) => {
                    match answer {
                        Ok(()) => self.answered(connection.client()),
                        Err(error) if self.is_only_late(&error) => self.proof = None,
                        Err(error) => return self.refused(&error),
                    }
                    self.heard = Instant::now();
                }
                action = peer.actions.next() => match action {
                    Some(Action::Reconnect) => {
                        let why = "the subscription did not deliver; connecting again";
                        return Error::new(ErrorKind::Bus, why);
                    }
                    Some(Action::Resubscribe) => self.subscribe(connection.client()),
                    Some(Action::Check) if self.proof.is_none() => {
                        self.proof = Some(Proof::check(connection.client(), peer));
                    }
                    Some(Action::Check) | None => {}
                },
            }
        }
    }

    /// Begins to subscribe to every lane's channel and to prove it, unless that is under way.
    fn subscribe(&mut self, client: &Client) {
        if !self.proof.as_ref().is_some_and(Proof::subscribes) {
            self.proof = Some(Proof::subscribe(client, self.peer, self.peer.lanes()));
        }
    }

    fn is_only_late(&self, error: &FredError) -> bool {
        let proof = self.proof.as_ref();
        proof.is_some_and(|proof| proof.is_only_late(error, self.heard))
    }

    /// The proof failed.
    fn refused(&self, error: &FredError) -> Error {
        if error.details() != UNSUBSCRIBED {
            return self.peer.explained(error);
        }
        let command = if self.peer.common.sharded {
            "ssubscribe"
        } else {
            "subscribe"
        };
        let either = [
            MissingRight::Command(command.to_owned()),
            MissingRight::Channels,
        ];
        self.peer.lacks(either)
    }

    /// The proof succeeded.
    fn answered(&mut self, client: &Client) {
        let Some(proof) = self.proof.take().filter(Proof::subscribes) else {
            return;
        };
        // Lanes that came while it was under way are not proven yet.
        if !proof.covers(&self.peer.lanes()) {
            self.subscribe(client);
            return;
        }
        self.proven = true;
        self.peer.restored("subscription", self.status);
        self.queue.pass(BusEvent::Subscribed);
    }

    async fn deliver(&mut self, message: Result<Message, RecvError>) {
        match message {
            Ok(message) => self.message(&message),
            Err(RecvError::Lagged(_)) => self.queue.pass(BusEvent::Gap(GapCause::Lagged)),
            // Only a client that was quit closes it, which never happens; the connection's end follows.
            Err(RecvError::Closed) => pending().await,
        }
    }

    fn message(&mut self, message: &Message) {
        let Some(&lane) = self.lanes.get(&message.channel) else {
            return;
        };
        let bytes = message.value.as_bytes().unwrap_or_default();
        let common = &self.peer.common;
        common.config.traffic.received(
            Kind::Deliver,
            values::push(common.sharded, message.channel.len(), bytes.len()),
        );
        match scripts::message(bytes) {
            Some((position, payload)) => self.queue.message(lane, position, payload),
            None => self.queue.pass(BusEvent::Garbled { lane }),
        }
    }

    /// Delivers what is waiting, without a pause in which fred could read on: its task reads some
    /// 10,000 messages a turn, and tokio would let this one take 128 before the next.
    fn drain(&mut self, messages: &mut broadcast::Receiver<Message>) {
        for _ in 0..PUSHES {
            match messages.try_recv() {
                Ok(message) => self.message(&message),
                Err(TryRecvError::Lagged(_)) => self.queue.pass(BusEvent::Gap(GapCause::Lagged)),
                Err(_) => return,
            }
        }
    }
}
