//! The source of truth: rows that only ever get newer versions, and what it remembers of each.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use unstale::internals;
use unstale::{Loaded, LocalBus};

use crate::mind::{Facts, Row};
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

/// A writer that is no instance: it publishes nothing of what it commits.
pub(crate) const NO_NODE: usize = usize::MAX;

/// One version of one row.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) key: u64,
    pub(crate) version: u64,
    pub(crate) at: Instant,
    /// How much of the bus' timeline came before it.
    pub(crate) moment: usize,
    /// The number of the connection of the instance that invalidates it.
    pub(crate) by: usize,
    /// The number of the write that committed it; other commits promise less.
    pub(crate) write: Option<usize>,
}

/// Shared by all instances, as a database is.
#[derive(Clone, Debug)]
pub(crate) struct Source(Arc<Mutex<State>>, LocalBus, Instant);

#[derive(Debug, Default)]
struct State {
    rows: [u64; KEYS as usize],
    versions: Vec<Version>,
    before: Duration,
    after: Duration,
    fails: bool,
    hangs: bool,
    /// Replicas are no longer late.
    caught_up: bool,
}

/// What a loader asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reads {
    /// The TTL of every other version.
    pub(crate) own_ttl: Option<u64>,
    /// It reads a replica, which is so late.
    pub(crate) replica: Option<Duration>,
}

impl Source {
    pub(crate) fn new(bus: LocalBus) -> Self {
        Self(Arc::default(), bus, Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Replaces a row.
    pub(crate) fn commit(&self, key: u64, by: usize, write: Option<usize>) {
        let (at, moment) = (Instant::now(), internals::moment(&self.1));
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

    /// How many commits its log has.
    pub(crate) fn len(&self) -> usize {
        self.state().versions.len()
    }

    /// The keys of a part of its log.
    pub(crate) fn changed(&self, part: std::ops::Range<usize>) -> Vec<u64> {
        let state = self.state();
        state.versions[part]
            .iter()
            .map(|version| version.key)
            .collect()
    }

    pub(crate) fn version(&self, key: u64) -> u64 {
        self.state().rows[key as usize]
    }

    pub(crate) fn versions(&self) -> Vec<Version> {
        self.state().versions.clone()
    }

    /// What this write has committed.
    pub(crate) fn commit_of(&self, write: usize) -> Version {
        let state = self.state();
        let version = state
            .versions
            .iter()
            .find(|version| version.write == Some(write));
        version.expect("it was committed").clone()
    }

    pub(crate) fn set_delays(&self, before: u64, after: u64) {
        let mut state = self.state();
        state.before = Duration::from_millis(before);
        state.after = Duration::from_millis(after);
    }

    pub(crate) fn set_fails(&self, fails: bool) {
        self.state().fails = fails;
    }

    /// Loads that begin meanwhile have no end of their own.
    pub(crate) fn set_hangs(&self, hangs: bool) {
        self.state().hangs = hangs;
    }

    pub(crate) fn catch_up(&self) {
        self.state().caught_up = true;
    }

    /// How many commits a replica has that is so late.
    fn replayed(&self, late: Duration) -> usize {
        let state = self.state();
        let late = if state.caught_up {
            Duration::ZERO
        } else {
            late
        };
        let has = |version: &Version| version.at + late <= Instant::now();
        state.versions.partition_point(has)
    }

    /// The version of a row after so many commits.
    fn version_at(&self, key: u64, place: usize) -> u64 {
        let state = self.state();
        let of_key = state.versions[..place].iter();
        of_key.filter(|version| version.key == key).count() as u64
    }

    /// What a loader does.
    pub(crate) async fn load(
        &self,
        node: usize,
        key: u64,
        reads: Reads,
    ) -> io::Result<Loaded<Row>> {
        let mut rows = self.load_many(node, &[key], reads).await?;
        let row = rows.pop().map(|(_, row)| row);
        row.unwrap_or_else(|| Err(io::Error::other("one row for one key")))
    }

    /// What a loader of many keys does. Where the source fails, it does so for one key, and for half of many.
    pub(crate) async fn load_many(
        &self,
        node: usize,
        keys: &[u64],
        reads: Reads,
    ) -> io::Result<Vec<(u64, io::Result<Loaded<Row>>)>> {
        let (before, after, fails, hangs) = {
            let state = self.state();
            (state.before, state.after, state.fails, state.hangs)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        let born = u64::try_from(self.2.elapsed().as_micros()).unwrap_or(u64::MAX);
        if !before.is_zero() {
            sleep(before).await;
        }
        let place = reads.replica.map(|late| self.replayed(late));
        let version = |key: &u64| match place {
            Some(place) => self.version_at(*key, place),
            None => self.version(*key),
        };
        let versions: Vec<u64> = keys.iter().map(version).collect();
        if !after.is_zero() {
            sleep(after).await;
        }
        let down = || io::Error::other("the source is down");
        if fails && keys.len() == 1 {
            return Err(down());
        }
        let rows = keys.iter().zip(versions).map(|(key, version)| {
            let life = reads.own_ttl.filter(|_| version % 2 == 0);
            let facts = Facts {
                version,
                born,
                life: life.unwrap_or(0),
            };
            let row = exists(version).then(|| Row::new(facts, node));
            let loaded = Loaded::new(row).tag(tag(*key));
            let loaded = match place {
                Some(place) => loaded.as_of(place as u64),
                None => loaded,
            };
            let loaded = match life {
                Some(life) => loaded.ttl(Duration::from_millis(life)),
                None => loaded,
            };
            let half = fails && key % 2 == 1;
            (*key, if half { Err(down()) } else { Ok(loaded) })
        });
        Ok(rows.collect())
    }
}
