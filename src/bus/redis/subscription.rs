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
use std::time::Duration;

use fred::bytes_utils::Str;
use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike, PubsubInterface};
use fred::types::Message;
use tokio::select;
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::link::{Link, options, ping, subscribed};
use super::status::Status;
use super::{Shared, fault, scripts, wire};
use crate::bus::{BusEvent, EVENT_QUEUE, GapCause, Mend};
use crate::metrics::Kind;
use crate::{Error, ErrorKind};

/// Delivered messages that may wait between fred and [`Listener`], which only passes them on.
///
/// With a full socket fred reads some 9,000 messages of 100 bytes before its task pauses; with room
/// for 8,192 a flood of 200,000 lost some, with this none. It costs 11 MB (fred makes eight such queues).
const PUSHES: usize = EVENT_QUEUE;

/// How often a subscription that is otherwise silent is checked. It costs one round trip; a
/// peer that is gone without a word is noticed by the verifier earlier whenever events are missing.
const CHECK_EVERY: Duration = Duration::from_secs(5);

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
    /// Whether it proves a subscription, or only that the connection answers.
    subscribes: bool,
    answer: Pin<Box<dyn Future<Output = Result<(), FredError>> + Send>>,
}

/// Keeps the subscription until the bus is closed or nobody takes the events.
pub(super) async fn run(shared: Arc<Shared>, events: mpsc::Sender<BusEvent>) {
    let lanes = shared.names.iter().zip(0u32..);
    let lanes: HashMap<Str, u32> = lanes
        .map(|(names, lane)| (names.channel.clone(), lane))
        .collect();
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let mut listener = Listener {
            shared: &shared,
            events: &events,
            lanes: &lanes,
            proof: None,
            proven: false,
            heard: began,
        };
        let end = select! {
            biased;
            () = shared.closed() => return,
            () = events.closed() => return,
            end = listener.serve() => end,
        };
        let proven = listener.proven;
        shared.lost("subscription", &shared.subscription.status, end);
        let gap = BusEvent::Gap(GapCause::Disconnected);
        if proven && events.send(gap).await.is_err() {
            return;
        }
        select! {
            biased;
            () = shared.closed() => return,
            () = backoff.wait(began) => {}
        }
    }
}

/// One connection's listening.
struct Listener<'a> {
    shared: &'a Shared,
    events: &'a mpsc::Sender<BusEvent>,
    lanes: &'a HashMap<Str, u32>,
    proof: Option<Proof>,
    /// [`BusEvent::Subscribed`] was delivered.
    proven: bool,
    /// When the connection last showed that it lives.
    heard: Instant,
}

