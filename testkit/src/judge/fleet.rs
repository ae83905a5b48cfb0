//! The accounts and the instances that are judged: one read, one write, what each must show at the end.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;

use super::ledger::Ledger;
use super::report::{Ack, Read, Served, Writes, recent_hits};
use crate::service::{Reply, Service};

/// How often another account is tried when a write of the chosen one is under way.
const CHOICES: usize = 8;

/// How long instances may take to show the same, once nothing is written; the bound of the
/// promise, the rest is for a slow machine.
const SETTLED: Duration = Duration::from_secs(30);

pub(super) const POLL: Duration = Duration::from_millis(50);

/// Part of the reads that have to be hits for an instance to count as caching.
pub(super) const ENOUGH_HITS: f64 = 0.5;

/// How much is written and read at most, over all instances. On a slow machine both become less, in
/// step: what part of the reads are hits does not depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub accounts: usize,
    pub reads_per_second: u32,
    pub writes_per_second: u32,
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

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) services: Vec<Arc<Service>>,
    pub(super) load: Load,
    pub(super) books: Mutex<Books>,
    pub(super) stopping: watch::Sender<bool>,
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Books {
    /// Reads that ended in the present phase.
    pub(super) reads: Vec<Read>,
    /// By account.
    pub(super) acks: Vec<Vec<Ack>>,
    /// By account: when each version was first in an answer, to a read or a write, even if others knew of it
    /// before. A write whose client received no answer may be there too.
    pub(super) seen: Vec<Vec<Ack>>,
    /// By account; `None` while a write of it is under way.
    pub(super) ledgers: Vec<Option<Ledger>>,
    pub(super) writes: Writes,
    pub(super) violations: Vec<String>,
}

impl Books {
    /// An answer showed this version.
    pub(super) fn see(&mut self, account: usize, version: u64, at: Instant) {
        let seen = &mut self.seen[account];
        if seen.last().is_none_or(|last| last.version < version) {
            seen.push(Ack { version, at });
        }
    }
}

/// The lower ones more often, as real accounts are.
pub(super) fn some_account(accounts: usize) -> usize {
    fastrand::usize(..accounts).min(fastrand::usize(..accounts))
}

/// The account's name in URLs.
fn id(account: usize) -> u64 {
    account as u64 + 1
}

impl Shared {
    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_caching(&self) -> bool {
        let now = Instant::now();
        let books = self.books();
        (0..self.services.len()).all(|at| recent_hits(at, now, &books.reads) >= ENOUGH_HITS)
    }

    pub(super) async fn read(&self, instance: usize, account: usize) -> Read {
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

    /// An account that is not written at the moment, and its ledger.
    pub(super) fn choose(&self) -> Option<(usize, Ledger)> {
        let mut books = self.books();
        (0..CHOICES).find_map(|_| {
            let account = some_account(self.load.accounts);
            Some((account, books.ledgers[account].take()?))
        })
    }

    pub(super) async fn write(&self, instance: usize, account: usize, mut ledger: Ledger) {
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
    pub(super) async fn settle(&self, account: usize) {
        let mut ledger = self.books().ledgers[account]
            .take()
            .expect("the writers have ended");
        let deadline = Instant::now() + SETTLED;
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
