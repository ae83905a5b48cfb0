//! Writes and reads through the instances' HTTP ports, and judges what the reads saw.
//!
//! It knows nothing of the cache: a version older than one that a writer was promised before the
//! read began is stale, by the time since that promise.

mod ledger;
mod report;
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::service::{Reply, Service};
use ledger::Ledger;
use report::{Ack, EXPOSURE, RECENT, Read, Served, recent_hits, staleness};
pub(crate) use report::{Phase, Writes};

/// Reads that wait for one instance at most: a stopped one gathers them for as long as it is
/// stopped, and each takes a connection.
const READS_IN_FLIGHT: usize = 64;

/// Reads that one phase may hold: an hour at 300 a second.
const MAX_READS: usize = 1_100_000;

/// How often another account is tried when a write of the chosen one is under way.
const CHOICES: usize = 8;

const POLL: Duration = Duration::from_millis(50);

/// Part of the reads that have to be hits for an instance to count as caching.
const ENOUGH_HITS: f64 = 0.5;

/// How much is written and read, over all instances.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) accounts: usize,
    pub(crate) reads_per_second: u32,
    pub(crate) writes_per_second: u32,
}

impl Default for Load {
    /// What two cores carry in a debug build, with several reads between two writes of an account.
    fn default() -> Self {
        Self {
            accounts: 40,
            reads_per_second: 300,
            writes_per_second: 20,
        }
    }
}

/// A load that runs until it is settled or dropped.
#[derive(Debug)]
pub(crate) struct Judge {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    services: Vec<Arc<Service>>,
    load: Load,
    books: Mutex<Books>,
    stopping: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Books {
    /// Reads that ended in the present phase.
    reads: Vec<Read>,
    /// By account.
    acks: Vec<Vec<Ack>>,
    /// By account: when each version was first in an answer, to a read or a write, whoever knew of it
    /// before. A write whose client was told nothing may be there too.
    seen: Vec<Vec<Ack>>,
    /// By account; `None` while a write of it is under way.
    ledgers: Vec<Option<Ledger>>,
    writes: Writes,
    violations: Vec<String>,
}

impl Books {
    /// An answer showed this version.
    fn see(&mut self, account: usize, version: u64, at: Instant) {
        let seen = &mut self.seen[account];
        if seen.last().is_none_or(|last| last.version < version) {
            seen.push(Ack { version, at });
        }
    }
}

impl Judge {
    /// Creates the accounts through the first instance, then writes and reads through all.
    pub(crate) async fn start(services: Vec<Arc<Service>>, load: Load) -> Self {
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
        });
        for account in 0..load.accounts {
            let ledger = shared.books().ledgers[account]
                .take()
                .expect("nobody else writes yet");
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

    /// The figures of the next `length`.
    pub(crate) async fn phase(&self, name: &str, length: Duration) -> Phase {
        self.during(name, sleep(length)).await
    }

    /// The figures of the time that a fault takes. A read belongs to the phase that it ends in.
    pub(crate) async fn during(&self, name: &str, fault: impl Future<Output = ()>) -> Phase {
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
    pub(crate) async fn until_hits(&self, name: &str, within: Duration) -> Phase {
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
    pub(crate) async fn settle(mut self) -> Vec<String> {
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
    /// Whether every instance answered half of its last second's reads from memory.
    pub(crate) fn is_caching(&self) -> bool {
        self.instances
            .iter()
            .all(|share| share.recent_hits >= ENOUGH_HITS)
    }
}

async fn read_all(shared: Arc<Shared>, instance: usize) {
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
            assert!(books.reads.len() < MAX_READS, "nobody asks for phases");
            if let Ok(version) = read.version {
                books.see(read.account, version, read.start + read.latency);
            }
            books.reads.push(read);
            drop(permit);
        });
    }
    reads.join_all().await;
}

async fn write_all(shared: Arc<Shared>) {
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
        let Some((account, ledger)) = shared.choose() else {
            continue;
        };
        let shared = Arc::clone(&shared);
        let instance = fastrand::usize(..shared.services.len());
        writes.spawn(async move { shared.write(instance, account, ledger).await });
    }
    writes.join_all().await;
}

