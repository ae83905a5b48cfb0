//! Keeps what Redis holds of the open writes right: records them again where Redis has forgotten this
//! instance, and clears what is recorded although its write has ended.
//!
//! One task a lane, which there is only while something is to be done.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::Writes;
use crate::Error;
use crate::core::{Core, Phase};

/// Between two attempts of one kind in a lane. A Redis in trouble gets one small script a second and
/// lane of each instance, and what is recorded too much only costs loads.
const PACE: Duration = Duration::from_secs(1);

/// What is to be done in one lane.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    running: bool,
    /// Wakes the task early.
    work: Arc<Notify>,
    /// The open writes are to be recorded again.
    register: bool,
    /// How often it became doubtful which intents Redis holds.
    doubts: u64,
    /// How many of these the last attempt that succeeded had seen.
    settled: u64,
    attended: Option<Instant>,
    registered: Option<Instant>,
    /// When to look once more, for records that a server may execute this late.
    confirm_at: Option<Instant>,
}

/// What an attempt is about.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    register: bool,
    doubts: u64,
}

impl Upkeep {
    /// When the next attempt is due; `None` if nothing is to be done.
    fn due(&self, now: Instant) -> Option<Instant> {
        let paced = |last: Option<Instant>| last.map_or(now, |last| last + PACE);
        let register = self.register.then(|| paced(self.registered));
        let doubt = (self.doubts > self.settled).then(|| paced(self.attended));
        let due = [register, doubt, self.confirm_at];
        due.into_iter().flatten().min()
    }

    fn begin(&mut self, now: Instant) -> Attempt {
        self.attended = Some(now);
        // What is asked for meanwhile is for the next attempt.
        let register = std::mem::take(&mut self.register);
        if register {
            self.registered = Some(now);
        }
        self.confirm_at = self.confirm_at.filter(|at| *at > now);
        Attempt {
            register,
            doubts: self.doubts,
        }
    }

    /// The attempt succeeded. One that settles a doubt is followed by another, `later`.
    fn succeeded(&mut self, attempt: Attempt, later: Instant) {
        if attempt.doubts > self.settled {
            self.settled = attempt.doubts;
            self.confirm_at = Some(later);
        }
    }

    fn failed(&mut self, attempt: Attempt) {
        self.register |= attempt.register;
        self.doubts += 1;
    }
}

/// Redis had taken this instance for dead, or lost its members: the open writes are recorded again.
pub(crate) fn reregister(core: &Arc<Core>, lane: u32) {
    if core.writes.len() == 0 {
        return;
    }
    ask(core, lane, |upkeep| {
        upkeep.register = true;
        // 1: the list of open writes is made; 2: one of them is published and cleared; 3: the list is
        // recorded, and with it the one of 2, which nothing clears.
        upkeep.doubts += 1;
    });
}

/// Redis may hold an intent in this lane whose write is not open: recording it failed, or its caller
/// stopped waiting, and the server executes the command all the same, perhaps later.
pub(super) fn doubt(core: &Arc<Core>, lane: u32) {
    ask(core, lane, |upkeep| upkeep.doubts += 1);
}

fn ask(core: &Arc<Core>, lane: u32, change: impl FnOnce(&mut Upkeep)) {
    let start = core.writes.with(lane, |upkeep| {
        change(upkeep);
        upkeep.work.notify_one();
        let start = !std::mem::replace(&mut upkeep.running, true);
        start.then(|| Arc::clone(&upkeep.work))
    });
    if let Some(work) = start {
        let (weak, phase) = (Arc::downgrade(core), core.phase.subscribe());
        let upkeep = run(weak, lane, work, phase);
        drop(core.tasks.spawn_alone(&core.runtime, "upkeep", upkeep));
    }
}

/// Ends when nothing is to be done any more, or when the instance shuts down: its goodbye then does
/// what is left. It keeps no instance alive while it waits.
async fn run(core: Weak<Core>, lane: u32, work: Arc<Notify>, mut phase: watch::Receiver<Phase>) {
    loop {
        let Some(core) = core.upgrade().filter(|core| core.phase() == Phase::Running) else {
            return;
        };
        let Some(due) = core.writes.due(lane) else {
            return;
        };
        if due <= Instant::now() {
            attend(&core, lane).await;
            continue;
        }
        drop(core);
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return,
            () = work.notified() => {}
            () = sleep_until(due) => {}
        }
    }
}

/// One attempt. Both commands end within a bounded time by themselves.
async fn attend(core: &Core, lane: u32) {
    let attempt = core
        .writes
        .with(lane, |upkeep| upkeep.begin(Instant::now()));
    let done = bring_up_to_date(core, lane, attempt).await;
    let later = Instant::now() + core.settings.member_timeout;
    core.writes.with(lane, |upkeep| match done {
        Ok(()) => upkeep.succeeded(attempt, later),
        Err(_) => upkeep.failed(attempt),
    });
}

async fn bring_up_to_date(core: &Core, lane: u32, attempt: Attempt) -> Result<(), Error> {
    if attempt.register {
        let intents = core.writes.intents(lane, core.clock.now());
        if !intents.is_empty() {
            core.bus.record(lane, intents).await?;
        }
    }
    // Listed after the record, which may have brought back what has ended meanwhile.
    core.bus.reconcile(lane, core.writes.still_open(lane)).await
}

impl Writes {
    fn with<T>(&self, lane: u32, change: impl FnOnce(&mut Upkeep) -> T) -> T {
        change(self.table().upkeep.entry(lane).or_default())
    }

    /// When the next attempt is due. If none is, the task that asks ends. It is noted under the lock:
    /// what is asked for afterwards starts another task.
    fn due(&self, lane: u32) -> Option<Instant> {
        self.with(lane, |upkeep| {
            let due = upkeep.due(Instant::now());
            upkeep.running = due.is_some();
            due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_have_a_pace_until_one_succeeds_and_one_more_follows() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut upkeep = Upkeep::default();
        assert_eq!(upkeep.due(start), None);
        upkeep.doubts += 1;
        assert_eq!(upkeep.due(start), Some(start), "at once");
        let attempt = upkeep.begin(start);
        upkeep.failed(attempt);
        assert_eq!(upkeep.due(start), Some(start + PACE));
        let attempt = upkeep.begin(at(1));
        // Doubted while the attempt is under way: it has not seen that.
        upkeep.doubts += 1;
        upkeep.succeeded(attempt, at(6));
        assert_eq!(upkeep.due(at(1)), Some(at(2)));
        let attempt = upkeep.begin(at(2));
        upkeep.succeeded(attempt, at(7));
        assert_eq!(upkeep.due(at(2)), Some(at(7)), "once more");
        let attempt = upkeep.begin(at(7));
        upkeep.succeeded(attempt, at(12));
        assert_eq!(upkeep.due(at(7)), None);
    }

    #[test]
    fn a_registration_waits_for_no_other_attempt_and_is_repeated_until_it_succeeds() {
        let start = Instant::now();
        let mut upkeep = Upkeep::default();
        upkeep.doubts += 1;
        let attempt = upkeep.begin(start);
        upkeep.succeeded(attempt, start + 5 * PACE);
        upkeep.register = true;
        upkeep.doubts += 1;
        assert_eq!(upkeep.due(start), Some(start));
        let attempt = upkeep.begin(start);
        assert!(attempt.register);
        upkeep.failed(attempt);
        assert_eq!(
            upkeep.due(start),
            Some(start + PACE),
            "not as fast as it fails"
        );
        assert!(upkeep.begin(start + PACE).register);
    }
}
