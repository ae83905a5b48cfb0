//! One instance of the fleet, and what its callers do.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use unstale::testing::inside;
use unstale::{Cache, Instance, LocalBus, Lookup, Outcome, Settings, WriteError, WritePolicy};

use crate::schedule::*;
use crate::source::Source;

#[cfg(feature = "shared")]
std::thread_local! {
    /// Whether the caches of the runs on this thread have a shared tier.
    pub(crate) static TIER: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// How long an instance waits for the load of another.
#[cfg(feature = "shared")]
const CLAIM: Duration = Duration::from_millis(200);

/// A read, and all that is needed to judge it.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    /// The step it belongs to, and which of its reads it is.
    pub(crate) id: (usize, u64),
    pub(crate) node: usize,
    /// Of its instance's connection.
    pub(crate) number: usize,
    pub(crate) key: u64,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    /// Up to which event each lane had been applied here when it began.
    pub(crate) applied: BTreeMap<u32, (u64, u64)>,
    /// Nothing had ever gone wrong with its instance's connection or the server.
    pub(crate) clean: bool,
    pub(crate) value: Option<u64>,
    pub(crate) outcome: Option<Outcome>,
}

/// A call of `write`.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) node: usize,
    /// The number of its instance's connection.
    pub(crate) number: usize,
    pub(crate) began: Instant,
    pub(crate) commit_began: Option<Instant>,
    /// When the commit answered, or its caller went away.
    pub(crate) resolved: Option<Instant>,
    pub(crate) available: bool,
}

/// A call that returned Ok: an event that names these keys was sequenced in between.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) keys: Vec<u64>,
    /// Of the caller's connection.
    pub(crate) number: usize,
    pub(crate) at: Instant,
    /// What of the bus' history came before its commit, and before its return.
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// What was seen in a run.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) reads: Vec<Read>,
    pub(crate) writes: Vec<Written>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) totals: BTreeMap<&'static str, u64>,
}

/// A [`Log`] that the callers' tasks share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Log>>);

impl Shared {
    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }
}

