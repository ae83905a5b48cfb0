//! The shared tier as a load sees it; [`crate::shared`] implements it.

#![cfg_attr(not(feature = "shared"), allow(dead_code, reason = "nobody asks"))]

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use crate::bus::shared::{Claim, ClaimId, Digest, Name, Subject};
use crate::bus::{BoxFuture, Position};
use crate::cache::inner::Inner;
use crate::core::Core;
use crate::flight::{From, Landing, Leader};
use crate::loader::Loaded;
use crate::store::stamps::Stamp;
use crate::time::Nanos;

/// Values that may also be found in Redis.
pub(crate) trait Tier<K, V>: Send + Sync {
    /// Has a flight's question asked, when its turn comes, by one of the few tasks that do.
    fn enqueue(&self, core: &Arc<Core>, job: Job);

    /// Looks once for the value of a flight; takes the flight's token first.
    fn read<'a>(
        &'a self,
        cache: &'a Arc<Inner<K, V>>,
        leader: &'a Leader<K, V>,
        wanted: Wanted,
        turn: Turn,
    ) -> BoxFuture<'a, Read<V>>;

    /// Looks again, until the other instance's value is there or the wait is over.
    fn wait<'a>(
        &'a self,
        cache: &'a Arc<Inner<K, V>>,
        leader: &'a Leader<K, V>,
        waiting: Waiting,
    ) -> BoxFuture<'a, Read<V>>;

    /// Stores what was loaded instead, and gives the claim up.
    fn write<'a>(
        &'a self,
        cache: &'a Arc<Inner<K, V>>,
        key: &'a K,
        ticket: Ticket,
        loaded: Loaded<V>,
    ) -> BoxFuture<'a, ()>;
}

/// What is done when a turn comes. It ends soon: nothing in it waits for a loader.
pub(crate) type Job = Box<dyn FnOnce(Turn) -> BoxFuture<'static, ()> + Send>;

/// What became of the wait for one's turn to ask Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Came,
    /// Too many others were waiting, or for too long: the tier is not asked.
    Missed,
}

/// What a flight wants of the tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Any value that counts; or the right to load it for the fleet.
    Value,
    /// As `Value`, but without a claim: others are loaded in the same call.
    ValueOfMany,
    /// A newer value than the one that is due for a refresh.
    Newer,
    /// What the source has now: the tier is not asked.
    OfSource,
}

impl Wanted {
    /// Whether what a flight brought, whose leader may have wanted something else, is what was wanted.
    pub(crate) fn accepts<V>(self, landing: &Landing<V>) -> bool {
        self != Self::OfSource || landing.from == From::Source
    }
}

/// What the tier had.
pub(crate) enum Read<V> {
    Found(Arrived<V>),
    /// Load it. Without a ticket the value is not stored.
    Load(Option<Ticket>),
    /// Another instance loads it. Not for `ValueOfMany`.
    Wait(Waiting),
}

/// A wait for another instance's load.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) wanted: Wanted,
    pub(crate) claim: Claim,
    pub(crate) until: Instant,
    /// A place among those who wait.
    pub(crate) place: OwnedSemaphorePermit,
}

/// A value from the tier.
pub(crate) struct Arrived<V> {
    pub(crate) value: Option<V>,
    pub(crate) token: Stamp,
    pub(crate) loaded_at: Nanos,
    /// It reflects everything published before.
    pub(crate) vouched_at: Nanos,
    /// From then on.
    pub(crate) life: Nanos,
    pub(crate) tags: Box<[u64]>,
    pub(crate) own_ttl: bool,
}

/// What a load must know to store its value.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) name: Name,
    pub(crate) subject: Subject,
    /// The lane's head before the load began: it has seen everything up to here.
    pub(crate) position: Position,
    /// The server's milliseconds at that time.
    pub(crate) born: u64,
    /// Of a value that is there and does not count.
    pub(crate) digest: Option<Digest>,
    pub(crate) claim: Option<Held>,
}

/// The right to load for the fleet. Whatever becomes of the load, it is given up.
pub(crate) struct Held {
    pub(crate) core: Arc<Core>,
    pub(crate) lane: u32,
    pub(crate) name: Name,
    pub(crate) id: ClaimId,
    /// The store has given it up already.
    pub(crate) released: bool,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let (core, lane, name, id) = (self.core.clone(), self.lane, self.name, self.id);
        // One at most for each load that failed. If it fails too, the claim lapses by itself.
        self.core.runtime.spawn(async move {
            let timeout_after = core.settings.publish_timeout;
            let _ = timeout(timeout_after, core.bus.release(lane, name, id)).await;
        });
    }
}
