//! What an instance invalidates, for programs that keep something of their own right by it.

use std::fmt;

use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::Key;
use crate::coherence::listeners::Reported;
use crate::coherence::member::Member;
use crate::coherence::recent::{Applied, Named};
use crate::identity::InstanceId;
use crate::key::hashes::{KeyHash, TagHash};
use crate::metrics::label;
use crate::store::stamps::lane_of;

/// What an [`Invalidation`] names.
///
/// # Examples
///
/// ```
/// use unstale::{Invalidation, KeyHash, Scope};
///
/// /// Whether a page that shows this account has to be rendered again.
/// fn is_outdated(account: u64, invalidation: &Invalidation) -> bool {
///     match invalidation.scope {
///         Scope::Key(hash) => KeyHash::of(&account) == Some(hash),
///         _ => true, // a tag, a cache, a lane, or some that were missed
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// One key of the cache.
    Key(KeyHash),
    /// All entries of the cache with a tag.
    Tag(TagHash),
    /// All entries of the cache.
    Cache,
    /// All entries of the lane, of every cache: messages were lost that could not be read again, for example.
    Lane {
        /// The lane; with one lane, the default, that is everything.
        lane: u32,
        /// In a word: the label `cause` of `unstale_fences_total`.
        why: &'static str,
    },
    /// The receiver was too slow, and missed invalidations: **treat everything as invalidated**.
    Lagged {
        /// How many it missed, of all caches.
        missed: u64,
    },
}

/// An invalidation that was applied in this instance: its own, a peer's, or a lane that the instance dropped.
///
/// It names keys and tags by their hashes. `Display` writes it as one line for a log.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// let accounts = instance.cache::<u64, String>("accounts").build()?;
/// let mut invalidations = accounts.invalidations();
/// accounts.invalidate_tag("tenant-7").await?;
///
/// let next = invalidations.next().await.ok_or("the instance was shut down")?;
/// assert_eq!((next.cache.as_deref(), next.origin), (Some("accounts"), Some(instance.id())));
/// assert!(next.to_string().starts_with("tag "));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invalidation {
    /// What it names.
    pub scope: Scope,
    /// The name of the cache; `None` where it concerns every cache.
    pub cache: Option<String>,
    /// The instance that invalidated. `None` if it is unknown: another instance published the write of one that
    /// died, a relay or another program published, or this instance dropped a lane.
    ///
    /// A program that publishes by itself has an id too, which no instance has.
    pub origin: Option<InstanceId>,
    /// The lane that brought it; `None` for an own tag or cache, which concerns every lane.
    pub lane: Option<u32>,
    /// The epoch: the life of the lane's counter. `None` if the sequence is `None`.
    pub epoch: Option<u64>,
    /// The event's number in its lane and epoch. `None` for an own invalidation, which is applied here before
    /// it is published, for a lane that was dropped, and with a signing key until the journal has confirmed the
    /// event.
    pub sequence: Option<u64>,
    lanes: u32,
}

impl Invalidation {
    pub(crate) fn new(applied: Applied, cache: Option<String>, lanes: u32) -> Self {
        let lane = applied.lane;
        let scope = match applied.named {
            Named::Key(hash) => Scope::Key(KeyHash::new(hash)),
            Named::Tag(hash) => Scope::Tag(TagHash::new(hash)),
            Named::Cache => Scope::Cache,
            Named::Lane(cause) => Scope::Lane {
                lane: lane.unwrap_or(0),
                why: label(cause),
            },
        };
        Self {
            scope,
            cache,
            origin: applied.origin,
            lane,
            epoch: applied.position.map(|position| position.epoch),
            sequence: applied.position.map(|position| position.sequence),
            lanes,
        }
    }

    fn lagged(missed: u64, lanes: u32) -> Self {
        Self {
            scope: Scope::Lagged { missed },
            cache: None,
            origin: None,
            lane: None,
            epoch: None,
            sequence: None,
            lanes,
        }
    }

