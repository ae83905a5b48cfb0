//! The source of truth: rows that only ever get newer versions, and what it remembers of each.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use unstale::{Loaded, LocalBus};

use crate::schedule::{FIRST_COLUMN, KEYS};

/// Every fourth version of a row says that it does not exist.
pub(crate) fn exists(version: u64) -> bool {
    version % 4 != 3
}

pub(crate) fn tag(key: u64) -> &'static str {
    if key % 2 == 1 { "odd" } else { "even" }
}

pub(crate) fn cache(key: u64) -> &'static str {
    if key < FIRST_COLUMN {
        "rows"
    } else {
        "columns"
    }
}

/// One version of one row.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) key: u64,
    pub(crate) version: u64,
    pub(crate) at: Instant,
    /// What of the bus' history came before it.
    pub(crate) moment: usize,
    /// The number of the connection of the instance that invalidates it.
    pub(crate) by: usize,
    /// The number of the write that committed it; other commits promise less.
    pub(crate) write: Option<usize>,
}

/// Shared by all instances, as a database is.
#[derive(Clone, Debug)]
pub(crate) struct Source(Arc<Mutex<State>>, LocalBus);

#[derive(Debug, Default)]
struct State {
    rows: [u64; KEYS as usize],
    versions: Vec<Version>,
    before: Duration,
    after: Duration,
    fails: bool,
}

impl Source {
    pub(crate) fn new(bus: LocalBus) -> Self {
        Self(Arc::default(), bus)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Replaces a row.
    pub(crate) fn commit(&self, key: u64, by: usize, write: Option<usize>) {
        let (at, moment) = (Instant::now(), self.1.moment());
        let mut state = self.state();
        state.rows[key as usize] += 1;
        let version = state.rows[key as usize];
        state.versions.push(Version {
            key,
            version,
            at,
            moment,
            by,
            write,
        });
    }

    pub(crate) fn version(&self, key: u64) -> u64 {
        self.state().rows[key as usize]
    }

    pub(crate) fn versions(&self) -> Vec<Version> {
        self.state().versions.clone()
    }

    /// What of the bus' history came before the commit of this write.
    pub(crate) fn moment_of(&self, write: usize) -> usize {
        let state = self.state();
        let version = state
            .versions
            .iter()
            .find(|version| version.write == Some(write));
        version.expect("it was committed").moment
    }

    pub(crate) fn set_delays(&self, before: u64, after: u64) {
        let mut state = self.state();
        state.before = Duration::from_millis(before);
        state.after = Duration::from_millis(after);
    }

    pub(crate) fn set_fails(&self, fails: bool) {
        self.state().fails = fails;
    }

    /// What a loader does.
    pub(crate) async fn load(&self, key: u64) -> io::Result<Loaded<u64>> {
        let (before, after, fails) = {
            let state = self.state();
            (state.before, state.after, state.fails)
        };
        if !before.is_zero() {
            sleep(before).await;
        }
        let version = self.version(key);
        if !after.is_zero() {
            sleep(after).await;
        }
        if fails {
            return Err(io::Error::other("the source is down"));
        }
        Ok(Loaded::new(exists(version).then_some(version)).tag(tag(key)))
    }
}