/// The lower ones more often, as real accounts are.
fn some_account(accounts: usize) -> usize {
    fastrand::usize(..accounts).min(fastrand::usize(..accounts))
}

/// The account's name in URLs.
fn id(account: usize) -> u64 {
    account as u64 + 1
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_caching(&self) -> bool {
        let now = Instant::now();
        let books = self.books();
        (0..self.services.len()).all(|at| recent_hits(at, now, &books.reads) >= ENOUGH_HITS)
    }

    async fn read(&self, instance: usize, account: usize) -> Read {
        let start = Instant::now();
        let service = &self.services[instance];
        let read = async {
            let reply = service.get(id(account)).await;
            (reply, start.elapsed())
        };
        // What an answer takes at this moment that needs neither cache nor database nor Redis.
        let control = async {
            service.is_alive().await;
            start.elapsed()
        };
        let ((reply, latency), control) = tokio::join!(read, control);
        let served = reply.as_ref().ok().and_then(|reply| reply.cache.as_deref());
        let served = match served {
            Some("hit" | "negative") => Served::Hit,
            Some("miss") => Served::Miss,
            Some("coalesced") => Served::Coalesced,
            _ => Served::Unknown,
        };
        Read {
            start,
            latency,
            control,
            instance,
            account,
            version: version(reply),
            served,
        }
    }

    /// An account whose ledger nobody holds, and the ledger.
    fn choose(&self) -> Option<(usize, Ledger)> {
        let mut books = self.books();
        (0..CHOICES).find_map(|_| {
            let account = some_account(self.load.accounts);
            Some((account, books.ledgers[account].take()?))
        })
    }

    async fn write(&self, instance: usize, account: usize, mut ledger: Ledger) {
        let balance = fastrand::i64(0..1_000_000);
        let reply = self.services[instance]
            .put(id(account), "judged", balance)
            .await;
        let at = Instant::now();
        let mut books = self.books();
        let status = reply.as_ref().map_or(0, |reply| reply.status);
        let version = reply.ok().and_then(|reply| reply.version());
        if let (200 | 202, Some(version)) = (status, version) {
            books.see(account, version, at);
        }
        let judged = match (status, version) {
            (200, Some(version)) => {
                books.writes.acknowledged += 1;
                // Never out of order, whatever was answered: the search relies on it.
                if version > ledger.version() {
                    books.acks[account].push(Ack { version, at });
                }
                ledger.committed(version)
            }
            (202, Some(version)) => {
                books.writes.unconfirmed += 1;
                ledger.committed(version)
            }
            (200 | 202, None) => Err(format!("{status} without a version")),
            (503, _) => {
                books.writes.refused += 1;
                ledger.refused();
                Ok(())
            }
            _ => {
                books.writes.unknown += 1;
                ledger.unknown();
                Ok(())
            }
        };
        if let Err(violation) = judged {
            books.violations.push(format!(
                "account {account}, instance {instance}: {violation}"
            ));
        }
        books.ledgers[account] = Some(ledger);
    }

    /// Reads an account's last version on all instances and compares it with what was promised.
    async fn settle(&self, account: usize) {
        let mut ledger = self.books().ledgers[account]
            .take()
            .expect("the writers have ended");
        let deadline = Instant::now() + EXPOSURE;
        let judged = loop {
            let mut versions = Vec::new();
            for service in &self.services {
                versions.push(version(service.get(id(account)).await));
            }
            let first = versions[0]
                .as_ref()
                .ok()
                .filter(|first| **first >= ledger.version());
            let agreed = first
                .copied()
                .filter(|_| versions.iter().all(|one| *one == versions[0]));
            if let Some(version) = agreed {
                break ledger.settled(version);
            }
            if Instant::now() > deadline {
                let promised = ledger.version();
                break Err(format!(
                    "{promised} was promised, the instances show {versions:?}"
                ));
            }
            sleep(POLL).await;
        };
        if let Err(violation) = judged {
            self.books()
                .violations
                .push(format!("account {account}: {violation}"));
        }
    }
}

fn version(reply: reqwest::Result<Reply>) -> Result<u64, String> {
    let reply = reply.map_err(|error| format!("{error:?}"))?;
    let version = (reply.status == 200).then(|| reply.version()).flatten();
    version.ok_or_else(|| format!("{} {}", reply.status, reply.body))
}
