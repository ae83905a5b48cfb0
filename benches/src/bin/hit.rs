//! What a hit costs, beside caches that promise less.
//!
//! Everything of ours is on: TTL, promise, stamps, all metrics in an installed Prometheus recorder.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Runtime};
use unstale::{Cache, Instance, Settings};
use unstale_benches::{Report, Samples, Workload, interleaved, record_metrics};

type Value = Arc<[u8; 256]>;

/// Times every contender is measured; the median is quoted.
const ROUNDS: usize = 11;

/// Requests a thread makes in one measurement.
const REQUESTS: usize = 200_000;

const TTL: Duration = Duration::from_secs(3600);

/// The names of the contenders; the first two are what others are compared with.
const NAMES: [&str; 8] = [
    "quick_cache",
    "quick_cache, expiry by `Instant::now()`",
    "unstale",
    "dashmap",
    "foyer-memory",
    "moka sync, TTL",
    "moka future, TTL",
    "quick_cache behind a bare table of each thread",
];

/// Their places in it.
const OURS: usize = 2;
const MOKA: [usize; 2] = [5, 6];

/// Keys; how many times a lookup of quick_cache a hit may take, on one thread and on two; and how many times
/// one that looks at the time.
const GOALS: [(usize, [f64; 2], f64); 2] = [(100_000, [1.25, 1.2], 0.6), (1_000, [1.5, 1.0], 0.75)];

type Contender = Box<dyn Fn(&Workload, usize, usize) + Sync>;

/// One lookup after another; every one must be a hit.
fn each<T>(workload: &Workload, thread: usize, threads: usize, get: impl Fn(&str) -> Option<T>) {
    for key in workload.requests(thread, threads) {
        let found = black_box(get(key));
        assert!(found.is_some(), "not a hit");
    }
}

/// All hold every key, and the very same values: a value that a loop allocates right behind its key
/// would be found on the key's cache line. The capacity leaves room for shards that fill unevenly.
fn contenders(workload: &Workload, instance: &Instance, runtime: &Runtime) -> Vec<Contender> {
    let (keys, capacity) = (&workload.keys, workload.keys.len() * 2);
    let quick = quick_cache::sync::Cache::<String, Value>::new(capacity);
    // What a user writes who wants a TTL.
    let expiring = quick_cache::sync::Cache::<String, (Value, Instant)>::new(capacity);
    let map = dashmap::DashMap::<String, Value>::new();
    let foyer = foyer_memory::CacheBuilder::new(capacity).build::<foyer_memory::CacheProperties>();
    let sync = moka::sync::Cache::<String, Value>::builder();
    let sync = sync.max_capacity(capacity as u64).time_to_live(TTL).build();
    let future = moka::future::Cache::<String, Value>::builder();
    let future = future
        .max_capacity(capacity as u64)
        .time_to_live(TTL)
        .build();
    let values: Arc<[Value]> = keys.iter().map(|_| Arc::new([7; 256])).collect();
    for (key, value) in keys.iter().zip(&*values) {
        quick.insert(key.clone(), value.clone());
        expiring.insert(key.clone(), (value.clone(), Instant::now() + TTL));
        map.insert(key.clone(), value.clone());
        foyer.insert(key.clone(), value.clone());
        sync.insert(key.clone(), value.clone());
        runtime.block_on(future.insert(key.clone(), value.clone()));
    }
    sync.run_pending_tasks();
    runtime.block_on(future.run_pending_tasks());
    let behind = quick_cache::sync::Cache::<String, Value>::new(capacity);
    for (key, value) in keys.iter().zip(&*values) {
        behind.insert(key.clone(), value.clone());
    }
    let unstale = unstale(keys, values, instance, runtime);
    vec![
        Box::new(move |w, n, of| each(w, n, of, |key| quick.get(key))),
        Box::new(move |w, n, of| {
            each(w, n, of, |key| {
                let (value, expires) = expiring.get(key)?;
                (Instant::now() < expires).then_some(value)
            });
        }),
        Box::new(move |w, n, of| ours(&unstale, w, n, of)),
        Box::new(move |w, n, of| each(w, n, of, |key| map.get(key).map(|found| found.clone()))),
        Box::new(move |w, n, of| {
            each(w, n, of, |key| {
                foyer.get(key).map(|found| Arc::clone(found.value()))
            });
        }),
        Box::new(move |w, n, of| each(w, n, of, |key| sync.get(key))),
        Box::new(move |w, n, of| each(w, n, of, |key| poll(future.get(key)).flatten())),
        Box::new(move |w, n, of| each(w, n, of, |key| in_front(&behind, key))),
    ]
}

fn unstale(
    keys: &[String],
    values: Arc<[Value]>,
    instance: &Instance,
    runtime: &Runtime,
) -> Cache<String, Value> {
    let cache = instance
        .cache::<String, Value>(&format!("keys_{}", keys.len()))
        .capacity(keys.len() * 2)
        .ttl(TTL)
        .loader(move |key: String| {
            let number = key.trim_start_matches(|c: char| !c.is_ascii_digit());
            let value = number
                .parse()
                .ok()
                .and_then(|n: usize| values.get(n))
                .cloned();
            async move { Ok(value) }
        })
        .build()
        .expect("a valid cache");
    assert_eq!(runtime.block_on(cache.preload(keys)).failed, 0);
    cache
}

