//! Makes a failing schedule small: delta debugging over its steps, and defaults for what it is set up
//! with.

use crate::judge::judge;
use crate::options::CacheOptions;
use crate::run::run;
use crate::schedule::{NodeSettings, Schedule};

/// Runs that one shrinking takes at most: about ten seconds.
const RUNS: usize = 600;

/// What counts for a run that hangs: it takes seconds to be sure, and its thread stays.
const HANG: usize = 20;

/// All that a schedule breaks.
pub(crate) fn violations(schedule: &Schedule) -> Vec<String> {
    match run(schedule) {
        Ok(ran) => judge(&ran).violations,
        Err(_) => vec!["hangs: the thread never ends".to_string()],
    }
}

/// The first violation of a schedule.
pub(crate) fn violation(schedule: &Schedule) -> Option<String> {
    violations(schedule).into_iter().next()
}

/// Tries schedules, as long as it may.
struct Tries(usize);

impl Tries {
    fn fails(&mut self, schedule: &Schedule) -> bool {
        if self.0 == 0 {
            return false;
        }
        let found = violation(schedule);
        let hangs = found.as_ref().is_some_and(|why| why.starts_with("hangs"));
        self.0 = self.0.saturating_sub(if hangs { HANG } else { 1 });
        found.is_some()
    }
}

/// A part of a failing schedule that still fails, from which no step can be left out.
pub(crate) fn shrink(schedule: &Schedule) -> Schedule {
    let mut small = schedule.clone();
    let mut tries = Tries(RUNS);
    let mut size = small.steps.len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        let mut smaller = false;
        while from < small.steps.len() && tries.0 > 0 {
            let mut without = small.clone();
            without
                .steps
                .drain(from..(from + size).min(small.steps.len()));
            if tries.fails(&without) {
                small = without;
                smaller = true;
            } else {
                from += size;
            }
        }
        if !smaller || tries.0 == 0 {
            size /= 2;
        }
    }
    plain(small, &mut tries)
}

/// What is not needed of the options and settings gets its default.
fn plain(mut small: Schedule, tries: &mut Tries) -> Schedule {
    let mut change = |change: &dyn Fn(&mut Schedule)| {
        let mut other = small.clone();
        change(&mut other);
        if tries.fails(&other) {
            small = other;
        }
    };
    change(&|schedule| schedule.columns = CacheOptions::default());
    change(&|schedule| schedule.rows = CacheOptions::default());
    change(&|schedule| schedule.lanes = 1);
    change(&|schedule| schedule.pause = 0);
    change(&|schedule| schedule.relay = None);
    let defaults: [fn(&mut CacheOptions); 16] = [
        |of| of.capacity = 64,
        |of| of.max_bytes = None,
        |of| of.refresh_ahead = None,
        |of| of.refresh_before = None,
        |of| of.stale_if_error = None,
        |of| of.stale_if_slow = None,
        |of| of.unknown_loads = None,
        |of| of.negative_ttl = None,
        |of| of.ttl = None,
        |of| of.own_ttl = None,
        |of| of.max_loads = 64,
        |of| of.reap = None,
        |of| of.batch = crate::options::Batch::No,
        |of| of.audit = false,
        |of| of.claim = None,
        |of| of.source = false,
    ];
    for default in defaults {
        change(&|schedule| default(&mut schedule.rows));
        change(&|schedule| default(&mut schedule.columns));
    }
    for node in 0..small.nodes.len() {
        let mut other = small.clone();
        other.nodes[node] = NodeSettings {
            lanes: other.nodes[node].lanes,
            id: other.nodes[node].id,
            late: other.nodes[node].late,
            ..NodeSettings::default()
        };
        if tries.fails(&other) {
            small = other;
        }
    }
    small
}
