//! What invalidations cost on the wire, by Redis' own count and by the crate's.

use unstale::{Cache, Instance};
use unstale_benches::{Report, Server, Stats, metric, record_metrics, settings, until};

/// Instances, the writer included.
const FLEET: usize = 4;

/// Each key belongs to one account of the story in the README.
const ACCOUNTS: usize = 1_000;

struct Node {
    instance: Instance,
    cache: Cache<String, u64>,
}

/// Bytes that the crate counted.
#[derive(Clone, Copy)]
struct Counted {
    /// Publishing, by the writer.
    sent: f64,
    /// Deliveries, to the last listener.
    delivered: f64,
}

async fn node(url: &str) -> Node {
    let instance = Instance::start(settings(url)).await.expect("starts");
    let cache = instance.cache("accounts").build().expect("a valid cache");
    Node { instance, cache }
}

fn counted(nodes: &[Node]) -> Counted {
    let last = &nodes[nodes.len() - 1].instance;
    Counted {
        sent: metric(
            &nodes[0].instance,
            "unstale_bus_sent_bytes_total{kind=\"publish\"}",
        ),
        delivered: metric(last, "unstale_bus_received_bytes_total{kind=\"deliver\"}"),
    }
}

/// Invalidates in calls of `batch` keys, one after another, and waits until all have it.
async fn invalidate(
    nodes: &[Node],
    server: &Server,
    keys: &[String],
    batch: usize,
) -> (Counted, Stats) {
    let received = |node: &Node| metric(&node.instance, "unstale_events_received_total") as usize;
    let before: Vec<usize> = nodes.iter().map(received).collect();
    let was = counted(nodes);
    let messages = keys.len().div_ceil(batch);
    let work = async {
        for batch in keys.chunks(batch) {
            let invalidated = nodes[0].cache.invalidate_many(batch).await;
            invalidated.expect("Redis acknowledges");
        }
        let all = || {
            nodes
                .iter()
                .zip(&before)
                .all(|(node, was)| received(node) >= was + messages)
        };
        until("the delivery", all).await;
    };
    let ((), stats) = server.during(work).await;
    let now = counted(nodes);
    let counted = Counted {
        sent: (now.sent - was.sent) / keys.len() as f64,
        delivered: (now.delivered - was.delivered) / keys.len() as f64,
    };
    (counted, stats)
}

#[tokio::main]
async fn main() {
    record_metrics();
    let server = Server::start();
    let mut nodes = Vec::new();
    for _ in 0..FLEET {
        nodes.push(node(&server.url()).await);
    }
    let keys = unstale_benches::keys(ACCOUNTS);
    let mut report = Report::new("Bytes: 1,000 accounts invalidated on 4 instances, 24-byte keys");
    let mut rows = Vec::new();
    for (batch, goals) in [
        (1, Some((180.0, 95.0))),
        (100, Some((10.5, 9.0))),
        (1_000, None),
    ] {
        let (ours, redis) = invalidate(&nodes, &server, &keys, batch).await;
        let all = (redis.input + redis.output) as f64 / 1e3;
        let each = |bytes: u64| format!("{:.1}", bytes as f64 / ACCOUNTS as f64);
        rows.push(vec![
            batch.to_string(),
            format!("{:.1}", ours.sent),
            format!("{:.1}", ours.delivered),
            each(redis.input),
            each(redis.output),
            format!("{all:.1}"),
        ]);
        if let Some((to_redis, to_each)) = goals {
            report.goal(
                &format!("bytes a key, messages of {batch}"),
                &format!("{to_redis} B to Redis, {to_each} B to each subscriber"),
                format!("{:.1} B and {:.1} B", ours.sent, ours.delivered),
                ours.sent <= to_redis && ours.delivered <= to_each,
            );
        } else {
            report.goal(
                "1,000 accounts invalidated on 4 instances by one call",
                "50 KB in all",
                format!("{all:.1} KB"),
                all < 50.0,
            );
        }
    }
    report.table(
        "By the crate's counters, and by Redis' `total_net_*_bytes`, in which verifications and \
         acknowledgements are included. The namespace is `default`: its letters are in every message.",
        &[
            "keys a message",
            "to Redis, B a key",
            "to a subscriber, B a key",
            "Redis: in, B a key",
            "Redis: out to all 4, B a key",
            "Redis: in and out, KB",
        ],
        rows,
    );
    report.print();
}
