//! What applying a peer's event costs, decoding included, and what it allocates.
//!
//! Beside it the same drops from a bare quick_cache: no store that is built on it can be faster.

use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use unstale::{Cache, Instance, LocalBus, Settings};
use unstale_benches::{Allocations, Counting, Report, Samples, record_metrics, thread_cpu, until};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 9;

/// Keys a message; the crate's messages have room for 1,024.
const BATCH: usize = 1_000;

const MESSAGES: usize = 100;

const KEYS: usize = BATCH * MESSAGES;

/// What applying took the listener's thread, a key.
struct Cost {
    nanos: f64,
    allocations: f64,
}

/// Whether the listener holds what is invalidated.
#[derive(Clone, Copy)]
enum Held {
    All,
    /// Only the very last key, which shows when everything has been applied.
    Last,
}

impl Held {
    fn of(self, keys: &[String]) -> &[String] {
        match self {
            Self::All => keys,
            Self::Last => &keys[KEYS - 1..],
        }
    }
}

/// Nanoseconds a key that a bare quick_cache takes to drop all of them, if it holds these.
fn bare(keys: &[String], held: Held) -> f64 {
    let cache = quick_cache::sync::Cache::<String, u64>::new(KEYS * 2);
    for key in held.of(keys) {
        cache.insert(key.clone(), 7);
    }
    let began = thread_cpu();
    for key in keys {
        drop(std::hint::black_box(cache.remove(key)));
    }
    (thread_cpu() - began).as_nanos() as f64 / KEYS as f64
}

struct Turn {
    held: Held,
    /// Notified when the listener is ready.
    ready: oneshot::Sender<()>,
    cost: oneshot::Sender<Cost>,
}

fn keys() -> Vec<String> {
    unstale_benches::keys(KEYS)
}

fn build(instance: &Instance) -> Cache<String, u64> {
    instance
        .cache::<String, u64>("accounts")
        .capacity(KEYS * 2)
        .ttl(Duration::from_secs(3600))
        .batch_loader(|keys: Vec<String>| async {
            Ok(keys.into_iter().map(|key| (key, 7_u64)).collect())
        })
        .build()
        .expect("a valid cache")
}

/// The listener, alone on its thread.
fn listen(bus: &LocalBus, mut turns: mpsc::Receiver<Turn>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let listening = async {
        let instance = Instance::start_on(bus, Settings::default())
            .await
            .expect("starts");
        let (cache, keys) = (build(&instance), keys());
        while let Some(turn) = turns.recv().await {
            let hold = turn.held.of(&keys);
            let loading = cache.preload(hold.iter().cloned());
            assert_eq!(loading.await.failed, 0);
            assert_eq!(cache.stats().entries, hold.len() as u64, "all are held");
            let (began, before) = (thread_cpu(), Allocations::now());
            let _ = turn.ready.send(());
            until("applying", || cache.stats().entries == 0).await;
            let _ = turn.cost.send(Cost {
                nanos: (thread_cpu() - began).as_nanos() as f64 / KEYS as f64,
                allocations: (Allocations::now().blocks - before.blocks) as f64 / KEYS as f64,
            });
        }
    };
    runtime.expect("a runtime").block_on(listening);
}

#[tokio::main]
async fn main() {
    record_metrics();
    let bus = LocalBus::default();
    let writer = Instance::start_on(&bus, Settings::default())
        .await
        .expect("starts");
    let (writer, keys) = (build(&writer), keys());
    let (ask, turns) = mpsc::channel(1);
    let listener = thread::spawn({
        let bus = bus.clone();
        move || listen(&bus, turns)
    });
    let mut report =
        Report::new("Applying a peer's event: messages of 1,000 keys, each of 24 bytes");
    let mut rows = Vec::new();
    for (what, held) in [("held here", Held::All), ("not held", Held::Last)] {
        let (mut nanos, mut allocations) = (Samples::default(), Samples::default());
        let mut removes = Samples::default();
        for round in 0..=ROUNDS {
            let (ready, is_ready) = oneshot::channel();
            let (cost, spent) = oneshot::channel();
            let turn = Turn { held, ready, cost };
            ask.send(turn).await.expect("the listener lives");
            is_ready.await.expect("the listener lives");
            for batch in keys.chunks(BATCH) {
                writer
                    .invalidate_many(batch)
                    .await
                    .expect("the bus is there");
            }
            let spent = spent.await.expect("the listener lives");
            let remove = bare(&keys, held);
            if round > 0 {
                removes.push(remove);
                nanos.push(spent.nanos);
                allocations.push(spent.allocations);
            }
        }
        let (cost, blocks) = (nanos.median(), allocations.median());
        rows.push(vec![
            what.into(),
            nanos.show(0),
            removes.show(0),
            format!("{blocks:.3}"),
        ]);
        report.goal(
            &format!("apply an event, keys {what}"),
            "60 ns a key, no allocation a key",
            format!(
                "{cost:.0} ns, {blocks:.3} allocations; bare quick_cache {:.0} ns",
                removes.median()
            ),
            cost <= 60.0 && blocks < 0.05,
        );
    }
    report.table(
        "CPU time of the listener's thread from the bus to the drop, a key; 100,000 keys.",
        &[
            "keys",
            "ns a key",
            "`remove` of a bare quick_cache, ns",
            "allocations a key",
        ],
        rows,
    );
    drop(ask);
    listener.join().expect("no panic");
    report.print();
}
