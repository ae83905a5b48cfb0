//! How many keys a second one instance invalidates on a fleet of five, and whether all arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use unstale::{Cache, Instance};
use unstale_benches::{Report, Samples, Server, metric, own_cpu, record_metrics, settings};

/// Instances that listen besides the one that writes, which listens too.
const LISTENERS: usize = 4;

const ROUNDS: usize = 5;

/// How long one round goes on.
const ROUND: Duration = Duration::from_millis(1_000);

/// Pause between two looks whether everything has arrived.
const LOOK: Duration = Duration::from_millis(20);

/// Tasks that invalidate one key after another, each waiting for Redis.
const WRITERS: usize = 512;

/// Calls of `invalidate_many` under way at once, and keys of each.
const BULK_WRITERS: usize = 8;
const BULK: usize = 1_000;

struct Node {
    instance: Instance,
    cache: Cache<u64, u64>,
}

impl Node {
    async fn start(url: &str) -> Self {
        let instance = Instance::start(settings(url)).await.expect("starts");
        let cache = instance.cache("rows").build().expect("a valid cache");
        Self { instance, cache }
    }

    /// Keys that peers' events named.
    fn heard(&self) -> u64 {
        metric(
            &self.instance,
            "unstale_invalidations_total{cache=\"rows\",kind=\"key\",from=\"remote\"}",
        ) as u64
    }

    /// Whatever would mean that something did not arrive as it was sent.
    fn trouble(&self) -> u64 {
        [
            "unstale_gaps_total",
            "unstale_outbox_collapses_total",
            "unstale_publish_failures_total",
        ]
        .iter()
        .map(|series| metric(&self.instance, series) as u64)
        .sum()
    }
}

/// What one round did.
struct Round {
    /// Keys acknowledged, or delivered to each listener, a second.
    acknowledged: f64,
    delivered: f64,
    /// Keys that did not reach every listener.
    lost: u64,
    messages: u64,
    keys: u64,
    /// CPU time in microseconds a key: of writer and listeners, and of Redis.
    own: f64,
    redis: f64,
}

async fn round(nodes: &[Node], server: &Server, bulk: bool) -> Round {
    let (writer, listeners) = nodes.split_first().expect("a writer");
    let heard: Vec<u64> = listeners.iter().map(Node::heard).collect();
    let published = metric(&writer.instance, "unstale_events_published_total");
    let (own, redis) = (own_cpu(), server.stats().cpu);
    let began = Instant::now();
    let keys = if bulk {
        bulks(writer).await
    } else {
        singles(writer).await
    };
    let acknowledged = began.elapsed();
    // Before the metrics are rendered, which takes CPU too.
    let (own, redis) = (own_cpu() - own, server.stats().cpu - redis);
    let missing = || -> u64 {
        let each = listeners.iter().zip(&heard);
        each.map(|(node, before)| (before + keys).saturating_sub(node.heard()))
            .sum()
    };
    let mut lost = missing();
    while lost > 0 && began.elapsed() < ROUND * 5 {
        tokio::time::sleep(LOOK).await;
        lost = missing();
    }
    let delivered = began.elapsed();
    let per_key = |cpu: Duration| cpu.as_nanos() as f64 / 1e3 / keys as f64;
    Round {
        acknowledged: keys as f64 / acknowledged.as_secs_f64(),
        delivered: keys as f64 / delivered.as_secs_f64(),
        lost,
        messages: (metric(&writer.instance, "unstale_events_published_total") - published) as u64,
        keys,
        own: per_key(own),
        redis: per_key(redis),
    }
}

/// Keys that `WRITERS` tasks invalidated one by one.
async fn singles(writer: &Node) -> u64 {
    let (stop, next) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut tasks = JoinSet::new();
    for _ in 0..WRITERS {
        let (cache, stop, next) = (writer.cache.clone(), stop.clone(), next.clone());
        tasks.spawn(async move {
            while !stop.load(Relaxed) {
                let key = next.fetch_add(1, Relaxed);
                cache.invalidate(&key).await.expect("Redis acknowledges");
            }
        });
    }
    tokio::time::sleep(ROUND).await;
    stop.store(true, Relaxed);
    tasks.join_all().await;
    next.load(Relaxed)
}