    /// Returns whether this invalidates a key of its [`cache`](Self::cache) whose value has these tags. It
    /// takes the key or a reference form of it.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// # let users = instance.cache::<String, u64>("users").build()?;
    /// let mut invalidations = users.invalidations();
    /// users.invalidate("ada").await?;
    /// users.invalidate_tag("team-1").await?;
    ///
    /// let first = invalidations.next().await.expect("the instance runs");
    /// assert!(first.concerns("ada", &[]) && !first.concerns("bob", &["team-1"]));
    /// let second = invalidations.next().await.expect("the instance runs");
    /// assert!(second.concerns("bob", &["team-1"]) && !second.concerns("ada", &[]));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn concerns<Q>(&self, key: &Q, tags: &[&str]) -> bool
    where
        Q: Key + ?Sized,
    {
        match self.scope {
            Scope::Key(hash) => KeyHash::of(key) == Some(hash),
            Scope::Tag(hash) => tags.iter().any(|tag| TagHash::of(tag) == hash),
            Scope::Cache | Scope::Lagged { .. } => true,
            Scope::Lane { lane, .. } => {
                KeyHash::of(key).is_some_and(|hash| lane_of(hash.number(), self.lanes) == lane)
            }
        }
    }
}

impl fmt::Display for Invalidation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cache = self.cache.as_deref().unwrap_or_default();
        match self.scope {
            Scope::Key(hash) => write!(f, "key {hash} of cache {cache:?}")?,
            Scope::Tag(hash) => write!(f, "tag {hash} of cache {cache:?}")?,
            Scope::Cache => write!(f, "cache {cache:?}")?,
            Scope::Lane { lane, why } => write!(f, "everything in lane {lane} ({why})")?,
            Scope::Lagged { missed } => write!(f, "everything ({missed} invalidations missed)")?,
        }
        if let Some(origin) = self.origin {
            write!(f, ", by {origin}")?;
        }
        match (self.lane, self.sequence) {
            (Some(lane), Some(sequence)) => write!(f, ", event {sequence} of lane {lane}"),
            _ => Ok(()),
        }
    }
}

/// A stream of the invalidations that this instance applies, from the call on that returned it:
/// [`Instance::invalidations`](crate::Instance::invalidations),
/// [`Cache::invalidations`](crate::Cache::invalidations).
///
/// - Each is reported after it is applied: a read that follows finds nothing older in the caches.
/// - Own ones are reported once, not again when they come back over Redis. With several lanes a peer's tag or cache is
///   reported once for each lane, since each lane has an event of its own.
/// - An invalidation that was lost on the way is reported when the loss is found, within `max_staleness` while
///   Redis answers: by itself, from the journal, or as a [`Scope::Lane`]. While Redis is away nothing is
///   reported; see [`Health::verified_age`](crate::Health::verified_age).
/// - It is bounded: 4,096 invalidations wait at most. A receiver that is slower than that gets one
///   [`Scope::Lagged`] in place of all that waited. Nothing ever waits for a receiver.
///
/// It keeps neither the instance nor a cache alive. Invalidations of caches that this instance has not built
/// are not reported.
///
/// # Examples
///
/// ```
/// use std::collections::HashMap;
/// use unstale::{Cache, Invalidations, KeyHash, Scope};
///
/// /// Keeps pages, which are rendered from accounts, no longer than the accounts.
/// async fn keep(accounts: Cache<u64, String>, mut pages: HashMap<KeyHash, String>) {
///     let mut invalidations: Invalidations = accounts.invalidations();
///     while let Some(next) = invalidations.next().await {
///         match next.scope {
///             Scope::Key(hash) => drop(pages.remove(&hash)),
///             _ => pages.clear(),
///         }
///     }
/// }
/// ```
pub struct Invalidations {
    receiver: Receiver<Reported>,
    /// Of this cache only.
    cache: Option<u32>,
    lanes: u32,
}

impl fmt::Debug for Invalidations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidations").finish_non_exhaustive()
    }
}

impl Invalidations {
    pub(crate) fn new(member: &Member, cache: Option<u32>) -> Self {
        Self {
            receiver: member.listeners.listen(),
            cache,
            lanes: member.lane_count(),
        }
    }

    /// Waits for the next invalidation; `None` once the instance has shut down and everything is reported.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the next call returns what it would have returned.
    pub async fn next(&mut self) -> Option<Invalidation> {
        loop {
            match self.receiver.recv().await {
                Ok(reported) if self.is_wanted(&reported) => {
                    let cache = reported.cache.map(|name| name.to_string());
                    return Some(Invalidation::new(reported.applied, cache, self.lanes));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    // What waits is as invalidated as what was missed.
                    let waiting = self.receiver.len() as u64;
                    self.receiver = self.receiver.resubscribe();
                    return Some(Invalidation::lagged(missed + waiting, self.lanes));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn is_wanted(&self, reported: &Reported) -> bool {
        let of_every_cache = matches!(reported.applied.named, Named::Lane(_));
        of_every_cache
            || self
                .cache
                .is_none_or(|cache| cache == reported.applied.cache)
    }
}
