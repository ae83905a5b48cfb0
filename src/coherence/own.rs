//! How an instance recognises its own events when it hears them.

use std::collections::VecDeque;

use crate::identity;
use crate::lock::Lock;
use crate::time::Nanos;

/// Stamps that are kept at least: at 100 messages a second those of the last 40 seconds.
const KEPT: usize = 4_096;

/// The low bits of a stamp that are random. Two copies of a process that publish in the same microsecond
/// have the same clock; they draw different bits.
const DRAWN: Nanos = (1 << 10) - 1;

/// The stamps of the events that one lane's publisher has sent, those that failed included.
///
/// The instance's id does not suffice: a process that is cloned while it runs has the same id.
#[derive(Debug, Default)]
pub(crate) struct Own(Lock<VecDeque<Nanos>>);

impl Own {
    /// Returns the stamp of the next event: the time, at most two microseconds ago. An event is never read
    /// again once the journal has dropped it, so as many stamps are kept as the journal keeps
    /// events; a stamp that is still forgotten makes its event a stranger's, which is
    /// applied.
    pub(crate) fn stamp(&self, now: Nanos, journal: u32) -> Nanos {
        let stamp = (now & !DRAWN).saturating_sub(DRAWN + 1) | identity::unique() & DRAWN;
        let mut stamps = self.0.lock();
        // No two payloads of an instance are the same: see PROTOCOL.md on signed events.
        let stamp = stamps.back().map_or(stamp, |last| stamp.max(last + 1));
        while stamps.len() >= KEPT.max(journal as usize) {
            stamps.pop_front();
        }
        stamps.push_back(stamp);
        stamp
    }

    /// Returns whether this instance has sent it. The latest come first: echoes arrive within moments.
    pub(crate) fn has(&self, stamp: Nanos) -> bool {
        self.0.lock().iter().rev().any(|sent| *sent == stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_stamps_are_known_and_are_never_in_the_future() {
        let own = Own::default();
        let now = 3_600_000_000_000;
        let first = own.stamp(now, 100);
        for n in 1..KEPT as u64 {
            let now = now + n * 1_000;
            let stamp = own.stamp(now, 100);
            assert!(stamp <= now && now - stamp < 3_000, "{stamp} at {now}");
        }
        assert!(own.has(first));
        let now = now + 10_000_000;
        let mut last = own.stamp(now, 100);
        assert_eq!(own.0.lock().len(), KEPT);
        for _ in 0..100 {
            let stamp = own.stamp(now, 100);
            assert!(stamp > last, "no stamp is used twice");
            last = stamp;
        }
        assert!(Own::default().stamp(0, 0) <= DRAWN);
    }
}
