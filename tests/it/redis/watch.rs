//! A writer on A, a reader on B, and a fault in between: no read is older than the bound allows.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::sleep;
use unstale::Outcome;

use super::{MAX_STALENESS, Pair, until};
use crate::support::nodes::{Node, Source, ms};

/// The row that is written and read all the while.
const ROW: u64 = 1;

/// The step of the clock that ages are measured by, twice.
const CLOCK_STEP: Duration = ms(10);

/// What happened so far.
#[derive(Default)]
struct Ledger {
    grace: Duration,
    /// Acknowledged versions, by the time of their acknowledgement: published no later than that.
    acknowledged: Mutex<Vec<(Instant, u64)>>,
    violations: Mutex<Vec<String>>,
    hits: AtomicU64,
    over: AtomicBool,
}

impl Ledger {
    /// The oldest version that a read which starts at `now` may return.
    fn floor(&self, now: Instant) -> u64 {
        let acknowledged = self.acknowledged.lock().unwrap();
        let settled = acknowledged
            .partition_point(|(at, _)| *at + MAX_STALENESS + CLOCK_STEP + self.grace <= now);
        settled
            .checked_sub(1)
            .map_or(0, |last| acknowledged[last].1)
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }
}

/// Runs `fault` while A writes and B reads; afterwards both must be coherent, B must answer from
/// memory, and the subscription must deliver.
pub(super) async fn endure(pair: &Pair, fault: impl AsyncFnOnce(&Pair)) {
    let watch = Watch::begin(&pair.a, &pair.b, &pair.source, Duration::ZERO).await;
    fault(pair).await;
    pair.coherent().await;
    watch.end().await;
    pair.pushed().await;
    pair.change(ROW, u64::MAX).await;
    until("B follows", async || {
        pair.b.get(ROW).await == Some(u64::MAX)
    })
    .await;
    until("B hits", async || pair.b.outcome(ROW).await == Outcome::Hit).await;
}

/// A writes and B reads all the while.
pub(super) struct Watch {
    ledger: Arc<Ledger>,
    tasks: [JoinHandle<()>; 2],
}

impl Watch {
    /// Begins, and waits until it works. Reads may be late by `grace` more than the bound.
    pub(super) async fn begin(a: &Node, b: &Node, source: &Source, grace: Duration) -> Self {
        let ledger = Arc::new(Ledger {
            grace,
            ..Ledger::default()
        });
        let writer = write(ledger.clone(), a.clone(), source.clone());
        let reader = read(ledger.clone(), b.clone());
        let tasks = [writer, reader];
        let watch = Self { ledger, tasks };
        watch.worked().await;
        watch
    }

    /// Waits for more acknowledged writes and more hits: without them a trial proves nothing.
    pub(super) async fn worked(&self) {
        let ledger = &self.ledger;
        let (hits, writes) = (ledger.hits.load(SeqCst), ledger.acknowledged());
        until("writes and hits", async || {
            ledger.hits.load(SeqCst) > hits + 10 && ledger.acknowledged() > writes + 10
        })
        .await;
    }

    /// Waits until it works again, and judges.
    pub(super) async fn end(self) {
        self.worked().await;
        self.ledger.over.store(true, SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        assert_eq!(*self.ledger.violations.lock().unwrap(), [""; 0]);
    }
}

fn write(ledger: Arc<Ledger>, a: Node, source: Source) -> JoinHandle<()> {
    tokio::spawn(async move {
        for version in 1.. {
            if ledger.over.load(SeqCst) {
                return;
            }
            source.set(ROW, version);
            // One that is not acknowledged in time is published later; nothing is claimed of it.
            if a.cache.invalidate(&ROW).await.is_ok() {
                let mut acknowledged = ledger.acknowledged.lock().unwrap();
                acknowledged.push((Instant::now(), version));
            }
            sleep(ms(15)).await;
        }
    })
}

fn read(ledger: Arc<Ledger>, b: Node) -> JoinHandle<()> {
    tokio::spawn(async move {
        while !ledger.over.load(SeqCst) {
            let floor = ledger.floor(Instant::now());
            let lookup = b.cache.lookup(&ROW).await.unwrap();
            if lookup.outcome == Outcome::Hit {
                ledger.hits.fetch_add(1, SeqCst);
            }
            if lookup.value.unwrap_or_default() < floor {
                let violation = format!("{lookup:?} where {floor} was due");
                ledger.violations.lock().unwrap().push(violation);
            }
            sleep(ms(2)).await;
        }
    })
}