/// One instance that runs.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) place: usize,
    /// Of its connection.
    pub(crate) number: usize,
    pub(crate) settings: NodeSettings,
    pub(crate) instance: Instance,
    rows: Cache<u64, u64>,
    columns: Cache<u64, u64>,
    bus: LocalBus,
    source: Source,
    shared: Shared,
    callers: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Node {
    pub(crate) async fn start(
        place: usize,
        lanes: u32,
        settings: NodeSettings,
        (bus, source, shared): (&LocalBus, &Source, &Shared),
    ) -> Self {
        let number = bus.instances();
        let instance = inside::start_small(bus, library_settings(lanes, &settings));
        let instance = instance.await.expect("the settings are valid");
        let cache = |name: &str| {
            let source = source.clone();
            let load = move |key: u64| {
                let source = source.clone();
                async move { source.load(key).await }
            };
            let cache = instance.cache(name).loader(load);
            #[cfg(feature = "shared")]
            let cache = if TIER.get() {
                cache.shared(unstale::Shared::new().fleet_single_flight(CLAIM))
            } else {
                cache
            };
            cache.build().expect("a new name")
        };
        let (rows, columns) = (cache("rows"), cache("columns"));
        let (bus, source, shared) = (bus.clone(), source.clone(), shared.clone());
        let callers = Arc::default();
        Self {
            place,
            number,
            settings,
            instance,
            rows,
            columns,
            bus,
            source,
            shared,
            callers,
        }
    }

    pub(crate) fn cache(&self, column: bool) -> &Cache<u64, u64> {
        if column { &self.columns } else { &self.rows }
    }

    fn cache_of(&self, key: u64) -> &Cache<u64, u64> {
        self.cache(key >= FIRST_COLUMN)
    }

    /// Runs a caller, who is gone when the instance crashes.
    pub(crate) fn call(&self, caller: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(caller).abort_handle();
        self.callers.lock().unwrap().push(task);
    }

    /// Its callers, and the handles that they hold, are gone.
    pub(crate) fn abort(&self) {
        for caller in self.callers.lock().unwrap().drain(..) {
            caller.abort();
        }
    }

    /// A read that begins now.
    fn begin(&self, id: (usize, u64), key: u64, clean: bool) -> Read {
        let began = Instant::now();
        Read {
            id,
            node: self.place,
            number: self.number,
            key,
            began,
            ended: began,
            applied: inside::applied(&self.instance),
            clean,
            value: None,
            outcome: None,
        }
    }

    pub(crate) async fn read(&self, id: (usize, u64), key: u64, clean: bool) -> Option<Outcome> {
        let read = self.begin(id, key, clean);
        let Lookup { value, outcome, .. } = self.cache_of(key).lookup(&key).await.ok()?;
        self.note(read, value, outcome)
    }

    pub(crate) async fn read_many(&self, id: usize, clean: bool) {
        let keys: Vec<u64> = (0..FIRST_COLUMN).collect();
        let reads: Vec<_> = keys
            .iter()
            .map(|key| self.begin((id, *key), *key, clean))
            .collect();
        let Ok(found) = self.rows.get_many(&keys).await else {
            return;
        };
        for (read, value) in reads.into_iter().zip(found) {
            self.note(read, value, Outcome::Miss);
        }
    }

    /// Looks into memory without giving any task the time to change it.
    pub(crate) fn peek(&self, id: usize, clean: bool) {
        for key in 0..KEYS {
            let read = self.begin((id, key), key, clean);
            if let Some(value) = self.cache_of(key).peek(&key) {
                self.note(read, Some(value), Outcome::Hit);
            }
        }
    }

    fn note(&self, mut read: Read, value: Option<u64>, outcome: Outcome) -> Option<Outcome> {
        read.ended = Instant::now();
        read.value = value;
        read.outcome = Some(outcome);
        self.shared.log().reads.push(read);
        Some(outcome)
    }

    /// What a call that returned Ok promises.
    fn acknowledged(&self, keys: Vec<u64>, from: usize) {
        let (number, at, to) = (self.number, Instant::now(), self.bus.moment());
        let call = Acknowledged {
            keys,
            number,
            at,
            from,
            to,
        };
        self.shared.log().acknowledged.push(call);
    }

    pub(crate) async fn put(self, key: u64, publish_after: u64) {
        self.source.commit(key, self.number, None);
        let from = self.bus.moment();
        sleep(ms(publish_after)).await;
        if self.cache_of(key).invalidate(&key).await.is_ok() {
            self.acknowledged(vec![key], from);
        }
    }

    pub(crate) async fn put_tag(self, column: bool, odd: bool) {
        let keys = keys_of(column)
            .filter(|key| (key % 2 == 1) == odd)
            .collect::<Vec<_>>();
        let from = self.commit_all(&keys);
        let tag = if odd { "odd" } else { "even" };
        if self.cache(column).invalidate_tag(tag).await.is_ok() {
            self.acknowledged(keys, from);
        }
    }

    pub(crate) async fn put_all(self, column: bool) {
        let keys = keys_of(column).collect::<Vec<_>>();
        let from = self.commit_all(&keys);
        if self.cache(column).invalidate_all().await.is_ok() {
            self.acknowledged(keys, from);
        }
    }

    pub(crate) async fn put_batch(self, keys: (u64, u64)) {
        let both = vec![keys.0, keys.1];
        let from = self.commit_all(&both);
        let mut batch = self.instance.batch();
        for key in &both {
            batch = batch.key(self.cache_of(*key), key);
        }
        if batch.invalidate().await.is_ok() {
            self.acknowledged(both, from);
        }
    }

    fn commit_all(&self, keys: &[u64]) -> usize {
        let from = self.bus.moment();
        for key in keys {
            self.source.commit(*key, self.number, None);
        }
        from
    }

    pub(crate) async fn flood(self, keys: u64) {
        let keys: Vec<u64> = (1_000..1_000 + keys).collect();
        let _ = self.rows.invalidate_many(&keys).await;
    }

    pub(crate) async fn write(self, key: u64, commit: Commit) {
        let began = Instant::now();
        let number = {
            let mut log = self.shared.log();
            log.writes.push(Written {
                node: self.place,
                number: self.number,
                began,
                commit_began: None,
                resolved: None,
                available: self.settings.available,
            });
            log.writes.len() - 1
        };
        let database = Database {
            node: &self,
            number,
            key,
            commit,
        };
        let _resolved = Resolved(&self.shared, number);
        let write = self.cache_of(key).write(&key, database.run(began));
        let answer = match commit.patience {
            Some(patience) => timeout(ms(patience), write).await.ok(),
            None => Some(write.await),
        };
        match answer {
            Some(Ok(())) => self.acknowledged(vec![key], self.source.moment_of(number)),
            Some(Err(WriteError::Refused(_))) => {
                let log = self.shared.log();
                assert!(
                    log.writes[number].commit_began.is_none(),
                    "refused after it began"
                );
            }
            _ => {}
        }
    }
}

