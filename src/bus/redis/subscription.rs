//! The connection that listens: subscribes to every lane, proves it, and delivers what comes.
//!
//! fred's `subscribe` returns before its command is written, and a refusal reaches whichever command
//! is waiting for an answer at that moment, or nobody. So a subscription is proven by what the server
//! says of this connection, asked behind it: `CLIENT INFO` counts the channels it is subscribed to.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use fred::bytes_utils::Str;
use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike, PubsubInterface};
use fred::types::Message;
use tokio::select;
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::link::{Link, options, ping, subscribed};
use super::node::Node;
use super::status::Status;
use super::{fault, scripts, wire};
use crate::bus::{BusEvent, EVENT_QUEUE, GapCause, MAX_PAYLOAD, Mend};
use crate::metrics::Kind;
use crate::{Error, ErrorKind};

/// Delivered messages that may wait between fred and [`Listener`], which only passes them on.
///
/// With a full socket fred reads some 9,000 messages of 100 bytes before its task pauses; with room
/// for 8,192 a flood of 200,000 lost some, with this none. It costs 11 MB (fred makes eight such queues).
const PUSHES: usize = EVENT_QUEUE;

/// What a message takes in the queue beyond its payload.
const PLACE: usize = 64;

/// What is to be done about the subscription; the greater includes the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// See whether the connection still answers.
    Check = 1,
    Resubscribe = 2,
    Reconnect = 3,
}

impl From<Mend> for Care {
    fn from(how: Mend) -> Self {
        match how {
            Mend::Resubscribe => Self::Resubscribe,
            Mend::Reconnect => Self::Reconnect,
        }
    }
}

/// What others may ask of the subscription, and how it is.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    /// The greatest [`Care`] asked for, or 0.
    asked: AtomicU8,
    ask: Notify,
    pub(super) status: watch::Sender<Status>,
}

impl Subscription {
    pub(super) fn ask(&self, care: Care) {
        self.asked.fetch_max(care as u8, Ordering::AcqRel);
        self.ask.notify_one();
    }

    fn take(&self) -> Option<Care> {
        match self.asked.swap(0, Ordering::AcqRel) {
            0 => None,
            1 => Some(Care::Check),
            2 => Some(Care::Resubscribe),
            _ => Some(Care::Reconnect),
        }
    }
}

/// A round trip under way.
struct Proof {
    began: Instant,
    /// The lanes whose subscription it proves; none if only that the connection answers.
    lanes: Vec<u32>,
    answer: Pin<Box<dyn Future<Output = Result<(), FredError>> + Send>>,
}

impl Proof {
    fn subscribes(&self) -> bool {
        !self.lanes.is_empty()
    }
}

/// A payload, and the room that it takes in the queue until its consumer is done with it.
struct Queued {
    payload: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Queued {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

/// Keeps the subscription until the bus is closed or nobody takes the events.
pub(super) async fn run(node: Arc<Node>, events: mpsc::Sender<BusEvent>) {
    let lanes = node.common.names.iter().zip(0u32..);
    let lanes: HashMap<Str, u32> = lanes
        .map(|(names, lane)| (names.channel.clone(), lane))
        .collect();
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let mut listener = Listener {
            node: &node,
            events: &events,
            lanes: &lanes,
            proof: None,
            proven: false,
            heard: began,
            lost: None,
        };
        let end = select! {
            biased;
            () = node.closed() => None,
            () = events.closed() => return,
            end = listener.serve() => Some(end),
        };
        let proven = listener.proven;
        let Some(end) = end else {
            // The lanes live elsewhere now, and what was published there may be missed.
            if proven && !node.common.is_closed() {
                let _ = events.send(BusEvent::Gap(GapCause::Disconnected)).await;
            }
            return;
        };
        node.lost("subscription", &node.subscription.status, end);
        let gap = BusEvent::Gap(GapCause::Disconnected);
        if proven && events.send(gap).await.is_err() {
            return;
        }
        select! {
            biased;
            () = node.closed() => return,
            () = backoff.wait(began) => {}
        }
    }
}

/// One connection's listening.
struct Listener<'a> {
    node: &'a Node,
    events: &'a mpsc::Sender<BusEvent>,
    lanes: &'a HashMap<Str, u32>,
    proof: Option<Proof>,
    /// [`BusEvent::Subscribed`] was delivered.
    proven: bool,
    /// When the connection last showed that it lives.
    heard: Instant,
    /// Events were dropped because the queue was full; what its next event is to say.
    lost: Option<GapCause>,
}

