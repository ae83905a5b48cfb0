//! Keeps reads from waiting for a Redis that does not answer. No I/O.

use std::time::Duration;

use crate::backoff;
use crate::lock::{Guard, Lock};
use crate::time::{Nanos, nanos};

/// Failures in a row after which the tier is no longer asked. One may be a slow moment of the server.
const FAILURES: u32 = 5;

/// The first pause, until the next try; each further one doubles it.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause: what a fleet goes without its tier at most once Redis is back.
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// One lane's breaker.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Lock<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// How often a pause has begun since it was last closed; 0 while it is closed.
    pauses: u32,
    /// While it is open: when the next one may try.
    until: Nanos,
}

/// The right to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is closed.
    Ordinary,
    /// It is open, and this one tries whether Redis is back.
    Probe,
}

impl Breaker {
    fn state(&self) -> Guard<'_, State> {
        self.0.lock()
    }

    /// Whether to ask now. While it is open, one caller a pause may: a probe that is never heard
    /// of again is followed by another.
    pub(crate) fn admit(&self, now: Nanos) -> Option<Admission> {
        let mut state = self.state();
        if state.pauses == 0 {
            return Some(Admission::Ordinary);
        }
        if now < state.until {
            return None;
        }
        state.until = now.saturating_add(pause(state.pauses));
        Some(Admission::Probe)
    }

    /// There was an answer; whether that closed it.
    pub(crate) fn succeeded(&self) -> bool {
        std::mem::take(&mut *self.state()).pauses > 0
    }

    /// There was none; whether that opened it.
    pub(crate) fn failed(&self, admission: Admission, now: Nanos) -> bool {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        let opens = state.pauses == 0 && state.failures >= FAILURES;
        // Who was admitted before it opened says nothing new.
        if opens || (admission == Admission::Probe && state.pauses > 0) {
            state.pauses = state.pauses.saturating_add(1);
            state.until = now.saturating_add(pause(state.pauses));
        }
        opens
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state().pauses > 0
    }
}

fn pause(pauses: u32) -> Nanos {
    nanos(backoff::delay(PAUSE, MAX_PAUSE, pauses))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through_a_pause() {
        let breaker = Breaker::default();
        for _ in 0..3 {
            for _ in 1..FAILURES {
                assert!(!breaker.failed(Admission::Ordinary, 0));
            }
            assert!(!breaker.succeeded());
        }
        for n in 1..=FAILURES {
            assert_eq!(breaker.admit(0), Some(Admission::Ordinary));
            assert_eq!(breaker.failed(Admission::Ordinary, 0), n == FAILURES);
        }
        assert!(breaker.is_open());
        // Those that were under way change nothing.
        assert!(!breaker.failed(Admission::Ordinary, SECOND / 2));
        assert_eq!(breaker.admit(SECOND - 1), None);
        assert_eq!(breaker.admit(SECOND), Some(Admission::Probe));
        assert_eq!(breaker.admit(SECOND), None);
        assert!(!breaker.failed(Admission::Probe, SECOND));
        assert_eq!(breaker.admit(3 * SECOND - 1), None);
        assert_eq!(breaker.admit(3 * SECOND), Some(Admission::Probe));
        assert!(breaker.succeeded());
        assert!(!breaker.is_open());
        assert_eq!(breaker.admit(3 * SECOND), Some(Admission::Ordinary));
    }

    #[test]
    fn the_pause_is_bounded_and_a_lost_probe_is_followed_by_another() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES {
            breaker.failed(Admission::Ordinary, 0);
        }
        let mut now = 0;
        for _ in 0..20 {
            now += nanos(MAX_PAUSE);
            assert_eq!(breaker.admit(now), Some(Admission::Probe));
            breaker.failed(Admission::Probe, now);
        }
        now += nanos(MAX_PAUSE);
        assert_eq!(breaker.admit(now), Some(Admission::Probe));
        assert_eq!(
            breaker.admit(now + nanos(MAX_PAUSE)),
            Some(Admission::Probe)
        );
    }
}
