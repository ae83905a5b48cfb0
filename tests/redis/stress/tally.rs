//! What a run has seen.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use unstale::{Error, ErrorKind};

use super::fleet::MAX_STALENESS;
use super::truth::{Read, Truth};

/// Two steps of the kernel's coarse clock, on a machine with the longest ones. Nothing else is
/// allowed for, however busy the machine is: staleness counts from the acknowledgement to the
/// beginning of a read, and either lies inside of what the bound is about.
const MARGIN: Duration = Duration::from_millis(20);

pub(super) const BOUND: Duration = MAX_STALENESS.saturating_add(MARGIN);

/// Descriptions that are kept: one tells the story, a thousand hide it.
const NOTES: usize = 10;

/// What a read must reflect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// Whatever its own instance has acknowledged, and the fleet's events within the bound.
    Bounded,
    /// Whatever was acknowledged.
    Latest,
}

/// What all tasks add to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) acknowledged: AtomicU64,
    /// Calls that ended with an error.
    pub(super) errors: AtomicU64,
    /// Reads beyond what they must reflect.
    pub(super) stale: AtomicU64,
    /// Microseconds.
    worst: AtomicU64,
    notes: Mutex<Vec<String>>,
}

impl Tally {
    /// Judges one answer. `call` is what was called.
    pub(super) fn read(&self, truth: &Truth, call: &str, read: &Read, promise: Promise) {
        self.reads.fetch_add(1, Relaxed);
        let verdict = truth.judge(read);
        let late = match promise {
            Promise::Bounded => verdict.own || verdict.stale > BOUND,
            Promise::Latest => !verdict.stale.is_zero(),
        };
        let micros = u64::try_from(verdict.stale.as_micros()).unwrap_or(u64::MAX);
        self.worst.fetch_max(micros, Relaxed);
        if late || verdict.made_up {
            self.stale.fetch_add(1, Relaxed);
            self.note(format!("{call}: {verdict:?} of {read:?}"));
        }
    }

    /// An error that a caller must expect while the source and Redis fail.
    pub(super) fn error(&self, call: &str, error: &Error) {
        self.errors.fetch_add(1, Relaxed);
        let expected = matches!(
            error.kind(),
            ErrorKind::Load
                | ErrorKind::LoadTimeout
                | ErrorKind::LoadPanic
                | ErrorKind::Limited
                | ErrorKind::Overloaded
                | ErrorKind::Bus
        );
        if !expected {
            self.note(format!("{call}: {error:?}"));
        }
    }

    pub(super) fn note(&self, note: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < NOTES {
            notes.push(note);
        }
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.clone()
    }

    pub(super) fn worst(&self) -> Duration {
        Duration::from_micros(self.worst.load(Relaxed))
    }
}

/// What is printed at the end.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) seed: u64,
    pub(super) faults: usize,
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) errors: u64,
    pub(super) stale: u64,
    pub(super) worst: Duration,
    pub(super) hangs: usize,
    /// Resident bytes, once everything had run for a while and at the end.
    pub(super) memory: [u64; 2],
    /// What went wrong, in words.
    pub(super) wrong: Vec<String>,
}

impl Summary {
    pub(super) fn is_good(&self) -> bool {
        self.stale == 0 && self.hangs == 0 && self.wrong.is_empty()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let survived = if self.is_good() {
            "survived"
        } else {
            "NOT SURVIVED"
        };
        let [begin, end] = self.memory.map(|bytes| bytes >> 20);
        write!(
            f,
            "stress: {} faults {survived}, {} reads, {} writes, {} errors, {} stale reads, worst \
             staleness {:.2} s of {:.2} s, {} hangs, {begin} MiB before and {end} MiB after (seed {})",
            self.faults,
            super::thousands(self.reads),
            super::thousands(self.writes),
            super::thousands(self.errors),
            self.stale,
            self.worst.as_secs_f64(),
            BOUND.as_secs_f64(),
            self.hangs,
            self.seed
        )
    }
}