impl Listener<'_> {
    /// From the connection's opening to its end; returns why it ended.
    async fn serve(&mut self) -> Error {
        // What was asked of the connection before does not concern this one.
        self.shared.subscription.take();
        let traffic = &self.shared.config.traffic;
        let (mut link, mut messages) = match Link::open(&self.shared.target, traffic, PUSHES).await
        {
            Ok(open) => open,
            Err(error) => return fault::from_fred(&error),
        };
        self.subscribe(link.client());
        loop {
            select! {
                error = link.lost() => {
                    if self.proven {
                        self.drain(&mut messages).await;
                    }
                    return fault::from_fred(&error);
                }
                // Not before the subscription is proven: its first event says so.
                message = messages.recv(), if self.proven => {
                    self.heard = Instant::now();
                    self.deliver(message).await;
                    self.drain(&mut messages).await;
                }
                answer = answer(&mut self.proof) => {
                    match answer {
                        Ok(()) => self.answered().await,
                        Err(error) if self.is_only_late(&error) => {}
                        Err(error) => return self.refused(&error),
                    }
                    self.heard = Instant::now();
                    self.proof = None;
                }
                () = self.shared.subscription.ask.notified() => match self.shared.subscription.take() {
                    Some(Care::Reconnect) => {
                        let why = "the subscription did not deliver; connecting again";
                        return Error::new(ErrorKind::Bus, why);
                    }
                    Some(Care::Resubscribe) => self.subscribe(link.client()),
                    Some(Care::Check) if self.proof.is_none() => self.check(link.client()),
                    Some(Care::Check) | None => {}
                },
                () = sleep_until(self.heard + CHECK_EVERY), if self.proof.is_none() => self.check(link.client()),
            }
        }
    }

    /// Begins to subscribe to every lane's channel and to prove it, unless that is under way.
    fn subscribe(&mut self, client: &Client) {
        if self.proof.as_ref().is_some_and(|proof| proof.subscribes) {
            return;
        }
        let channels: Vec<Str> = self
            .shared
            .names
            .iter()
            .map(|names| names.channel.clone())
            .collect();
        let lengths: Vec<usize> = channels.iter().map(|channel| channel.len()).collect();
        let (sent, received) = wire::subscribe(&lengths);
        let proof = subscribed(client, self.shared, channels.len());
        let client = client.with_options(&options(self.shared.target.timeout()));
        let traffic = Arc::clone(&self.shared.config.traffic);
        let answer = Box::pin(async move {
            traffic.sent(Kind::Connect, sent);
            client.subscribe(channels).await?;
            proof.await?;
            traffic.received(Kind::Connect, received);
            Ok(())
        });
        self.proof = Some(Proof {
            began: Instant::now(),
            subscribes: true,
            answer,
        });
    }

    /// Begins to see whether the connection answers.
    fn check(&mut self, client: &Client) {
        let answer = Box::pin(ping(client, self.shared));
        self.proof = Some(Proof {
            began: Instant::now(),
            subscribes: false,
            answer,
        });
    }

    /// Whether a check went unanswered only because deliveries are in front of the answer.
    fn is_only_late(&self, error: &FredError) -> bool {
        let check = self.proof.as_ref().filter(|proof| !proof.subscribes);
        *error.kind() == FredKind::Timeout && check.is_some_and(|check| self.heard > check.began)
    }

    /// The proof failed.
    fn refused(&self, error: &FredError) -> Error {
        let subscribes = self.proof.as_ref().is_some_and(|proof| proof.subscribes);
        if subscribes && fault::code(error) == "NOPERM" {
            fault::refused("subscribe or client|info", &self.shared.config.namespace)
        } else {
            fault::from_fred(error)
        }
    }

    /// The proof succeeded.
    async fn answered(&mut self) {
        if self.proof.as_ref().is_some_and(|proof| proof.subscribes) {
            self.proven = true;
            self.shared
                .restored("subscription", &self.shared.subscription.status);
            self.pass(BusEvent::Subscribed).await;
        }
    }

    async fn deliver(&mut self, message: Result<Message, RecvError>) {
        match message {
            Ok(message) => self.message(&message).await,
            Err(RecvError::Lagged(_)) => self.pass(BusEvent::Gap(GapCause::Lagged)).await,
            // Only a client that was quit closes it, which never happens; the link's end follows.
            Err(RecvError::Closed) => pending().await,
        }
    }

    async fn message(&mut self, message: &Message) {
        let Some(&lane) = self.lanes.get(&message.channel) else {
            return;
        };
        let bytes = message.value.as_bytes().unwrap_or_default();
        let traffic = &self.shared.config.traffic;
        traffic.received(
            Kind::Deliver,
            wire::push(message.channel.len(), bytes.len()),
        );
        self.pass(match scripts::message(bytes) {
            Some((position, payload)) => BusEvent::Message {
                lane,
                position,
                payload,
            },
            None => BusEvent::Garbled { lane },
        })
        .await;
    }

    /// Delivers what is waiting, without a pause in which fred could read on: its task reads some
    /// 10,000 messages a turn, and tokio would let this one take 128 before the next.
    async fn drain(&mut self, messages: &mut broadcast::Receiver<Message>) {
        for _ in 0..PUSHES {
            match messages.try_recv() {
                Ok(message) => self.message(&message).await,
                Err(TryRecvError::Lagged(_)) => self.pass(BusEvent::Gap(GapCause::Lagged)).await,
                Err(_) => return,
            }
        }
    }

    /// Waits where the consumer is behind; then fred's queue overflows, which is noticed as a lag.
    async fn pass(&mut self, event: BusEvent) {
        // `send` pauses now and then even where there is room; see `drain`.
        if let Err(TrySendError::Full(event)) = self.events.try_send(event) {
            // An error means that nobody takes events any more, which `run` sees.
            let _ = self.events.send(event).await;
        }
    }
}

/// The answer to the round trip under way, if one is.
async fn answer(proof: &mut Option<Proof>) -> Result<(), FredError> {
    match proof {
        Some(proof) => proof.answer.as_mut().await,
        None => pending().await,
    }
}
