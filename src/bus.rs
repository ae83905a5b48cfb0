//! The bus: how instances hear of each other's invalidations.
//!
//! The rest of the crate sees [`Bus`] and the [`BusEvent`]s it delivers, nothing of Redis.
//! Delivery is at most once and may stop silently; the four round trips (publish, verify, journal,
//! announce) are what the protocol above it is built from.

pub(crate) mod local;
mod position;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod tier;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

pub(crate) use self::position::Position;
use crate::Error;
use crate::bus::tier::{ClaimId, Fetch, Fetched, Name, Put, Stored};
use crate::event::KeyPrint;
use crate::log::LogLimit;
use crate::metrics::Traffic;
use crate::tasks::Tasks;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Events a subscriber's queue holds before the bus reports [`GapCause::Lagged`].
/// At 100,000 messages a second this is 160 ms of an instance doing nothing else.
pub(crate) const EVENT_QUEUE: usize = 16_384;

/// Bytes that the messages in a subscriber's queue take at most, each with its place. Full messages of
/// our own are 8 KiB: 2,000 of them, of two million keys. What is beyond is read from the journal.
#[cfg(feature = "redis")]
pub(crate) const EVENT_BYTES: usize = 16 << 20;

/// Journal entries one [`Bus::journal`] call returns at most; the caller asks again for the rest.
pub(crate) const JOURNAL_PAGE: usize = 512;

/// Names one write: the instance's id and a number of its own, big-endian.
pub(crate) type IntentId = [u8; 16];

/// A write that is about to commit, as Redis keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Intent {
    pub(crate) id: IntentId,
    /// From now, by the server's clock.
    pub(crate) deadline: Duration,
    /// The event a peer publishes if this instance dies; it has no origin, so all instances apply it.
    pub(crate) payload: Bytes,
}

/// Which writes of an instance are open, of all to which it has given a number.
#[derive(Clone, Debug, Default)]
pub(crate) struct StillOpen {
    /// The highest number given out when this list was made.
    pub(crate) up_to: u64,
    pub(crate) intents: Vec<IntentId>,
}

/// What the instance that verifies knows of the lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) applied: Option<Position>,
    /// Another event was heard in a place of the same epoch that was passed.
    pub(crate) taken: bool,
}

impl Known {
    /// Returns the lowest head that this epoch may have, if the counter has not gone back.
    pub(crate) fn lowest(&self) -> Option<Position> {
        let Position { epoch, sequence } = self.applied?;
        let sequence = if self.taken { MAX_SEQUENCE } else { sequence };
        Some(Position { epoch, sequence })
    }
}

/// No sequence is as high: the scripts count exactly to 2^53.
const MAX_SEQUENCE: u64 = 1 << 53;

/// A cache of an instance, and the format of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheFormat {
    /// As events name it.
    pub id: u32,
    /// `Key::FORMAT` of its keys.
    pub format: u32,
}

/// A verification as its server has counted it, and the marks of the sources that this instance watches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Counted {
    /// Higher than that of every verification of the lane before; 0 where no source is watched.
    pub(crate) number: u64,
    /// For each source its place among those that are watched, and its mark in this epoch, if it has one.
    pub(crate) marks: Vec<(usize, Reached)>,
}

/// How far a relay has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reached {
    /// The number of a verification that was counted before the source's log was read.
    pub(crate) number: u64,
    /// Where the log ended when it was read: everything before is published.
    pub(crate) place: u64,
}

/// What a relay sets when everything that was committed in its source up to a moment is published.
#[cfg_attr(
    not(feature = "relay"),
    allow(dead_code, reason = "made by a relay only")
)]
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) source: String,
    /// None to begin a round.
    pub(crate) at: Option<MarkAt>,
    /// The relay that asks to be the only one, and for how long; no time gives the lease up. Asked of one lane.
    pub(crate) lease: Option<(u64, Duration)>,
}

/// What a mark says.
#[cfg_attr(
    not(feature = "relay"),
    allow(dead_code, reason = "made by a relay only")
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MarkAt {
    pub(crate) epoch: u64,
    pub(crate) reached: Reached,
    /// The sequence of the last event that the relay has published in this epoch: a lane that does not have it was
    /// put back to an earlier state.
    pub(crate) sequence: u64,
}

/// What a relay learns of a lane.
#[cfg_attr(
    not(feature = "relay"),
    allow(dead_code, reason = "read by a relay only")
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marked {
    /// 0 where the lane has none.
    pub(crate) epoch: u64,
    /// The number of the verification that was counted last; 0 where none is counted.
    pub(crate) number: u64,
    /// The mark was set: its epoch is the lane's.
    pub(crate) set: bool,
    /// Another relay has the lease.
    pub(crate) refused: bool,
}

