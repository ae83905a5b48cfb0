//! Instances on one in-process bus, under tokio's paused clock, over one source of truth.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;

use unstale::{Cache, Error, Instance, Loaded, LocalBus, Outcome, Settings, testing};

/// What the loaders read and the writers change.
#[derive(Clone, Default)]
pub(crate) struct Source(Arc<SourceState>);

#[derive(Default)]
struct SourceState {
    rows: Mutex<BTreeMap<u64, u64>>,
    loads: AtomicU64,
    /// How long a load takes after it has read.
    delay: Mutex<Duration>,
    fails: AtomicBool,
}

impl Source {
    pub(crate) fn set(&self, key: u64, value: u64) {
        self.0.rows.lock().unwrap().insert(key, value);
    }

    pub(crate) fn remove(&self, key: u64) {
        self.0.rows.lock().unwrap().remove(&key);
    }

    pub(crate) fn row(&self, key: u64) -> Option<u64> {
        self.0.rows.lock().unwrap().get(&key).copied()
    }

    pub(crate) fn loads(&self) -> u64 {
        self.0.loads.load(SeqCst)
    }

    pub(crate) fn slow(&self, delay: Duration) {
        *self.0.delay.lock().unwrap() = delay;
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.0.fails.store(fails, SeqCst);
    }

    /// Reads first and answers later, as a slow query does: the worst case for a race.
    pub(crate) async fn load(&self, key: u64) -> io::Result<Loaded<u64>> {
        self.0.loads.fetch_add(1, SeqCst);
        let row = self.row(key);
        let delay = *self.0.delay.lock().unwrap();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if self.0.fails.load(SeqCst) {
            return Err(io::Error::other("the source is down"));
        }
        Ok(Loaded::new(row).tag(format!("tens-{}", key / 10)))
    }
}

/// Whether a cache has a shared tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    Off,
    On,
}

impl Tier {
    /// What the tests of a module are about: those whose names end so are compiled twice.
    pub(crate) fn of(module: &str) -> Self {
        match module.ends_with("_with_the_shared_tier") {
            true => Self::On,
            _ => Self::Off,
        }
    }
}

/// One instance with one cache.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) instance: Instance,
    pub(crate) cache: Cache<u64, u64>,
}

impl Node {
    pub(crate) async fn start(bus: &LocalBus, source: &Source, settings: Settings) -> Self {
        Self::of(testing::start_on(bus, settings).await.unwrap(), source)
    }

    /// The cache of an instance that runs.
    pub(crate) fn of(instance: Instance, source: &Source) -> Self {
        Self::with(instance, source, Tier::Off)
    }

    pub(crate) fn with(instance: Instance, source: &Source, tier: Tier) -> Self {
        let source = source.clone();
        let cache = instance.cache::<u64, u64>("rows").loader(move |key: u64| {
            let source = source.clone();
            async move { Ok(source.load(key).await?) }
        });
        let cache = match tier {
            Tier::Off => cache,
            Tier::On => cache.tier(unstale::SharedTier::new()),
        };
        let cache = cache.build().unwrap();
        Self { instance, cache }
    }

    pub(crate) async fn get(&self, key: u64) -> Option<u64> {
        self.cache.get(&key).await.unwrap()
    }

    pub(crate) async fn outcome(&self, key: u64) -> Outcome {
        self.cache.lookup(&key).await.unwrap().outcome
    }

    /// As [`metric`].
    pub(crate) fn metric(&self, series: &str) -> u64 {
        metric(&self.instance, series)
    }
}

/// Two instances with default settings, nothing cached yet.
pub(crate) async fn pair() -> (LocalBus, Source, Node, Node) {
    pair_with(Settings::default()).await
}

pub(crate) async fn pair_with(settings: Settings) -> (LocalBus, Source, Node, Node) {
    pair_over(settings, Tier::Off).await
}

pub(crate) async fn pair_over(settings: Settings, tier: Tier) -> (LocalBus, Source, Node, Node) {
    let (bus, source) = (LocalBus::default(), Source::default());
    let start = async || {
        let instance = testing::start_on(&bus, settings.clone()).await.unwrap();
        Node::with(instance, &source, tier)
    };
    let (first, second) = (start().await, start().await);
    (bus, source, first, second)
}

/// Lets background tasks run; under the paused clock this takes no time.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// An instance of its own, on a bus of its own.
pub(crate) async fn alone() -> (LocalBus, Instance) {
    let bus = LocalBus::default();
    let instance = testing::start_on(&bus, Settings::default()).await.unwrap();
    (bus, instance)
}

/// As [`Cache::get`], in a task of its own.
pub(crate) fn get(cache: &Cache<u64, u64>, key: u64) -> JoinHandle<Result<Option<u64>, Error>> {
    let cache = cache.clone();
    tokio::spawn(async move { cache.get(&key).await })
}

/// The value of one series in an instance's metrics; 0 if it is not there.
pub(crate) fn metric(instance: &Instance, series: &str) -> u64 {
    let text = instance.metrics_text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
}