/// Slots of a table of each thread, which this crate would have if it reached two thirds of quick_cache.
const SLOTS: usize = 1_024;

type Slot = Option<(u64, String, Value)>;

thread_local! {
    static TABLE: RefCell<Vec<Slot>> = RefCell::new(vec![None; SLOTS]);
}

/// The least that a table of each thread costs: it has no bound in time, no invalidation and no second cache.
fn in_front(cache: &quick_cache::sync::Cache<String, Value>, key: &str) -> Option<Value> {
    static HASHER: OnceLock<quick_cache::DefaultHashBuilder> = OnceLock::new();
    let hash = HASHER
        .get_or_init(quick_cache::DefaultHashBuilder::default)
        .hash_one(key);
    TABLE.with(|table| {
        let slot = &mut table.borrow_mut()[hash as usize % SLOTS];
        if let Some((of, held, value)) = slot
            && *of == hash
            && held == key
        {
            return Some(value.clone());
        }
        let value = cache.get(key)?;
        *slot = Some((hash, key.to_owned(), value.clone()));
        Some(value)
    })
}

/// What a future that is ready at its first poll has.
fn poll<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn ours(cache: &Cache<String, Value>, workload: &Workload, thread: usize, threads: usize) {
    each(workload, thread, threads, |key| {
        match poll(cache.get(key)) {
            Some(found) => found.expect("the loader never fails"),
            // The first read after a pause waits for one verification.
            None => Handle::current()
                .block_on(cache.get(key))
                .expect("the loader never fails"),
        }
    });
}

/// By contender, nanoseconds of CPU a lookup.
fn compare(contenders: &[Contender], workload: &Workload, threads: usize) -> Vec<Samples> {
    interleaved(contenders, ROUNDS, |contender| {
        workload.cost(threads, contender)
    })
}

fn rows(what: &str, samples: &[Samples]) -> Vec<Vec<String>> {
    let row = |(name, times): (&&str, &Samples)| {
        let ratio = times.over(&samples[0]);
        vec![
            what.to_owned(),
            (*name).to_owned(),
            times.show(0),
            ratio.show(2),
        ]
    };
    NAMES.iter().zip(samples).map(row).collect()
}

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let _guard = runtime.enter();
    record_metrics();
    let instance = runtime
        .block_on(Instance::start(Settings::default()))
        .expect("starts");
    let mut report = Report::new("A hit: 24-byte String key, Zipf 0.99, `Arc<[u8; 256]>`");
    let mut table = Vec::new();
    let (mut moka, mut scaling) = (f64::INFINITY, Vec::new());
    for (count, of_raw, of_expiring) in GOALS {
        let workload = Workload::zipf(count, REQUESTS);
        let contenders = contenders(&workload, &instance, &runtime);
        let mut one_thread = Vec::new();
        for threads in [1, 2] {
            let samples = compare(&contenders, &workload, threads);
            let what = format!(
                "{} keys, {threads} thread{}",
                thousands(count),
                if threads == 1 { "" } else { "s" }
            );
            table.extend(rows(&what, &samples));
            let mut beside = |peer: usize, goal: f64| {
                let ratio = samples[OURS].over(&samples[peer]);
                report.goal(
                    &format!("hit, {what}"),
                    &format!("{goal} x {}", NAMES[peer]),
                    format!("{} x", ratio.show(2)),
                    ratio.median() <= goal,
                );
            };
            beside(0, of_raw[threads - 1]);
            beside(1, of_expiring);
            for peer in MOKA {
                moka = moka.min(samples[peer].over(&samples[OURS]).median());
            }
            if threads == 1 {
                one_thread = samples;
            } else {
                let grows = |n: usize| samples[n].median() / one_thread[n].median();
                scaling.push((what, grows(0), grows(OURS)));
            }
        }
    }
    report.goal(
        "hit, beside moka with a TTL",
        "4 x as fast",
        format!("{moka:.1} x, the least of all rows"),
        moka >= 4.0,
    );
    for (what, raw, ours) in &scaling {
        report.goal(
            &format!("hit scaling, {what}"),
            "as raw quick_cache: the second thread slows a hit by no more than 1.05 x as much",
            format!("{ours:.2} x slower, quick_cache {raw:.2} x"),
            *ours <= raw * 1.05,
        );
    }
    report.table(
        "Nanoseconds of CPU a lookup: median, and between which values half of the rounds lie.",
        &["", "cache", "ns", "of quick_cache"],
        table,
    );
    report.print();
}

fn thousands(count: usize) -> String {
    if count.is_multiple_of(1_000) {
        format!("{}k", count / 1_000)
    } else {
        count.to_string()
    }
}
