//! Why a read of a key would be answered as it would be.

mod sentences;

use std::time::Duration;

use crate::Key;
use crate::cache::Cache;
use crate::cache::flight::UnderWay;
use crate::cache::lookup::Outcome;
use crate::instance::invalidations::Invalidation;
use crate::key::hashes::KeyHash;
use crate::key::reference::KeyRef;
use crate::metrics::Miss;
use crate::metrics::labels::MissCause;
use crate::store::NotServed;
use crate::store::explain::{Foreseen, FoundAs};
use crate::store::stamps::lane_of;
use crate::time::Nanos;

/// What is known of one key in one instance, and what a read would do now: returned by
/// [`Cache::explain`](crate::Cache::explain).
///
/// `Display` writes it as plain sentences. It contains hashes, and neither the key nor the value.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// # let names = instance
/// #     .cache::<u64, String>("account_names")
/// #     .loader(|id: u64| async move { Ok(format!("account {id}")) })
/// #     .build()?;
/// let why = names.explain(&7);
/// assert_eq!(why.cache, "account_names");
/// assert!(why.held.is_none()); // nothing has loaded it yet
/// println!("{why}"); // a few sentences, for a page of the operators
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The name of the cache.
    pub cache: String,
    /// The hash of the key; `None` for a key over [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES).
    pub key: Option<KeyHash>,
    /// The lane of the key.
    pub lane: u32,
    /// What is in memory, served or not.
    pub held: Option<HeldEntry>,
    /// Time since the last verification of the lane, at which everything published before was applied; `None`
    /// before the first verification.
    pub verified_age: Option<Duration>,
    /// The same for the [`source`](crate::CacheBuilder::source) that the cache names: the time since everything
    /// committed there was known to be applied. `None` if the cache names none, and before the first
    /// verification.
    pub source_age: Option<Duration>,
    /// The bound of the cache: the entry is not served if its age and the verified age are both above it.
    pub max_staleness: Option<Duration>,
    /// How a [`lookup`](crate::Cache::lookup) would be answered now. `Miss` stands for `Tier` and `Stale` too:
    /// only a load can distinguish them.
    pub outcome: Outcome,
    /// Why it would be no hit: the cause that the lookup counts in `unstale_misses_total` if it starts a load.
    pub cause: Option<MissCause>,
    /// The part of the hit rule that refuses to serve the entry; `None` if it is served.
    pub refusal: Option<Refusal>,
    /// Whether the lookup would wait for a verification first, which may still make it a hit or change the
    /// cause.
    pub waits: bool,
    /// Whether the previous load has failed and the lookup would return its error; see
    /// [`error_ttl`](crate::CacheBuilder::error_ttl).
    pub error_kept: bool,
    /// The last invalidation that concerned the key, if it is still known. While nothing is held, the tags of
    /// the value are unknown, and invalidations of tags are left out.
    pub last_invalidation: Option<Invalidation>,
    /// Time since it was applied here.
    pub last_invalidation_age: Option<Duration>,
    /// For how long every invalidation is remembered: an earlier one may have been forgotten.
    pub known_for: Duration,
}

/// An entry in memory.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// use std::time::Duration;
///
/// # let names = instance
/// #     .cache::<u64, String>("account_names")
/// #     .loader(|id: u64| async move { Ok(format!("account {id}")) })
/// #     .build()?;
/// names.get(&7).await?;
/// let held = names.explain(&7).held.ok_or("nothing is held")?;
/// assert!(held.exists && held.ttl_left > Duration::from_secs(50)); // of 60 s, less the jitter
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldEntry {
    /// Whether it has a value; otherwise it says that the key does not exist.
    pub exists: bool,
    /// Time since its load began.
    pub age: Duration,
    /// The rest of its TTL; zero once it is over.
    pub ttl_left: Duration,
    /// The number of its tags.
    pub tags: usize,
}

/// The part of the hit rule that refuses to serve a key.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// use unstale::Refusal;
///
/// # let names = instance
/// #     .cache::<u64, String>("account_names")
/// #     .loader(|id: u64| async move { Ok(format!("account {id}")) })
/// #     .build()?;
/// let refusal = names.explain(&7).refusal;
/// assert_eq!(refusal, Some(Refusal::NotHeld)); // nothing has loaded it yet
/// names.get(&7).await?;
/// assert_eq!(names.explain(&7).refusal, None); // the next read is a hit
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Nothing is in memory. [`Explanation::cause`] says why, as far as that is remembered.
    NotHeld,
    /// A tag of the entry, the cache or the lane was invalidated after its load began. (An entry whose key is
    /// invalidated is no longer held.)
    Invalidated,
    /// The TTL is over.
    Ttl,
    /// Neither its load nor a verification of its lane, or source, is within `max_staleness`.
    Staleness,
    /// The key is known not to exist, and [`confirm_absent`](crate::CacheBuilder::confirm_absent) confirms that
    /// first.
    Unconfirmed,
    /// The key is over [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES): a read returns an error.
    KeyTooLong,
}