/// The answer to a verification.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    pub(crate) head: Position,
    /// The fleet knew this instance. `false` at the first beat and after it was removed for its silence.
    pub(crate) known: bool,
    /// Intents of dead members that this beat published on their behalf.
    pub(crate) recovered: u32,
    /// In what time events up to the head have been delivered.
    pub(crate) wait: Duration,
    /// The pause between two messages to many subscribers.
    pub(crate) pause: Duration,
    /// The other members of the lane, where the fleet did not know this instance.
    pub(crate) others: Option<u32>,
    /// Its number, and what relays have marked.
    pub(crate) counted: Counted,
}

/// A page of the journal, oldest first, and the lane's head at the same moment.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    pub(crate) head: Position,
    pub(crate) events: Vec<(u64, Bytes)>,
}

/// Why events may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GapCause {
    /// The connection that carries the subscription was lost.
    Disconnected,
    /// This side was too slow, and its queue dropped messages.
    Lagged,
}

/// What the subscription delivers, in order.
#[derive(Clone, Debug)]
pub(crate) enum BusEvent {
    /// A round trip has proven that every lane's channel is subscribed from here on.
    Subscribed,
    /// Messages may have been lost before this point.
    Gap(GapCause),
    /// A message on a lane's channel.
    Message {
        lane: u32,
        position: Position,
        payload: Bytes,
    },
    /// Something on a lane's channel too short or too long to be a message.
    Garbled { lane: u32 },
}

/// How to repair a subscription that does not deliver although the server has events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubscriptionRepair {
    /// Subscribe again on the same connection.
    Resubscribe,
    /// Drop the connection and make a new one.
    Reconnect,
}

/// Which instances hear of each other's invalidations.
///
/// `Display` writes the value of the label `bus` of `unstale_settings_info`.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// use unstale::BusKind;
///
/// let bus = instance.health().bus;
/// assert_eq!((bus, bus.to_string().as_str()), (BusKind::Local, "local"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BusKind {
    /// Those of this process that share a [`LocalBus`](crate::LocalBus); without a Redis URL, this one alone.
    Local,
    /// Those of all processes that share a namespace on a Redis.
    Redis,
}

impl BusKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Redis => "redis",
        }
    }
}

impl fmt::Display for BusKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What every bus needs to know of the instance that it serves.
#[derive(Clone, Debug)]
pub(crate) struct BusConfig {
    pub(crate) namespace: String,
    pub(crate) instance: u64,
    pub(crate) lanes: u32,
    /// Events each lane's journal keeps; 0 keeps none.
    pub(crate) journal: u32,
    pub(crate) member_timeout: Duration,
    /// The fleet has a key: a MAC ends every event.
    pub(crate) signs: bool,
    /// The keys whose signatures are accepted; the first signs.
    #[cfg_attr(
        not(feature = "redis"),
        allow(dead_code, reason = "said of itself in Redis")
    )]
    pub(crate) keys: Vec<KeyPrint>,
    pub(crate) traffic: Arc<Traffic>,
    /// What is logged about a Redis that is away or slow, by the bus and by those above it.
    #[cfg_attr(
        not(feature = "redis"),
        allow(dead_code, reason = "used only over Redis")
    )]
    pub(crate) outages: Arc<LogLimit>,
    /// Where the bus' own tasks are watched.
    #[cfg_attr(
        not(feature = "redis"),
        allow(dead_code, reason = "used only over Redis")
    )]
    pub(crate) tasks: Arc<Tasks>,
}

/// One instance's access to all lanes.
///
/// Every call ends within a bounded time by itself, with an error of kind `Bus` (try again),
/// `Auth` or `Lanes` (an operator must act). Dropping a future never corrupts the bus, but what it
/// asked for may still happen.
pub(crate) trait Bus: Send + Sync + fmt::Debug {
    /// Gives the event the lane's next sequence, journals it, and delivers it to all subscribers, the
    /// publisher included, or has it wait for those that come after it; removes the intents. All that is
    /// one atomic step.
    fn publish(
        &self,
        lane: u32,
        payload: Bytes,
        clears: Vec<IntentId>,
    ) -> BoxFuture<'_, Result<Position, Error>>;

