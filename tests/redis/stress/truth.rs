//! The source of truth: versioned rows in memory, and when each version's event was acknowledged.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fleet::TABLES;

/// Rows of one table. Keys above are never rows.
pub(super) const ROWS: u64 = 1_000;

/// Rows that share a tag: those with the same remainder.
pub(super) const TAGS: u64 = 50;

/// How long a version stays in the history of its row after its successor was acknowledged: far
/// longer than any bound, so what is older has broken one anyway.
pub(super) const KEPT: Duration = Duration::from_secs(30);

/// One row of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) table: usize,
    pub(super) key: u64,
}

/// A version that an instance has committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    place: Place,
    version: u64,
}

#[derive(Clone, Copy, Debug)]
struct State {
    version: u64,
    exists: bool,
    /// The instance that committed it.
    by: usize,
    acknowledged: Option<Instant>,
}

/// What a read has returned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) place: Place,
    /// When the read began.
    pub(super) start: Instant,
    /// The version; `None` is "does not exist".
    pub(super) seen: Option<u64>,
    /// The instance that read.
    pub(super) by: usize,
}

/// What the history of a row says of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// For how long a newer version had been acknowledged when the read began.
    pub(super) stale: Duration,
    /// The instance that read had acknowledged the newer version itself.
    pub(super) own: bool,
    /// There never was such a version.
    pub(super) made_up: bool,
}

#[derive(Default)]
pub(super) struct Truth {
    tables: Vec<Vec<Mutex<VecDeque<State>>>>,
    /// Every load fails.
    fails: AtomicBool,
}

impl Truth {
    pub(super) fn new() -> Self {
        let first = |key: u64| State {
            version: 0,
            exists: !key.is_multiple_of(5),
            by: usize::MAX,
            acknowledged: None,
        };
        let row = |key| Mutex::new(VecDeque::from([first(key)]));
        let table = || (0..ROWS).map(row).collect();
        Self {
            tables: (0..TABLES).map(|_| table()).collect(),
            fails: AtomicBool::new(false),
        }
    }

    pub(super) fn fail(&self, fails: bool) {
        self.fails.store(fails, Relaxed);
    }

    fn row(&self, place: Place) -> Option<MutexGuard<'_, VecDeque<State>>> {
        let row = self.tables[place.table].get(place.key as usize)?;
        Some(row.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The version that a loader finds; `None` where there is no row.
    pub(super) fn load(&self, place: Place) -> io::Result<Option<u64>> {
        if self.fails.load(Relaxed) {
            return Err(io::Error::other("the source is down"));
        }
        let Some(row) = self.row(place) else {
            return Ok(None);
        };
        let last = row.back().filter(|state| state.exists);
        Ok(last.map(|state| state.version))
    }

    /// Commits the row's next version, or its end.
    pub(super) fn commit(&self, place: Place, by: usize, exists: bool) -> Option<Change> {
        let mut row = self.row(place)?;
        let version = row.back().map_or(0, |state| state.version) + 1;
        row.push_back(State {
            version,
            exists,
            by,
            acknowledged: None,
        });
        let old = |row: &VecDeque<State>| {
            let next = row.get(1).and_then(|state| state.acknowledged);
            next.is_some_and(|at| at.elapsed() > KEPT)
        };
        while old(&row) {
            row.pop_front();
        }
        Some(Change { place, version })
    }

    /// The events of these changes were acknowledged just now.
    pub(super) fn acknowledge(&self, changes: &[Change]) {
        let now = Instant::now();
        for change in changes {
            let Some(mut row) = self.row(change.place) else {
                continue;
            };
            let states = row.iter_mut().rev();
            for state in states.take_while(|state| state.version >= change.version) {
                if state.version == change.version {
                    state.acknowledged = Some(now);
                }
            }
        }
    }

    /// How stale a read is: from the first acknowledged version that it should have shown.
    pub(super) fn judge(&self, read: &Read) -> Verdict {
        let Some(row) = self.row(read.place) else {
            let made_up = read.seen.is_some();
            return Verdict {
                made_up,
                ..Verdict::default()
            };
        };
        let mut verdict = Verdict::default();
        for state in row.iter().rev() {
            let shown = match read.seen {
                Some(version) if state.version < version => {
                    verdict.made_up = true;
                    return verdict;
                }
                Some(version) => state.version == version,
                None => !state.exists,
            };
            if shown {
                verdict.made_up = read.seen.is_some() && !state.exists;
                return verdict;
            }
            let age = |at: Instant| read.start.checked_duration_since(at);
            if let Some(age) = state.acknowledged.and_then(age) {
                verdict.stale = verdict.stale.max(age);
                verdict.own |= state.by == read.by && !age.is_zero();
            }
        }
        // Forgotten: its successor was acknowledged as long ago as this.
        verdict.stale = verdict.stale.max(KEPT);
        verdict
    }
}

#[test]
fn staleness_counts_from_the_first_acknowledged_version_that_a_read_should_have_shown() {
    let truth = Truth::new();
    let place = Place { table: 0, key: 1 };
    let absent = Place { table: 0, key: 5 };
    let read = |place, seen| Read {
        place,
        start: Instant::now() + Duration::from_millis(5),
        seen,
        by: 1,
    };
    let judge = |place, seen| truth.judge(&read(place, seen));
    assert_eq!(judge(place, Some(0)), Verdict::default());
    assert!(judge(place, Some(1)).made_up, "no such version yet");
    assert!(judge(place, None).stale >= KEPT, "it has always been there");
    assert_eq!(judge(absent, None), Verdict::default());
    assert!(judge(absent, Some(0)).made_up);
    let nowhere = Place {
        table: 0,
        key: ROWS,
    };
    assert!(truth.commit(nowhere, 0, true).is_none());
    assert!(judge(nowhere, Some(0)).made_up && !judge(nowhere, None).made_up);

    let first = truth.commit(place, 0, true).unwrap();
    assert_eq!(judge(place, Some(0)), Verdict::default(), "unacknowledged");
    let second = truth.commit(place, 1, false).unwrap();
    truth.acknowledge(&[second]);
    assert!(judge(place, Some(0)).own && judge(place, Some(1)).own);
    assert_eq!(judge(place, None), Verdict::default());
    std::thread::sleep(Duration::from_millis(20));
    truth.acknowledge(&[first]);
    let (older, newer) = (judge(place, Some(0)), judge(place, Some(1)));
    assert!(
        older.stale >= Duration::from_millis(20),
        "by the second, not by the first"
    );
    assert!(newer.stale >= Duration::from_millis(20));
    let early = Read {
        start: Instant::now() - Duration::from_secs(1),
        ..read(place, Some(0))
    };
    assert_eq!(truth.judge(&early), Verdict::default());
}
