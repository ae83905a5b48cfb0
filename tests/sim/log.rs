//! What is seen in a run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use unstale::{Outcome, Token};

use crate::mind::Facts;

/// What kind of call a read was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `get`, `lookup`, `get_with`, `get_many`, `peek`.
    Any,
    /// It must see everything that was published before it.
    Latest,
    /// It must see this version, whose token it was given.
    After(u64),
}

/// A read, and all that is needed to judge it.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    /// The step it belongs to, and which of its reads it is.
    pub(crate) id: (usize, u64),
    pub(crate) call: Call,
    pub(crate) node: usize,
    /// The number of its instance's connection.
    pub(crate) number: usize,
    pub(crate) key: u64,
    /// What of the log came before it.
    pub(crate) order: u64,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    /// Up to which event each lane had been applied here when it began.
    pub(crate) applied: BTreeMap<u32, (u64, u64)>,
    /// Nothing had ever gone wrong with its instance's connection or the server.
    pub(crate) clean: bool,
    pub(crate) facts: Option<Facts>,
    pub(crate) outcome: Option<Outcome>,
}

/// A call of `write`.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) node: usize,
    /// The number of its instance's connection.
    pub(crate) number: usize,
    pub(crate) began: Instant,
    pub(crate) commit_began: Option<Instant>,
    /// When the commit answered, or its caller went away.
    pub(crate) resolved: Option<Instant>,
    pub(crate) available: bool,
}

/// A call that returned Ok: an event that names these keys was sequenced in between.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    /// Each with the version that the source had when the caller had committed.
    pub(crate) keys: Vec<(u64, u64)>,
    /// The number of the caller's connection.
    pub(crate) number: usize,
    pub(crate) at: Instant,
    /// How much of the bus' timeline came before its commit, and before its return.
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) token: Token,
}

/// An invalidation that its instance has begun: it has dropped these keys by then.
#[derive(Clone, Debug)]
pub(crate) struct Dropped {
    /// With what the source had of each by then.
    pub(crate) keys: Vec<(u64, u64)>,
    /// The number of the caller's connection.
    pub(crate) number: usize,
    /// What of the log came before it.
    pub(crate) order: u64,
}

/// What was seen in a run.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) reads: Vec<Read>,
    pub(crate) writes: Vec<Written>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) dropped: Vec<Dropped>,
    /// Reads that took longer than any read may.
    pub(crate) late: Vec<String>,
    /// Reads under way, by a number of their own, with when each must have ended.
    pub(crate) underway: BTreeMap<u64, Instant>,
    pub(crate) totals: BTreeMap<&'static str, u64>,
    order: u64,
}

impl Log {
    /// The next number in the order of what happens.
    pub(crate) fn order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// The version of the last call that changed this key and returned Ok, and its token.
    pub(crate) fn last_of(&self, key: u64) -> Option<(u64, Token)> {
        self.acknowledged.iter().rev().find_map(|call| {
            let (_, version) = call.keys.iter().find(|(changed, _)| *changed == key)?;
            Some((*version, call.token.clone()))
        })
    }

    pub(crate) fn count(&mut self, name: &'static str, count: u64) {
        *self.totals.entry(name).or_default() += count;
    }
}

/// A [`Log`] that the callers' tasks share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Log>>);

impl Shared {
    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A read that must end by then begins.
    pub(crate) fn underway(&self, what: String, until: Instant) -> Underway {
        let mut log = self.log();
        let number = log.order();
        log.underway.insert(number, until);
        drop(log);
        Underway {
            shared: self.clone(),
            number,
            what,
        }
    }
}

/// A read under way; it ends, or its caller goes away, when this is dropped.
pub(crate) struct Underway {
    shared: Shared,
    number: u64,
    what: String,
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut log = self.shared.log();
        if let Some(until) = log.underway.remove(&self.number)
            && Instant::now() > until
        {
            let late = format!("hangs: {} ended after its deadline", self.what);
            log.late.push(late);
        }
    }
}