impl Listener<'_> {
    /// From the connection's opening to its end; returns why it ended.
    async fn serve(&mut self) -> Error {
        // What was asked of the connection before does not concern this one.
        self.node.subscription.take();
        let traffic = &self.node.common.config.traffic;
        let (mut link, mut messages) = match Link::open(&self.node.target, traffic, PUSHES).await {
            Ok(open) => open,
            Err(error) => return fault::from_fred(&error),
        };
        self.subscribe(link.client());
        loop {
            select! {
                error = link.lost() => {
                    if self.proven {
                        self.drain(&mut messages);
                    }
                    return fault::from_fred(&error);
                }
                // Not before the subscription is proven: its first event says so.
                message = messages.recv(), if self.proven => {
                    self.heard = Instant::now();
                    self.deliver(message).await;
                    self.drain(&mut messages);
                }
                () = vacancy(self.node, self.events), if self.lost.is_some() => {
                    let cause = self.lost.take().unwrap_or(GapCause::Lagged);
                    self.pass(BusEvent::Gap(cause));
                }
                answer = answer(&mut self.proof) => {
                    match answer {
                        Ok(()) => self.answered(link.client()),
                        Err(error) if self.is_only_late(&error) => self.proof = None,
                        Err(error) => return self.refused(&error),
                    }
                    self.heard = Instant::now();
                }
                () = self.node.subscription.ask.notified() => match self.node.subscription.take() {
                    Some(Care::Reconnect) => {
                        let why = "the subscription did not deliver; connecting again";
                        return Error::new(ErrorKind::Bus, why);
                    }
                    Some(Care::Resubscribe) => self.subscribe(link.client()),
                    Some(Care::Check) if self.proof.is_none() => self.check(link.client()),
                    Some(Care::Check) | None => {}
                },
            }
        }
    }

    /// Begins to subscribe to every lane's channel and to prove it, unless that is under way.
    fn subscribe(&mut self, client: &Client) {
        if self.proof.as_ref().is_some_and(Proof::subscribes) {
            return;
        }
        let lanes = self.node.lanes();
        let names = &self.node.common.names;
        let channels: Vec<Str> = lanes
            .iter()
            .map(|&lane| names[lane as usize].channel.clone())
            .collect();
        self.proof = Some(Proof {
            began: Instant::now(),
            lanes,
            answer: if self.node.common.sharded {
                Box::pin(subscribe_sharded(client, self.node, channels))
            } else {
                Box::pin(subscribe(client, self.node, channels))
            },
        });
    }

    /// Begins to see whether the connection answers.
    fn check(&mut self, client: &Client) {
        let answer = Box::pin(ping(client, self.node));
        self.proof = Some(Proof {
            began: Instant::now(),
            lanes: Vec::new(),
            answer,
        });
    }

    /// Whether a check went unanswered only because deliveries are in front of the answer.
    fn is_only_late(&self, error: &FredError) -> bool {
        let check = self.proof.as_ref().filter(|proof| !proof.subscribes());
        *error.kind() == FredKind::Timeout && check.is_some_and(|check| self.heard > check.began)
    }

    /// The proof failed.
    fn refused(&self, error: &FredError) -> Error {
        let subscribes = self.proof.as_ref().is_some_and(Proof::subscribes);
        if subscribes && fault::code(error) == "NOPERM" {
            let needed = if self.node.common.sharded {
                "ssubscribe"
            } else {
                "subscribe or client|info"
            };
            fault::refused(needed, &self.node.common.config.namespace)
        } else {
            fault::from_fred(error)
        }
    }

    /// The proof succeeded.
    fn answered(&mut self, client: &Client) {
        let Some(proof) = self.proof.take().filter(Proof::subscribes) else {
            return;
        };
        // Lanes that came while it was under way are not proven yet.
        if self
            .node
            .lanes()
            .iter()
            .any(|lane| !proof.lanes.contains(lane))
        {
            self.subscribe(client);
            return;
        }
        self.proven = true;
        self.node
            .restored("subscription", &self.node.subscription.status);
        self.pass(BusEvent::Subscribed);
    }

    async fn deliver(&mut self, message: Result<Message, RecvError>) {
        match message {
            Ok(message) => self.message(&message),
            Err(RecvError::Lagged(_)) => self.pass(BusEvent::Gap(GapCause::Lagged)),
            // Only a client that was quit closes it, which never happens; the link's end follows.
            Err(RecvError::Closed) => pending().await,
        }
    }

    fn message(&mut self, message: &Message) {
        let Some(&lane) = self.lanes.get(&message.channel) else {
            return;
        };
        let bytes = message.value.as_bytes().unwrap_or_default();
        let traffic = &self.node.common.config.traffic;
        traffic.received(
            Kind::Deliver,
            wire::push(self.node.common.sharded, message.channel.len(), bytes.len()),
        );
        let Some((position, payload)) = scripts::message(bytes) else {
            return self.pass(BusEvent::Garbled { lane });
        };
        let takes = u32::try_from(payload.len() + PLACE).unwrap_or(u32::MAX);
        let room = self.node.common.room.clone();
        match room.try_acquire_many_owned(takes) {
            Ok(room) => {
                let queued = Queued {
                    payload,
                    _room: room,
                };
                self.pass(BusEvent::Message {
                    lane,
                    position,
                    payload: Bytes::from_owner(queued),
                });
            }
            Err(_) => self.lose(GapCause::Lagged),
        }
    }

    /// Delivers what is waiting, without a pause in which fred could read on: its task reads some
    /// 10,000 messages a turn, and tokio would let this one take 128 before the next.
    fn drain(&mut self, messages: &mut broadcast::Receiver<Message>) {
        for _ in 0..PUSHES {
            match messages.try_recv() {
                Ok(message) => self.message(&message),
                Err(TryRecvError::Lagged(_)) => self.pass(BusEvent::Gap(GapCause::Lagged)),
                Err(_) => return,
            }
        }
    }

    /// Never waits: meanwhile fred's queue would fill with what nothing bounds in bytes. Where the
    /// consumer is behind, the event is dropped, and the next one that finds a place says so.
    fn pass(&mut self, event: BusEvent) {
        // 1: an event is dropped; 2: a place is free; 3: another event comes, which must not pass for
        // the next one after those before 1.
        if let Some(cause) = self.lost.take()
            && let Err(TrySendError::Full(_)) = self.events.try_send(BusEvent::Gap(cause))
        {
            self.lost = Some(cause);
        }
        let cause = match &event {
            BusEvent::Gap(cause) => *cause,
            BusEvent::Subscribed | BusEvent::Message { .. } | BusEvent::Garbled { .. } => {
                GapCause::Lagged
            }
        };
        // An error of the other kind means that the receiver of the events is gone, which `run` sees.
        if self.lost.is_some() || matches!(self.events.try_send(event), Err(TrySendError::Full(_)))
        {
            self.lose(cause);
        }
    }

    /// The graver cause stays.
    fn lose(&mut self, cause: GapCause) {
        if self.lost != Some(GapCause::Disconnected) {
            self.lost = Some(cause);
        }
    }
}

