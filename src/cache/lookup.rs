//! What reads answer.

use std::time::Duration;

use crate::Error;
use crate::time::Nanos;

/// How a read was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// From memory.
    Hit,
    /// From memory: it is known not to exist.
    Negative,
    /// The load failed: this is the entry that was there before, past its TTL, which
    /// [`stale_if_error`](crate::CacheBuilder::stale_if_error) allows.
    Stale,
    /// This call started a load.
    Miss,
    /// This call found it in the shared tier.
    Tier,
    /// This call waited for a load that another had started.
    Coalesced,
}

/// An answer, and how it came about.
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

    /// Whether it came from memory.
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
    /// Reads that waited for a load another had started.
    pub coalesced: u64,
    /// Loads that have ended, whatever their outcome.
    pub loads: u64,
    /// Loads whose value was not stored because it had been invalidated meanwhile.
    pub loads_discarded: u64,
    /// Entries dropped to make room.
    pub evictions: u64,
}

/// How a [`preload`](crate::Cache::preload) ended.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Preload {
    /// Keys that are in memory afterwards, those known not to exist included.
    pub held: usize,
    /// Keys whose load failed.
    pub failed: usize,
    /// Keys beyond the cache's capacity (the first million of them are counted), and keys that were loaded and are not in memory: there was no
    /// room, or they were invalidated meanwhile.
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
