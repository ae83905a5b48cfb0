//! Fleets of 1, 4, 16 and 64 instances over one Redis; `fanout` has those of hundreds.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use unstale::{Cache, Instance};
use unstale_benches::{
    Report, Server, cpu_of_thread, metric, record_metrics, settings, this_thread, until,
};

const FLEETS: [usize; 4] = [1, 4, 16, 64];

/// Keys a message.
const BATCHES: [usize; 2] = [1, 100];

/// How long messages are published, one after another.
const PUBLISHING: Duration = Duration::from_millis(2_500);

/// How long only verifications go on, at the full rate.
const VERIFYING: Duration = Duration::from_secs(4);

/// Reads that keep an instance from slowing its verifications down.
const TOUCH: Duration = Duration::from_millis(100);

/// An instance on a thread of its own, so that its CPU time can be measured.
struct Node {
    instance: Instance,
    cache: Cache<u64, u64>,
    thread: i32,
    _stop: oneshot::Sender<()>,
}

impl Node {
    async fn start(url: String) -> Self {
        let (tell, started) = oneshot::channel();
        let (_stop, stopped) = oneshot::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let run = async {
                let instance = Instance::start(settings(&url)).await.expect("starts");
                let cache = instance
                    .cache::<u64, u64>("rows")
                    .loader(|_: u64| async { Ok(7_u64) })
                    .build()
                    .expect("a valid cache");
                let _ = tell.send((instance, cache, this_thread()));
                let _ = stopped.await;
            };
            runtime.expect("a runtime").block_on(run);
        });
        let (instance, cache, thread) = started.await.expect("it starts");
        Self {
            instance,
            cache,
            thread,
            _stop,
        }
    }

    fn metric(&self, series: &str) -> f64 {
        metric(&self.instance, series)
    }

    fn cpu(&self) -> f64 {
        cpu_of_thread(self.thread).as_secs_f64()
    }
}

/// What one message, or one verification, costs.
#[derive(Clone, Copy)]
struct Cost {
    /// A second, all of them.
    rate: f64,
    /// Microseconds of Redis' CPU each.
    redis: f64,
    /// Microseconds of CPU that each costs one listener (or its sender, for a verification).
    instance: f64,
    /// Bytes each that Redis wrote to one instance, framing included.
    bytes: f64,
}

/// Messages of `batch` keys, one after another.
async fn messages(nodes: &[Node], server: &Server, batch: usize) -> Cost {
    let received = |node: &Node| node.metric("unstale_events_received_total");
    let delivered = |node: &Node| node.metric("unstale_bus_received_bytes_total{kind=\"deliver\"}");
    let writer = &nodes[0];
    // Alone, a writer is its own listener.
    let listener = &nodes[nodes.len() - 1];
    let was: Vec<f64> = nodes.iter().map(received).collect();
    let (cpu, bytes, redis) = (listener.cpu(), delivered(listener), server.stats().cpu);
    let keys: Vec<u64> = (0..batch as u64).collect();
    let (began, mut sent) = (Instant::now(), 0.0);
    while began.elapsed() < PUBLISHING {
        writer
            .cache
            .invalidate_many(&keys)
            .await
            .expect("Redis acknowledges");
        sent += 1.0;
    }
    let all = || {
        nodes
            .iter()
            .zip(&was)
            .all(|(node, was)| received(node) >= was + sent)
    };
    until("the delivery", all).await;
    let took = began.elapsed().as_secs_f64();
    let micros = |seconds: f64| seconds * 1e6 / sent;
    Cost {
        rate: sent / took,
        redis: micros((server.stats().cpu - redis).as_secs_f64()),
        instance: micros(listener.cpu() - cpu),
        bytes: (delivered(listener) - bytes) / sent,
    }
}

/// Instances that are read from, while nothing is published.
async fn verifications(nodes: &[Node], server: &Server) -> Cost {
    let count = || -> f64 {
        let verified = |node: &Node| node.metric("unstale_verifications_total");
        nodes.iter().map(verified).sum()
    };
    let touch = async || {
        for node in nodes {
            node.cache.get(&1).await.expect("loads");
        }
        tokio::time::sleep(TOUCH).await;
    };
    for _ in 0..10 {
        touch().await;
    }
    let (before, cpu) = (count(), nodes.iter().map(Node::cpu).sum::<f64>());
    let began = Instant::now();
    let work = async {
        while began.elapsed() < VERIFYING {
            touch().await;
        }
    };
    let ((), stats) = server.during(work).await;
    let took = began.elapsed().as_secs_f64();
    let (beats, cpu) = (
        count() - before,
        nodes.iter().map(Node::cpu).sum::<f64>() - cpu,
    );
    Cost {
        rate: beats / took,
        redis: stats.cpu.as_secs_f64() * 1e6 / beats,
        instance: cpu * 1e6 / beats,
        bytes: (stats.input + stats.output) as f64 / beats,
    }
}

/// By message size, then verifications.
async fn fleet(size: usize) -> [Cost; 3] {
    let server = Server::start();
    let mut nodes = Vec::new();
    for _ in 0..size {
        nodes.push(Node::start(server.url()).await);
    }
    [
        messages(&nodes, &server, BATCHES[0]).await,
        messages(&nodes, &server, BATCHES[1]).await,
        verifications(&nodes, &server).await,
    ]
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    record_metrics();
    let mut fleets = Vec::new();
    for size in FLEETS {
        fleets.push(fleet(size).await);
    }
    let mut report = Report::new("Scale: fleets in one process over one Redis");
    let mut rows = Vec::new();
    for (size, costs) in FLEETS.iter().zip(&fleets) {
        for (kind, cost) in ["messages of 1 key", "messages of 100 keys", "verifications"]
            .iter()
            .zip(costs)
        {
            rows.push(vec![
                size.to_string(),
                (*kind).to_owned(),
                format!("{:.0}", cost.rate),
                format!("{:.1}", cost.redis),
                format!("{:.1}", cost.instance),
                format!("{:.0}", cost.bytes),
            ]);
        }
    }
    report.table(
        "Messages go out one after another from one instance; verifications are those of instances \
         that are read from and hear nothing, with what else keeps an instance alive.",
        &[
            "instances",
            "what",
            "a second",
            "CPU of Redis each, us",
            "CPU of an instance each, us",
            "bytes each to one instance",
        ],
        rows,
    );
    report.print();
}