/// The share of what the processors could do, did nothing else run, that counts as their limit: the
/// benchmark and the kernel take the rest.
const NEARLY: f64 = 0.8;

/// Keys that `BULK_WRITERS` tasks invalidated a thousand at a time.
async fn bulks(writer: &Node) -> u64 {
    let (stop, calls) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut tasks = JoinSet::new();
    for task in 0..BULK_WRITERS {
        let (cache, stop, calls) = (writer.cache.clone(), stop.clone(), calls.clone());
        tasks.spawn(async move {
            let keys: Vec<u64> = (0..BULK).map(|n| (task * BULK + n) as u64).collect();
            while !stop.load(Relaxed) {
                cache
                    .invalidate_many(&keys)
                    .await
                    .expect("Redis acknowledges");
                calls.fetch_add(1, Relaxed);
            }
        });
    }
    tokio::time::sleep(ROUND).await;
    stop.store(true, Relaxed);
    tasks.join_all().await;
    calls.load(Relaxed) * BULK as u64
}

#[tokio::main]
async fn main() {
    record_metrics();
    let server = Server::start();
    let mut nodes = Vec::new();
    for _ in 0..=LISTENERS {
        nodes.push(Node::start(&server.url()).await);
    }
    let mut report = Report::new("Throughput: one instance writes, four more listen, journal on");
    let mut rows = Vec::new();
    for bulk in [false, true] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(round(&nodes, &server, bulk).await);
        }
        let all = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Samples>();
        let millions = |samples: &Samples| samples.scaled(1e-6).show(2);
        let (acknowledged, delivered) = (all(|r| r.acknowledged), all(|r| r.delivered));
        let lost: u64 = rounds.iter().map(|round| round.lost).sum();
        let trouble: u64 = nodes.iter().map(Node::trouble).sum();
        let (own, redis) = (all(|r| r.own).median(), all(|r| r.redis).median());
        let batch = all(|r| r.keys as f64 / r.messages.max(1) as f64).median();
        let what = if bulk {
            "`invalidate_many`, 1,000 keys a call, 8 at once"
        } else {
            "`invalidate`, 512 tasks"
        };
        // All instances, and Redis, share this machine.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let limit = cores as f64 / (own + redis);
        let limited = format!("{limit:.2} M where {cores} cores do nothing else");
        rows.push(vec![
            what.into(),
            millions(&acknowledged),
            millions(&delivered),
            format!("{batch:.0}"),
            format!("{own:.2}"),
            format!("{redis:.2}"),
            format!("{limit:.2}"),
            format!("{lost}"),
            format!("{trouble}"),
        ]);
        if bulk {
            report.goal(
                "bulk `invalidate_many`, delivered to each of 4 instances",
                "5M keys/s, or the limit of the CPU",
                format!("{} M keys/s, {lost} lost; {limited}", millions(&delivered)),
                delivered.median() >= 5e6_f64.min(limit * 1e6 * NEARLY) && lost == 0,
            );
        } else {
            report.goal(
                "single-key `invalidate().await` from 512 tasks, to 4 instances",
                "1M keys/s acknowledged, nothing lost",
                format!(
                    "{} M keys/s, {lost} lost; {limited}",
                    millions(&acknowledged)
                ),
                acknowledged.median() >= 1e6 && lost + trouble == 0,
            );
        }
    }
    report.table(
        "Millions of keys a second; CPU time in microseconds a key. The limit of the CPU is what all cores could do if none ever waited. `Trouble`: gaps, collapses, refused messages.",
        &[
            "",
            "acknowledged",
            "delivered to each",
            "keys a message",
            "CPU of all 5 instances",
            "CPU of Redis",
            "limit of the CPU",
            "lost",
            "trouble",
        ],
        rows,
    );
    report.print();
}
