//! The source of truth: what the loaders read, the writers replace and the judge asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A row's value: how often it has been replaced.
pub(crate) type Version = u64;

/// Rows in memory, which remember since when each of their values has been replaced.
#[derive(Debug)]
pub(crate) struct Source {
    rows: Vec<Mutex<Row>>,
    asked: AtomicU64,
}

#[derive(Debug, Default)]
struct Row {
    version: Version,
    /// When the write that replaced the version of this index was acknowledged.
    replaced: Vec<Instant>,
}

impl Source {
    pub(crate) fn new(rows: usize) -> Self {
        Self {
            rows: (0..rows).map(|_| Mutex::default()).collect(),
            asked: AtomicU64::new(0),
        }
    }

    /// What a load gets.
    pub(crate) fn load(&self, key: u64, counted: bool) -> Version {
        self.asked.fetch_add(u64::from(counted), Relaxed);
        self.row(key).version
    }

    /// How many loads were counted.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }

    /// What a write commits; returns the new version.
    pub(crate) fn replace(&self, key: u64) -> Version {
        let mut row = self.row(key);
        row.version += 1;
        row.version
    }

    /// The write that made this version is acknowledged: its invalidation, which concerns every
    /// version before, has been published, and the promise counts from here.
    pub(crate) fn acknowledge(&self, key: u64, version: Version) {
        let mut row = self.row(key);
        let now = Instant::now();
        while (row.replaced.len() as u64) < version {
            row.replaced.push(now);
        }
    }

    /// Since when this version is known to be replaced.
    pub(crate) fn replaced(&self, key: u64, version: Version) -> Option<Instant> {
        self.row(key)
            .replaced
            .get(usize::try_from(version).ok()?)
            .copied()
    }

    fn row(&self, key: u64) -> MutexGuard<'_, Row> {
        self.rows[key as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_replaced_when_a_later_one_is_acknowledged() {
        let source = Source::new(1);
        assert_eq!(source.load(0, true), 0);
        let (one, two) = (source.replace(0), source.replace(0));
        assert_eq!(
            source.replaced(0, 0),
            None,
            "committed, but not acknowledged"
        );
        source.acknowledge(0, two);
        let at = source.replaced(0, 0).unwrap();
        assert_eq!(source.replaced(0, one), Some(at));
        source.acknowledge(0, one);
        assert_eq!(source.replaced(0, 0), Some(at), "the first time counts");
        assert_eq!(source.replaced(0, two), None, "it is the present one");
        assert_eq!((source.load(0, false), source.asked()), (2, 1));
    }
}