/// Waits until the queue has room for another message.
async fn vacancy(node: &Node, events: &mpsc::Sender<BusEvent>) {
    let largest = (MAX_PAYLOAD + PLACE) as u32;
    let room = node.common.room.acquire_many(largest).await;
    let place = events.reserve().await;
    // Neither is closed before `run` has seen it.
    if room.is_err() || place.is_err() {
        pending().await
    }
}

/// Subscribes to all channels and proves it.
fn subscribe(
    client: &Client,
    node: &Node,
    channels: Vec<Str>,
) -> impl Future<Output = Result<(), FredError>> + Send + use<> {
    let lengths: Vec<usize> = channels.iter().map(|channel| channel.len()).collect();
    let (sent, received) = wire::subscribe(&lengths);
    let proof = subscribed(client, node, channels.len());
    let client = client.with_options(&options(node.target.timeout()));
    let traffic = Arc::clone(&node.common.config.traffic);
    async move {
        traffic.sent(Kind::Connect, sent);
        client.subscribe(channels).await?;
        proof.await?;
        traffic.received(Kind::Connect, received);
        Ok(())
    }
}

/// As [`subscribe`], in a cluster. One channel a call: of several acknowledgements fred takes all but
/// one for the answers to later commands. Each is waited for and reports a refusal, so it is the proof.
fn subscribe_sharded(
    client: &Client,
    node: &Node,
    channels: Vec<Str>,
) -> impl Future<Output = Result<(), FredError>> + Send + use<> {
    let client = client.with_options(&options(node.target.timeout()));
    let traffic = Arc::clone(&node.common.config.traffic);
    async move {
        for channel in channels {
            let (sent, received) = wire::ssubscribe(channel.len());
            traffic.sent(Kind::Connect, sent);
            client.ssubscribe(channel).await?;
            traffic.received(Kind::Connect, received);
        }
        Ok(())
    }
}

/// The answer to the round trip under way, if one is.
async fn answer(proof: &mut Option<Proof>) -> Result<(), FredError> {
    match proof {
        Some(proof) => proof.answer.as_mut().await,
        None => pending().await,
    }
}
