//! Writes and reads through the instances' HTTP ports, and judges what the reads saw.
//!
//! It knows nothing of the cache: a version older than one that a writer was promised before the
//! read began is stale, by the time since that promise.

mod fleet;
mod ledger;
mod load;
mod report;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::service::Service;
pub use fleet::Load;
use fleet::{Books, ENOUGH_HITS, POLL, Shared};
use ledger::Ledger;
use load::{read_all, write_all};
pub use report::{Phase, Writes};
use report::{RECENT, staleness};

/// Writes that a phase needs to show anything, with all the reads that go with them.
const WRITES: u64 = 20;

/// A load that runs until it is settled or dropped.
#[derive(Debug)]
pub struct Judge {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Judge {
    /// Creates the accounts through the first instance, then writes and reads through all.
    pub async fn start(services: Vec<Arc<Service>>, load: Load) -> Self {
        let books = Books {
            acks: vec![Vec::new(); load.accounts],
            seen: vec![Vec::new(); load.accounts],
            ledgers: vec![Some(Ledger::default()); load.accounts],
            ..Books::default()
        };
        let stopping = watch::Sender::new(false);
        let shared = Arc::new(Shared {
            services,
            load,
            books: Mutex::new(books),
            stopping,
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        });
        for account in 0..load.accounts {
            let ledger = shared.books().ledgers[account]
                .take()
                .expect("the writers have not begun");
            shared.write(0, account, ledger).await;
        }
        let made = shared.books().writes.acknowledged;
        assert_eq!(made, load.accounts as u64, "{:?}", shared.books().writes);
        let mut tasks = JoinSet::new();
        for instance in 0..shared.services.len() {
            tasks.spawn(read_all(Arc::clone(&shared), instance));
        }
        tasks.spawn(write_all(Arc::clone(&shared)));
        Self { shared, tasks }
    }

    /// The figures of the next `length`, or for as long as it takes until they show something.
    pub async fn phase(&self, name: &str, length: Duration) -> Phase {
        let writes = self.shared.writes.load(Relaxed) + WRITES;
        let enough = async {
            sleep(length).await;
            while self.shared.writes.load(Relaxed) < writes {
                sleep(POLL).await;
            }
        };
        self.during(name, enough).await
    }

    /// The figures of the time that a fault takes. A read belongs to the phase that it ends in.
    pub async fn during(&self, name: &str, fault: impl Future<Output = ()>) -> Phase {
        let start = Instant::now();
        let writes = self.shared.books().writes;
        fault.await;
        let end = Instant::now();
        let mut books = self.shared.books();
        let reads = std::mem::take(&mut books.reads);
        let writes = books.writes.since(writes);
        let behind = reads
            .iter()
            .filter_map(|read| staleness(&books.seen[read.account], read));
        Phase {
            behind: behind.collect(),
            ..Phase::new(
                name,
                (start, end),
                self.shared.services.len(),
                &reads,
                &books.acks,
                writes,
            )
        }
    }

    /// A phase that ends when half of every instance's reads of the last second were hits, or
    /// after `within`; which of them shows in [`Phase::is_caching`].
    pub async fn until_hits(&self, name: &str, within: Duration) -> Phase {
        let caching = async {
            let deadline = Instant::now() + within;
            sleep(RECENT.min(within)).await;
            while Instant::now() < deadline && !self.shared.is_caching() {
                sleep(POLL).await;
            }
        };
        self.during(name, caching).await
    }

    /// Ends the load, waits until all instances show the same last versions, and returns every
    /// promise that was broken, in words: a refused write that was committed, a version that went
    /// back, an acknowledged write that is lost, an instance that does not converge.
    pub async fn settle(mut self) -> Vec<String> {
        self.shared.stopping.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("the load does not panic");
        }
        for account in 0..self.shared.load.accounts {
            self.shared.settle(account).await;
        }
        std::mem::take(&mut self.shared.books().violations)
    }
}

impl Phase {
    /// Returns whether every instance answered half of its last second's reads from memory.
    pub fn is_caching(&self) -> bool {
        self.instances
            .iter()
            .all(|share| share.recent_hits >= ENOUGH_HITS)
    }
}
