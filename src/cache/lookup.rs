//! What reads answer.

use std::time::Duration;

use crate::Error;
use crate::time::Nanos;

/// How a read was answered.
///
/// # Examples
///
/// ```
/// use unstale::Outcome;
///
/// /// The value of an `x-cache` header.
/// fn x_cache(outcome: Outcome) -> &'static str {
///     match outcome {
///         Outcome::Hit | Outcome::Negative => "hit",
///         Outcome::Stale => "stale",
///         Outcome::Tier => "shared",
///         _ => "miss",
///     }
/// }
/// assert_eq!(x_cache(Outcome::Negative), "hit");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// From memory.
    Hit,
    /// From memory: the key is known not to exist.
    Negative,
    /// The load failed or is slow: this is the entry from before, past its TTL, which
    /// [`stale_if_error`](crate::CacheBuilder::stale_if_error) allows.
    Stale,
    /// This call started a load.
    Miss,
    /// This call found the value in the shared tier.
    Tier,
    /// This call waited for a load that another call had started.
    Coalesced,
}

/// The answer of a read, and how it came about.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// # let prices = instance
/// #     .cache::<String, u64>("prices")
/// #     .loader(|sku: String| async move { Ok(sku.len() as u64) })
/// #     .build()?;
/// prices.get("sku-1").await?;
/// let answer = prices.lookup("sku-1").await?;
/// let header = format!("x-cache: {:?}; age={}", answer.outcome, answer.age.as_secs());
/// assert_eq!(header, "x-cache: Hit; age=0");
/// assert!(answer.is_hit());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Lookup<V> {
    /// The value; `None` when it does not exist.
    pub value: Option<V>,
    /// Where it came from.
    pub outcome: Outcome,
    /// Time since the load that produced it began.
    pub age: Duration,
}

impl<V> Lookup<V> {
    #[inline]
    pub(crate) fn new(value: Option<V>, outcome: Outcome, age: u64) -> Self {
        Self {
            value,
            outcome,
            age: Duration::from_nanos(age),
        }
    }

    /// Returns whether the answer came from memory.
    #[must_use]
    pub fn is_hit(&self) -> bool {
        matches!(self.outcome, Outcome::Hit | Outcome::Negative)
    }
}

/// What memory answers: a value, or that there is none.
pub(crate) struct Hit<V> {
    pub(crate) value: Option<V>,
    pub(crate) age: Nanos,
}

impl<V> From<Hit<V>> for Lookup<V> {
    fn from(Hit { value, age }: Hit<V>) -> Self {
        let outcome = if value.is_some() {
            Outcome::Hit
        } else {
            Outcome::Negative
        };
        Self::new(value, outcome, age)
    }
}

/// Counters of one cache in one instance, since it was built.
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
/// names.get(&7).await?;
/// names.get(&7).await?;
/// let stats = names.stats();
/// let hit_ratio = stats.hits as f64 / (stats.hits + stats.misses) as f64;
/// assert_eq!(hit_ratio, 0.5);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Entries in memory, those that are no longer served but not yet freed included.
    pub entries: u64,
    /// Reads answered from memory with a value.
    pub hits: u64,
    /// Reads answered from memory with "does not exist".
    pub negative_hits: u64,
    /// Reads that started a load.
    pub misses: u64,
    /// Reads that waited for a load that another read had started.
    pub coalesced: u64,
    /// Loads that have ended, whatever their outcome.
    pub loads: u64,
    /// Loads whose value was invalidated meanwhile, and therefore not stored.
    pub loads_discarded: u64,
    /// Entries dropped to make room.
    pub evictions: u64,
}

/// How a [`preload`](crate::Cache::preload) ended.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// use unstale::Preload;
///
/// # let names = instance
/// #     .cache::<u64, String>("account_names")
/// #     .loader(|id: u64| async move { Ok(format!("account {id}")) })
/// #     .build()?;
/// let Preload { held, failed, error, .. } = names.preload(0..1_000).await;
/// if let Some(error) = error {
///     eprintln!("the service starts with {held} accounts in memory; {failed} failed: {error}");
/// }
/// assert_eq!(held, 1_000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Preload {
    /// Keys that are in memory afterwards, those known not to exist included.
    pub held: usize,
    /// Keys whose load failed.
    pub failed: usize,
    /// Keys beyond the cache's capacity (at most a million of them are counted), and keys that were loaded and
    /// are not in memory: there was no room, or they were invalidated meanwhile.
    pub did_not_fit: usize,
    /// The first error.
    pub error: Option<Error>,
}

impl Preload {
    pub(crate) fn note_failures(&mut self, errors: impl Iterator<Item = Error>) {
        for error in errors {
            self.failed += 1;
            self.error.get_or_insert(error);
        }
    }
}