    /// Registers this instance as alive, publishes the open intents of members that are dead,
    /// and returns the lane's head after that.
    ///
    /// Case 1: the lane has no counter, or its server is another incarnation than the one that
    /// stored it: the lane begins a new epoch and its journal is deleted.
    /// Case 2: the lane was set up for another number of lanes: error `Lanes`, nothing is changed.
    /// Case 3: the head is below what the caller has applied of this epoch, or the caller has heard
    /// another event in a place that was passed: the counter went back. The lane begins a new epoch,
    /// for every instance: one that was away may find the counter where it had left it.
    fn verify_from(&self, lane: u32, known: Known) -> BoxFuture<'_, Result<Verified, Error>>;

    /// As [`verify_from`](Self::verify_from), of an instance that has applied nothing.
    #[cfg(test)]
    fn verify(&self, lane: u32) -> BoxFuture<'_, Result<Verified, Error>> {
        self.verify_from(lane, Known::default())
    }

    /// At most [`JOURNAL_PAGE`] events after `after`, and the head, read at one moment.
    fn journal(&self, lane: u32, after: u64) -> BoxFuture<'_, Result<Journal, Error>>;

    /// Announces intents and registers this instance as alive. Returns whether the fleet knew it, as in
    /// [`Verified::known`].
    fn announce(&self, lane: u32, intents: Vec<Intent>) -> BoxFuture<'_, Result<bool, Error>>;

    /// Clears the intents of this instance that are not open and whose number is not above
    /// [`StillOpen::up_to`].
    ///
    /// 1: the list is made, N is the highest number given out; 2: another write begins, gets N + 1 and is
    /// recorded; 3: the server clears what the list does not have, up to N, and leaves the one of 2
    /// alone. No number is given out twice, so that what 3 clears can never be open again.
    fn reconcile(&self, lane: u32, open: StillOpen) -> BoxFuture<'_, Result<(), Error>>;

    /// From now on this instance uses the shared tier: its verifications begin each lane's record,
    /// and from then on the events of all instances are recorded there in the same step.
    #[cfg_attr(
        not(feature = "shared"),
        allow(dead_code, reason = "used only with feature `shared`")
    )]
    fn share(&self);

    /// From now on verifications are counted, and answer with the marks of these sources.
    fn watch(&self, sources: Arc<[String]>);

    /// Sets a relay's mark in a lane, if the lane's epoch is still the mark's. Returns what the next round begins with.
    #[cfg_attr(
        not(feature = "relay"),
        allow(dead_code, reason = "called by a relay only")
    )]
    fn mark(&self, lane: u32, mark: Mark) -> BoxFuture<'_, Result<Marked, Error>>;

    /// Returns a value of the shared tier, if it counts; else, where asked for, the claim to load it.
    #[cfg_attr(
        not(feature = "shared"),
        allow(dead_code, reason = "used only with feature `shared`")
    )]
    fn fetch(&self, lane: u32, fetch: Fetch) -> BoxFuture<'_, Result<Fetched, Error>>;

    /// Stores a value, unless it was invalidated since its load began, and gives the claim up.
    #[cfg_attr(
        not(feature = "shared"),
        allow(dead_code, reason = "used only with feature `shared`")
    )]
    fn put(&self, lane: u32, put: Put) -> BoxFuture<'_, Result<Stored, Error>>;

    /// Gives a claim up without a value, so that another instance may load.
    #[cfg_attr(
        not(feature = "shared"),
        allow(dead_code, reason = "used only with feature `shared`")
    )]
    fn release(&self, lane: u32, name: Name, claim: ClaimId) -> BoxFuture<'_, Result<(), Error>>;

    /// Publishes with which key this instance signs and which keys it accepts, by the next verification of lane 0.
    fn set_keys(&self, keys: Vec<KeyPrint>) {
        let _ = keys;
    }

    /// Sets which caches this instance has, for programs that look from outside. Returns whether the next
    /// verification of lane 0 has something to publish.
    fn set_caches(&self, caches: &[CacheFormat]) -> bool {
        let _ = caches;
        false
    }

    /// Asks for the subscription to be repaired; returns at once, [`BusEvent::Subscribed`] follows.
    fn repair_subscription(&self, how: SubscriptionRepair);

    /// Returns whether the connection that carries commands is up, as far as is known.
    fn connected(&self) -> bool;

    /// Returns since when commands for this lane find no connection; `None` while there is one.
    fn away_since(&self, lane: u32) -> Option<Instant>;

    /// Leaves every lane (bounded), where only what is open keeps the instance a member, and closes the
    /// connections. Idempotent.
    fn close(&self, open: StillOpen) -> BoxFuture<'_, ()>;
}
