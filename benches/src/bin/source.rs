//! What readers get, and what a database is asked, while it hangs, fails, is slow and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;
use unstale::{Cache, Instance, LocalBus, Settings};
use unstale_benches::{Report, Samples};

const KEYS: u64 = 10_000;
const INSTANCES: usize = 4;
const TTL: Duration = Duration::from_secs(10);

/// Tasks that read, for each instance, and their pause between two reads.
const READERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(3);

/// What a query takes of a database that is well.
const QUERY: Duration = Duration::from_millis(2);

/// How long each state of the database lasts.
const PHASE: Duration = Duration::from_secs(10);

const PHASES: [&str; 5] = [
    "is well",
    "hangs",
    "fails at once",
    "takes ten times as long",
    "is back",
];

/// One for each contender.
#[derive(Clone, Default)]
struct Database(Arc<State>);

#[derive(Default)]
struct State {
    phase: AtomicU8,
    changed: Notify,
    asked: AtomicU64,
}

impl Database {
    fn enter(&self, phase: usize) {
        self.0.phase.store(phase as u8, Relaxed);
        self.0.changed.notify_waiters();
    }

    async fn row(&self, key: u64) -> Result<u64, std::io::Error> {
        self.0.asked.fetch_add(1, Relaxed);
        loop {
            let changed = self.0.changed.notified();
            match self.0.phase.load(Relaxed) {
                1 => changed.await,
                2 => return Err(std::io::Error::other("the database is down")),
                3 => break sleep(10 * QUERY).await,
                _ => break sleep(QUERY).await,
            }
        }
        Ok(key)
    }
}

/// One instance's cache.
#[derive(Clone)]
enum Contender {
    Unstale(Cache<u64, u64>),
    Moka(moka::future::Cache<u64, u64>, Database),
    Quick(Arc<quick_cache::sync::Cache<u64, (u64, Instant)>>, Database),
}

impl Contender {
    /// Returns whether it was answered.
    async fn get(&self, key: u64) -> bool {
        match self {
            Self::Unstale(cache) => cache.get(&key).await.is_ok(),
            Self::Moka(cache, database) => cache.try_get_with(key, database.row(key)).await.is_ok(),
            Self::Quick(cache, database) => {
                if cache
                    .get(&key)
                    .is_some_and(|(_, loaded)| loaded.elapsed() > TTL)
                {
                    cache.remove_if(&key, |(_, loaded)| loaded.elapsed() > TTL);
                }
                let load = async { database.row(key).await.map(|row| (row, Instant::now())) };
                cache.get_or_insert_async(&key, load).await.is_ok()
            }
        }
    }
}

const NAMES: [&str; 4] = [
    "unstale, stale_if_error",
    "unstale",
    "moka",
    "quick_cache and Instant",
];

async fn contender(
    which: usize,
    database: &Database,
    bus: &LocalBus,
) -> (Contender, Option<Instance>) {
    match which {
        2 => {
            let cache = moka::future::Cache::builder();
            let cache = cache.max_capacity(2 * KEYS).time_to_live(TTL).build();
            (Contender::Moka(cache, database.clone()), None)
        }
        3 => {
            let cache = Arc::new(quick_cache::sync::Cache::new(2 * KEYS as usize));
            (Contender::Quick(cache, database.clone()), None)
        }
        _ => {
            let instance = Instance::start_on(bus, Settings::default())
                .await
                .expect("starts");
            let source = database.clone();
            let stale = (which == 0).then_some(Duration::from_secs(3_600));
            let cache = instance
                .cache::<u64, u64>("rows")
                .capacity(2 * KEYS as usize)
                .ttl(TTL)
                .stale_if_error(stale)
                .loader(move |key: u64| {
                    let source = source.clone();
                    async move { Ok(source.row(key).await?) }
                })
                .build()
                .expect("a valid cache");
            (Contender::Unstale(cache), Some(instance))
        }
    }
}

/// What one contender's readers saw in one phase.
#[derive(Default)]
struct Seen {
    latencies: Samples,
    reads: usize,
    errors: u64,
    asked: u64,
}

/// Half of the reads go to a sixteenth of the keys.
fn key() -> u64 {
    let at = fastrand::f64().powi(4);
    (at * KEYS as f64) as u64
}

async fn read(cache: Contender, until: Instant) -> (Vec<f64>, u64) {
    let (mut latencies, mut errors) = (Vec::new(), 0);
    while Instant::now() < until {
        let began = Instant::now();
        errors += u64::from(!cache.get(key()).await);
        latencies.push(began.elapsed().as_secs_f64() * 1e3);
        sleep(PAUSE).await;
    }
    (latencies, errors)
}

async fn phase(caches: &[Contender], database: &Database, phase: usize) -> Seen {
    database.enter(phase);
    let (asked, until) = (database.0.asked.load(Relaxed), Instant::now() + PHASE);
    let mut readers = JoinSet::new();
    for cache in caches {
        for _ in 0..READERS {
            readers.spawn(read(cache.clone(), until));
        }
    }
    // Reads that hang end when the next phase begins, and are of this one.
    sleep(PHASE).await;
    let asked = database.0.asked.load(Relaxed) - asked;
    database.enter(phase + 1);
    let mut seen = Seen {
        asked,
        ..Seen::default()
    };
    for (latencies, errors) in readers.join_all().await {
        seen.reads += latencies.len();
        seen.latencies.extend(&latencies.into_iter().collect());
        seen.errors += errors;
    }
    seen
}

async fn run(which: usize) -> Vec<Seen> {
    let (database, bus) = (Database::default(), LocalBus::default());
    let (mut caches, mut instances) = (Vec::new(), Vec::new());
    for _ in 0..INSTANCES {
        let (cache, instance) = contender(which, &database, &bus).await;
        caches.push(cache);
        instances.extend(instance);
    }
    let mut warm = JoinSet::new();
    for cache in &caches {
        for reader in 0..READERS as u64 {
            let cache = cache.clone();
            warm.spawn(async move {
                for key in (reader..KEYS).step_by(READERS) {
                    cache.get(key).await;
                }
            });
        }
    }
    let ready = tokio::time::timeout(3 * TTL, warm.join_all()).await;
    assert!(ready.is_ok(), "it does not warm up");
    let mut all = Vec::new();
    for of in 0..PHASES.len() {
        all.push(phase(&caches, &database, of).await);
    }
    all
}

#[tokio::main]
async fn main() {
    let mut report = Report::new(
        "A database that hangs, fails, is slow and comes back: 4 instances, 10,000 keys",
    );
    let mut rows = Vec::new();
    let mut runs = JoinSet::new();
    for which in 0..NAMES.len() {
        runs.spawn(async move { (which, run(which).await) });
    }
    let mut runs = runs.join_all().await;
    runs.sort_by_key(|(which, _)| *which);
    for (phase, name) in PHASES.iter().enumerate() {
        for (which, seen) in &runs {
            let seen = &seen[phase];
            let second = |count: u64| format!("{:.0}", count as f64 / PHASE.as_secs_f64());
            rows.push(vec![
                (*name).to_owned(),
                NAMES[*which].to_owned(),
                second(seen.reads as u64),
                format!("{:.1}", seen.latencies.median()),
                format!("{:.0}", seen.latencies.quantile(0.99)),
                second(seen.asked),
                second(seen.errors),
            ]);
        }
    }
    report.table(
        "All at once on one machine, each over a database of its own; a TTL of 10 s, and phases of 10 s.",
        &["the database", "", "reads/s", "p50 ms", "p99 ms", "loads/s", "errors/s"],
        rows,
    );
    report.print();
}
