//! When Redis' record of one lane's open writes is to be put right. No I/O.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// From an attempt that failed to the next of its kind, and between two that only clear, in a lane. A failing
/// Redis gets one small script a second and lane of each instance, and an unneeded record only costs loads.
const PACE: Duration = Duration::from_secs(1);

/// What is to be done in one lane.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    pub(crate) running: bool,
    /// Wakes the task early.
    pub(crate) work: Arc<Notify>,
    /// The open writes are to be recorded again.
    pub(crate) register: bool,
    /// How often it became doubtful which intents Redis holds.
    pub(crate) doubts: u64,
    /// How many of these the last attempt that succeeded had seen.
    settled: u64,
    attended: Option<Instant>,
    registered: Option<Instant>,
    /// When to look once more, for records that a server may execute this late.
    confirm_at: Option<Instant>,
}

/// What an attempt is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) register: bool,
    pub(crate) doubts: u64,
}

impl Upkeep {
    /// Returns when the next attempt is due; `None` if nothing is to be done.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let paced = |last: Option<Instant>| last.map_or(now, |last| last + PACE);
        let register = self.register.then(|| paced(self.registered));
        let doubt = (self.doubts > self.settled).then(|| paced(self.attended));
        let due = [register, doubt, self.confirm_at];
        due.into_iter().flatten().min()
    }

    pub(crate) fn begin(&mut self, now: Instant) -> Attempt {
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
    pub(crate) fn succeeded(&mut self, attempt: Attempt, later: Instant) {
        // The next one is due at once: 1: a failover loses the records, and they are made again; 2: another one
        // follows, and loses them; 3: their writer dies within the pace.
        if attempt.register {
            self.registered = None;
        }
        if attempt.doubts > self.settled {
            self.settled = attempt.doubts;
            self.confirm_at = Some(later);
        }
    }

    pub(crate) fn failed(&mut self, attempt: Attempt) {
        self.register |= attempt.register;
        self.doubts += 1;
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
        let attempt = upkeep.begin(start + PACE);
        assert!(attempt.register);
        upkeep.succeeded(attempt, start + 6 * PACE);
        upkeep.register = true;
        assert_eq!(
            upkeep.due(start + PACE),
            Some(start + PACE),
            "a failover may follow another"
        );
    }
}
