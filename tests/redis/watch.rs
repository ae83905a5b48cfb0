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

/// Between two reads.
const PAUSE: Duration = ms(2);

/// How many things happen one after another before an event that was lost has been sent again.
const CALLS: u32 = 20;

/// What happened so far.
#[derive(Default)]
struct Ledger {
    grace: Duration,
    /// Acknowledged versions, by the time of their acknowledgement: published no later than that.
    acknowledged: Mutex<Vec<(Instant, u64)>>,
    /// Reads that were later than the bound, and by how much.
    late: Mutex<Vec<(Duration, String)>>,
    /// The longest that the reader's own pause was overrun by: what the machine adds to everything.
    lag: AtomicU64,
    hits: AtomicU64,
    over: AtomicBool,
}

impl Ledger {
    /// By how much a read that began then, with this version, is beyond the bound.
    fn lateness(&self, began: Instant, version: u64) -> Duration {
        let acknowledged = self.acknowledged.lock().unwrap();
        let next = acknowledged.partition_point(|(_, other)| *other <= version);
        let due = acknowledged
            .get(next)
            .map(|(at, _)| *at + MAX_STALENESS + CLOCK_STEP);
        due.map_or(Duration::ZERO, |due| began.saturating_duration_since(due))
    }

    /// What is forgiven: nothing, unless something has to be sent again, whose calls and questions take
    /// longer on a machine that is slow.
    fn forgiven(&self) -> Duration {
        let lag = Duration::from_micros(self.lag.load(SeqCst));
        if self.grace.is_zero() {
            self.grace
        } else {
            self.grace + lag * CALLS
        }
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
        let forgiven = self.ledger.forgiven();
        let mut late = self.ledger.late.lock().unwrap();
        late.retain(|(by, _)| *by > forgiven);
        assert!(late.is_empty(), "{forgiven:?} is forgiven: {late:?}");
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
            let began = Instant::now();
            let lookup = b.cache.lookup(&ROW).await.unwrap();
            if lookup.outcome == Outcome::Hit {
                ledger.hits.fetch_add(1, SeqCst);
            }
            let by = ledger.lateness(began, lookup.value.unwrap_or_default());
            if !by.is_zero() {
                ledger
                    .late
                    .lock()
                    .unwrap()
                    .push((by, format!("{lookup:?}")));
            }
            let paused = Instant::now();
            sleep(PAUSE).await;
            let lag = paused.elapsed().saturating_sub(PAUSE).as_micros();
            ledger.lag.fetch_max(lag as u64, SeqCst);
        }
    })
}
