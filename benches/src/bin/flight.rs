//! What single-flight adds to a loader's time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::JoinSet;
use unstale::{Cache, Instance, Settings};
use unstale_benches::{Report, Samples, record_metrics};

/// What the loader takes: a quick database.
const LOAD: Duration = Duration::from_millis(1);

const CALLERS: usize = 64;

/// Loads measured in each round.
const LOADS: u64 = 50;

const ROUNDS: usize = 15;

/// When the last load ended, in nanoseconds since [`Clock::began`].
#[derive(Clone)]
struct Clock {
    began: Instant,
    loaded: Arc<AtomicU64>,
}

impl Clock {
    fn new() -> Self {
        let (began, loaded) = (Instant::now(), Arc::default());
        Self { began, loaded }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    async fn load(&self) -> u64 {
        tokio::time::sleep(LOAD).await;
        self.loaded.store(self.now(), Relaxed);
        7
    }
}

#[derive(Clone)]
enum Contender {
    Unstale(Cache<u64, u64>),
    Moka(moka::future::Cache<u64, u64>, Clock),
    Quick(Arc<quick_cache::sync::Cache<u64, u64>>, Clock),
}

const NAMES: [&str; 3] = ["unstale", "moka", "quick_cache"];

impl Contender {
    async fn get(&self, key: u64) {
        match self {
            Self::Unstale(cache) => drop(cache.get(&key).await.expect("loads")),
            Self::Moka(cache, clock) => drop(cache.get_with(key, clock.load()).await),
            Self::Quick(cache, clock) => {
                let load = async { Ok::<_, ()>(clock.load().await) };
                let _ = cache.get_or_insert_async(&key, load).await;
            }
        }
    }
}

/// Microseconds from the end of the load to each caller's answer, and from the first caller's.
async fn measure(contender: &Contender, clock: &Clock, key: u64, callers: usize) -> [Samples; 2] {
    let start = Arc::new(Barrier::new(callers));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (contender, clock, start) = (contender.clone(), clock.clone(), start.clone());
        tasks.spawn(async move {
            start.wait().await;
            contender.get(key).await;
            clock.now()
        });
    }
    let answered = tasks.join_all().await;
    let first = *answered.iter().min().expect("callers");
    let loaded = clock.loaded.load(Relaxed);
    [loaded, first].map(|since| {
        let late = |at: &u64| at.saturating_sub(since) as f64 / 1e3;
        answered.iter().map(late).collect()
    })
}

#[tokio::main]
async fn main() {
    record_metrics();
    let clock = Clock::new();
    let instance = Instance::start(Settings::default()).await.expect("starts");
    let loads = clock.clone();
    let cache = instance
        .cache::<u64, u64>("rows")
        .loader(move |_: u64| {
            let loads = loads.clone();
            async move { Ok(loads.load().await) }
        })
        .build()
        .expect("a valid cache");
    let contenders = [
        Contender::Unstale(cache),
        Contender::Moka(moka::future::Cache::new(100_000), clock.clone()),
        Contender::Quick(
            Arc::new(quick_cache::sync::Cache::new(100_000)),
            clock.clone(),
        ),
    ];
    let mut one = vec![Samples::default(); contenders.len()];
    let mut many = vec![[Samples::default(), Samples::default()]; contenders.len()];
    let mut key = 0;
    for round in 0..ROUNDS {
        for turn in 0..contenders.len() {
            let which = (round + turn) % contenders.len();
            for _ in 0..LOADS {
                key += 2;
                let [late, _] = measure(&contenders[which], &clock, key, 1).await;
                one[which].extend(&late);
                let late = measure(&contenders[which], &clock, key + 1, CALLERS).await;
                many[which]
                    .iter_mut()
                    .zip(&late)
                    .for_each(|(all, late)| all.extend(late));
            }
        }
    }
    report(&one, &many).print();
}

fn report(one: &[Samples], many: &[[Samples; 2]]) -> Report {
    let mut report = Report::new("A miss: what single-flight adds to a loader of 1 ms");
    let quantiles = |of: &Samples| format!("{:.1} / {:.0}", of.median(), of.quantile(0.99));
    let row = |n: usize| {
        let [since_load, since_first] = &many[n];
        vec![
            NAMES[n].to_owned(),
            quantiles(&one[n]),
            quantiles(since_load),
            quantiles(since_first),
        ]
    };
    report.table(
        "Microseconds, p50 / p99.",
        &[
            "",
            "one caller, after its load",
            "64 callers, after their load",
            "64 callers, after the first of them",
        ],
        (0..NAMES.len()).map(row).collect(),
    );
    let added = one[0].median();
    report.goal(
        "miss overhead, one caller",
        "10 us p50",
        format!("{added:.1} us"),
        added <= 10.0,
    );
    let last = many[0][1].quantile(0.99);
    report.goal(
        "miss overhead, 64 callers",
        "p99 within 100 us of the first",
        format!("{last:.0} us"),
        last <= 100.0,
    );
    report
}