impl<K, V> Cache<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns what is known of a key, and how and why a read of it would be answered now: for an operator who
    /// asks why a value is old, or why it was loaded again. It is not counted as a read and changes nothing:
    /// the entry does not count as used, and the cause of the next miss is not forgotten.
    ///
    /// It applies the same rule that reads apply in this instance. Do not call it for each request: it searches
    /// the last 1,024 invalidations of each lane.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use unstale::{Instance, MissCause, Outcome, Refusal, Settings};
    ///
    /// let instance = Instance::start(Settings::default()).await?;
    /// let users = instance
    ///     .cache::<String, usize>("users")
    ///     .loader(|name: String| async move { Ok(name.len()) })
    ///     .build()?;
    /// users.get("ada").await?;
    /// assert_eq!(users.explain("ada").outcome, Outcome::Hit);
    ///
    /// users.invalidate("ada").await?;
    /// let why = users.explain("ada");
    /// assert_eq!(why.refusal, Some(Refusal::NotHeld));
    /// assert_eq!(why.cause, Some(MissCause::Invalidated));
    /// let last = why.last_invalidation.expect("it was just now");
    /// assert_eq!(last.origin, Some(instance.id()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn explain<Q>(&self, key: &Q) -> Explanation
    where
        Q: KeyRef<K> + ?Sized,
    {
        let Some(hash) = key.digest() else {
            return self.too_long();
        };
        let state = &self.0;
        let (member, store) = (state.member(), &state.store);
        let Foreseen { held, answer } = store.foresee(hash, key);
        let now = member.clock.now();
        let since = |at: Nanos| Duration::from_nanos(now.saturating_sub(at));
        let age = |at: Nanos| (at > 0).then(|| since(at));
        let refused = match answer {
            Ok(FoundAs::Absence) if state.options.confirm_absent => Some(NotServed::Unconfirmed),
            Ok(_) => None,
            Err(refused) => Some(refused),
        };
        let waits = match refused {
            Some(NotServed::Unverified) => !store.source_lags(hash) && member.may_be_verified(hash),
            Some(NotServed::Unconfirmed) => member.may_be_verified(hash),
            _ => false,
        };
        let newest = store.newest(hash, &[]);
        let joins = refused.and_then(|_| state.flights.under_way(hash, newest, now));
        let tags = held.as_ref().map_or(&[][..], |held| &held.tags);
        let last = member.recent.last_for(state.id, hash, tags);
        let name = |id| (id == state.id).then(|| state.name.clone());
        Explanation {
            cache: state.name.clone(),
            key: Some(KeyHash::new(hash)),
            lane: lane_of(hash, member.lane_count()),
            verified_age: age(member.stamps.lane(hash).verified_at()),
            source_age: store
                .has_source()
                .then(|| age(store.verified_at(hash)))
                .flatten(),
            max_staleness: state.options.max_staleness,
            outcome: match (refused, answer, joins) {
                (None, Ok(FoundAs::Absence), _) => Outcome::Negative,
                (None, ..) => Outcome::Hit,
                (Some(_), _, Some(_)) => Outcome::Coalesced,
                (Some(_), _, None) => Outcome::Miss,
            },
            cause: refused.map(cause),
            refusal: refused.map(|refused| refusal(refused, held.is_some())),
            waits,
            error_kept: joins == Some(UnderWay::Error),
            held: held.map(|held| HeldEntry {
                exists: held.found == FoundAs::Value,
                age: since(held.loaded_at),
                ttl_left: Duration::from_nanos(held.expires_at.saturating_sub(now)),
                tags: held.tags.len(),
            }),
            last_invalidation_age: last.map(|last| since(last.at)),
            last_invalidation: last
                .map(|last| Invalidation::new(last, name(last.cache), member.lane_count())),
            known_for: since(member.recent.since()),
        }
    }

    fn too_long(&self) -> Explanation {
        Explanation {
            cache: self.0.name.clone(),
            key: None,
            lane: 0,
            held: None,
            verified_age: None,
            source_age: None,
            max_staleness: self.0.options.max_staleness,
            outcome: Outcome::Miss,
            cause: None,
            refusal: Some(Refusal::KeyTooLong),
            waits: false,
            error_kept: false,
            last_invalidation: None,
            last_invalidation_age: None,
            known_for: Duration::ZERO,
        }
    }
}

/// As [`CacheState::cause`](crate::cache::state::CacheState::cause), of a read that is not verified in time.
fn cause(refused: NotServed) -> MissCause {
    match refused {
        NotServed::Missing(cause) => cause,
        NotServed::Expired { .. } => Miss::Expired,
        NotServed::Unverified | NotServed::Unconfirmed => Miss::Unverified,
    }
}

fn refusal(refused: NotServed, held: bool) -> Refusal {
    match refused {
        NotServed::Missing(_) | NotServed::Expired { .. } if !held => Refusal::NotHeld,
        NotServed::Missing(Miss::Negative) | NotServed::Expired { .. } => Refusal::Ttl,
        NotServed::Missing(_) => Refusal::Invalidated,
        NotServed::Unverified => Refusal::Staleness,
        NotServed::Unconfirmed => Refusal::Unconfirmed,
    }
}
