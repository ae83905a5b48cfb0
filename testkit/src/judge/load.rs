//! The load: reads of every instance and writes through any, in step with each other.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::fleet::{Load, Shared, some_account};

/// Reads that wait for one instance at most: a stopped one gathers them for as long as it is
/// stopped, and each takes a connection.
const READS_IN_FLIGHT: usize = 64;

/// Reads that one phase may hold: an hour at 300 a second.
const MAX_READS: usize = 1_100_000;

pub(super) async fn read_all(shared: Arc<Shared>, instance: usize) {
    let instances = u32::try_from(shared.services.len()).expect("a small fleet");
    let mut ticks = interval(Duration::from_secs(1) * instances / shared.load.reads_per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let permits = Arc::new(Semaphore::new(READS_IN_FLIGHT));
    let mut reads = JoinSet::new();
    let mut stopping = shared.stopping.subscribe();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => break,
            Some(_) = reads.join_next() => continue,
            _ = ticks.tick() => {}
        }
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            continue;
        };
        let shared = Arc::clone(&shared);
        reads.spawn(async move {
            let read = shared
                .read(instance, some_account(shared.load.accounts))
                .await;
            let mut books = shared.books();
            assert!(books.reads.len() < MAX_READS, "no phase takes the reads");
            if let Ok(version) = read.version {
                books.see(read.account, version, read.start + read.latency);
            }
            books.reads.push(read);
            shared.reads.fetch_add(1, Relaxed);
            drop(permit);
        });
    }
    reads.join_all().await;
}

pub(super) async fn write_all(shared: Arc<Shared>) {
    let mut ticks = interval(Duration::from_secs(1) / shared.load.writes_per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // At most one for each account.
    let mut writes = JoinSet::new();
    let mut stopping = shared.stopping.subscribe();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => break,
            Some(_) = writes.join_next() => continue,
            _ = ticks.tick() => {}
        }
        let Load {
            reads_per_second,
            writes_per_second,
            ..
        } = shared.load;
        let ahead = u64::from(reads_per_second / writes_per_second) * shared.writes.load(Relaxed);
        if ahead > shared.reads.load(Relaxed) {
            continue;
        }
        let Some((account, ledger)) = shared.choose() else {
            continue;
        };
        shared.writes.fetch_add(1, Relaxed);
        let shared = Arc::clone(&shared);
        let instance = fastrand::usize(..shared.services.len());
        writes.spawn(async move { shared.write(instance, account, ledger).await });
    }
    writes.join_all().await;
}
