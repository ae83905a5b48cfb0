//! What a hit costs, beside raw quick_cache with the same keys.
//!
//! ```text
//! cargo bench --bench hit_path [-- --json]
//! ```
//!
//! Contenders are interleaved within one run and repeated; the table gives medians with their
//! spread, and ratios. Times depend on the machine, ratios hardly do. Everything is on: TTL, the
//! promise, stamps, and all metrics in an installed Prometheus recorder.

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use quick_cache::sync::Cache as Raw;
use tokio::runtime::Handle;
use unstale::{Cache, Instance, Settings};

type Value = Arc<[u8; 256]>;

/// Times every contender is measured; the median is quoted.
const ROUNDS: usize = 15;

/// Lookups a thread does in one measurement.
const LOOKUPS: usize = 400_000;

/// Skew of the requests, as web workloads have it.
const ZIPF: f64 = 0.99;

struct Workload {
    keys: Vec<String>,
    /// Indices into `keys`, in the order they are asked for.
    asked: Vec<u32>,
}

impl Workload {
    fn new(count: usize) -> Self {
        let keys = (0..count).map(|n| format!("account:{n:016}")).collect();
        let weights = (1..=count).map(|rank| 1.0 / (rank as f64).powf(ZIPF));
        let sums: Vec<f64> = weights
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        let mut random = fastrand::Rng::with_seed(7);
        // The popular keys lie anywhere in memory.
        let mut places: Vec<u32> = (0..count as u32).collect();
        random.shuffle(&mut places);
        let all = sums[count - 1];
        let draw = |_| places[sums.partition_point(|sum| *sum < random.f64() * all)];
        let asked = (0..LOOKUPS).map(draw).collect();
        Self { keys, asked }
    }
}

/// Nanoseconds a lookup takes, on `threads` threads at once.
fn measure(threads: usize, workload: &Workload, run: impl Fn(&Workload, usize) + Sync) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (run, runtime) = (&run, Handle::current());
            scope.spawn(move || {
                let _in_runtime = runtime.enter();
                run(workload, thread * LOOKUPS / threads);
            });
        }
    });
    began.elapsed().as_nanos() as f64 / LOOKUPS as f64
}

fn raw(cache: &Raw<String, Value>, workload: &Workload, start: usize) {
    for index in rotated(workload, start) {
        black_box(cache.get(workload.keys[index].as_str()));
    }
}

fn ours(cache: &Cache<String, Value>, workload: &Workload, start: usize) {
    let runtime = Handle::current();
    let mut context = Context::from_waker(Waker::noop());
    for index in rotated(workload, start) {
        let get = std::pin::pin!(cache.get(workload.keys[index].as_str()));
        match get.poll(&mut context) {
            Poll::Ready(Ok(Some(value))) => drop(black_box(value)),
            // The first read after a pause waits for one verification.
            Poll::Pending => drop(runtime.block_on(cache.get(workload.keys[index].as_str()))),
            Poll::Ready(other) => unreachable!("not a hit: {other:?}"),
        }
    }
}

fn rotated(workload: &Workload, start: usize) -> impl Iterator<Item = usize> {
    let (before, after) = workload.asked.split_at(start);
    after.iter().chain(before).map(|index| *index as usize)
}

struct Row {
    keys: usize,
    threads: usize,
    raw: Vec<f64>,
    ours: Vec<f64>,
}

impl Row {
    /// The ratio within each round, where both met the same noise.
    fn ratios(&self) -> Vec<f64> {
        self.ours
            .iter()
            .zip(&self.raw)
            .map(|(ours, raw)| ours / raw)
            .collect()
    }
}

/// Median, lowest and highest.
fn spread(samples: &[f64]) -> (f64, f64, f64) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    (
        sorted[sorted.len() / 2],
        sorted[0],
        sorted[sorted.len() - 1],
    )
}

fn compare(instance: &Instance, runtime: &tokio::runtime::Runtime, keys: usize) -> Vec<Row> {
    let workload = Workload::new(keys);
    let capacity = keys * 5 / 4;
    let plain = Raw::<String, Value>::new(capacity);
    let name = format!("keys_{keys}");
    let cache = instance
        .cache::<String, Value>(&name)
        .capacity(capacity)
        .ttl(std::time::Duration::from_secs(3600))
        .loader(|_: String| async { Ok::<_, std::io::Error>(Arc::new([7; 256])) })
        .build()
        .expect("a valid cache");
    for key in &workload.keys {
        plain.insert(key.clone(), Arc::new([7; 256]));
    }
    runtime
        .block_on(cache.preload(workload.keys.iter().cloned()))
        .expect("loads");
    // Shards fill unevenly: ask only for what both hold.
    let held = |key: &String| plain.peek(key).is_some() && cache.peek(key).is_some();
    let asked = workload
        .asked
        .iter()
        .copied()
        .filter(|n| held(&workload.keys[*n as usize]));
    let mut asked: Vec<u32> = asked.collect();
    let missing = LOOKUPS - asked.len();
    asked.extend_from_within(..missing);
    let workload = Workload { asked, ..workload };
    let mut rows = Vec::new();
    for threads in [1, 2] {
        let mut row = Row {
            keys,
            threads,
            raw: Vec::new(),
            ours: Vec::new(),
        };
        for _ in 0..ROUNDS {
            row.raw.push(measure(threads, &workload, |w, start| {
                raw(&plain, w, start)
            }));
            row.ours.push(measure(threads, &workload, |w, start| {
                ours(&cache, w, start)
            }));
        }
        rows.push(row);
    }
    rows
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _guard = runtime.enter();
    let builder = metrics_exporter_prometheus::PrometheusBuilder::new();
    let builder = unstale::metrics::set_buckets(builder).expect("buckets");
    builder.install_recorder().expect("the first recorder");
    let instance = runtime
        .block_on(Instance::start(Settings::default()))
        .expect("starts");
    let mut rows = compare(&instance, &runtime, 100_000);
    rows.extend(compare(&instance, &runtime, 1_000));
    if std::env::args().any(|arg| arg == "--json") {
        json(&rows);
    } else {
        table(&rows);
    }
}

#[expect(clippy::print_stdout, reason = "the result")]
fn table(rows: &[Row]) {
    println!("| hit, 24-byte String key, Zipf 0.99 | raw quick_cache, ns | unstale, ns | ratio |");
    println!("|---|---|---|---|");
    for row in rows {
        let cell = |samples: &[f64], digits: usize| {
            let (median, low, high) = spread(samples);
            format!("{median:.digits$} ({low:.digits$} to {high:.digits$})")
        };
        let (raw, ours, ratio) = (
            cell(&row.raw, 0),
            cell(&row.ours, 0),
            cell(&row.ratios(), 2),
        );
        println!(
            "| {} keys, {} thread(s) | {raw} | {ours} | {ratio} |",
            row.keys, row.threads
        );
    }
}

#[expect(clippy::print_stdout, reason = "the result")]
fn json(rows: &[Row]) {
    let row = |row: &Row| {
        serde_json::json!({
            "keys": row.keys,
            "threads": row.threads,
            "raw_ns": spread(&row.raw).0,
            "unstale_ns": spread(&row.ours).0,
            "ratio": spread(&row.ratios()).0,
        })
    };
    println!(
        "{}",
        serde_json::Value::Array(rows.iter().map(row).collect())
    );
}