/// Notes when a write's caller was gone, if nothing was noted before.
struct Resolved<'a>(&'a Shared, usize);

impl Drop for Resolved<'_> {
    fn drop(&mut self) {
        self.0.log().writes[self.1]
            .resolved
            .get_or_insert_with(Instant::now);
    }
}

/// A commit under way in the database, which enforces the deadline.
struct Database<'a> {
    node: &'a Node,
    number: usize,
    key: u64,
    commit: Commit,
}

impl Database<'_> {
    async fn run(self, began: Instant) -> io::Result<()> {
        let Self {
            node,
            number,
            key,
            commit,
        } = self;
        let now = Instant::now();
        node.shared.log().writes[number].commit_began = Some(now);
        let _resolved = Resolved(&node.shared, number);
        let latest = began + ms(WRITE_TIMEOUT - 1);
        let landing = commit.lands.map(|lands| {
            let (source, at) = (node.source.clone(), (now + ms(lands)).min(latest));
            let (survives, by) = (commit.survives, node.number);
            let task = tokio::spawn(async move {
                sleep_until(at).await;
                source.commit(key, by, Some(number));
            });
            Landing {
                task: task.abort_handle(),
                survives,
                answered: task,
            }
        });
        sleep(ms(commit.answers)).await;
        match landing {
            Some(landing) if !commit.fails => landing.landed().await,
            _ => Err(io::Error::other("nobody knows whether this was committed")),
        }
    }
}

/// A commit that may go on without its client.
struct Landing {
    task: AbortHandle,
    survives: bool,
    answered: tokio::task::JoinHandle<()>,
}

impl Landing {
    async fn landed(mut self) -> io::Result<()> {
        (&mut self.answered).await.map_err(io::Error::other)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.survives {
            self.task.abort();
        }
    }
}

pub(crate) fn keys_of(column: bool) -> std::ops::Range<u64> {
    if column {
        FIRST_COLUMN..KEYS
    } else {
        0..FIRST_COLUMN
    }
}

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn library_settings(lanes: u32, node: &NodeSettings) -> Settings {
    let mut settings = Settings::default();
    settings.lanes = lanes;
    settings.verify_interval = ms(node.verify_interval);
    settings.max_staleness = Some(ms(node.max_staleness));
    settings.ttl = ms(node.ttl);
    settings.negative_ttl = ms(node.ttl);
    settings.journal = node.journal;
    settings.capacity = 64;
    settings.outbox = 1_024;
    settings.reap_interval = None;
    settings.publish_timeout = ms(500);
    settings.member_timeout = ms(MEMBER_TIMEOUT);
    settings.write_timeout = ms(WRITE_TIMEOUT);
    if node.available {
        settings.write_policy = WritePolicy::Available;
    }
    settings
}
