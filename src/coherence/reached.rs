//! How far a lane is applied, as reads after a token ask it: a lower bound, raised only after the event is applied.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tokio::sync::Notify;

use crate::bus::Position;

/// No lane has this epoch.
const NONE: u64 = 0;

/// The task of `coherence` writes it, every read may ask it; no lock.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    epoch: AtomicU64,
    sequence: AtomicU64,
    moved: Notify,
}

impl Reached {
    /// Everything up to here is applied, or fenced off. Call it afterwards, and from one thread at a time.
    pub(crate) fn set(&self, position: Option<Position>) {
        match position {
            Some(Position { epoch, sequence }) if self.epoch.load(SeqCst) == epoch => {
                self.sequence.store(sequence, SeqCst);
            }
            Some(Position { epoch, sequence }) => {
                // No reader may mistake a sequence of one epoch for one of the other.
                self.epoch.store(NONE, SeqCst);
                self.sequence.store(sequence, SeqCst);
                self.epoch.store(epoch, SeqCst);
            }
            None => self.epoch.store(NONE, SeqCst),
        }
        self.moved.notify_waiters();
    }

    /// Returns whether the event with this place is applied here. What is looked up afterwards reflects it.
    #[inline]
    pub(crate) fn has(&self, position: Position) -> bool {
        let is_of = |epoch: u64| epoch == position.epoch && epoch != NONE;
        is_of(self.epoch.load(SeqCst))
            && self.sequence.load(SeqCst) >= position.sequence
            && is_of(self.epoch.load(SeqCst))
    }

    /// Waits until the event with this place is applied, which may never happen.
    pub(crate) async fn wait(&self, position: Position) {
        loop {
            // Before the look: what is applied in between wakes it.
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.has(position) {
                return;
            }
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, sequence: u64) -> Position {
        Position { epoch, sequence }
    }

    #[test]
    fn only_a_place_that_is_applied_in_this_epoch_is_reached() {
        let reached = Reached::default();
        assert!(!reached.has(at(1, 0)) && !reached.has(at(0, 0)));
        reached.set(Some(at(7, 5)));
        assert!(reached.has(at(7, 4)) && reached.has(at(7, 5)));
        assert!(!reached.has(at(7, 6)) && !reached.has(at(6, 1)) && !reached.has(at(8, 1)));
        reached.set(Some(at(8, 1)));
        assert!(reached.has(at(8, 1)) && !reached.has(at(7, 1)));
        reached.set(None);
        assert!(!reached.has(at(8, 1)) && !reached.has(at(0, 0)));
    }

    #[tokio::test]
    async fn a_waiter_is_woken_by_its_event_and_by_none_before() {
        let reached = Reached::default();
        reached.set(Some(at(7, 5)));
        let mut wait = pin!(reached.wait(at(7, 7)));
        for (sequence, ends) in [(5, false), (6, false), (7, true)] {
            reached.set(Some(at(7, sequence)));
            let ended = tokio::select! {
                biased;
                () = &mut wait => true,
                () = std::future::ready(()) => false,
            };
            assert_eq!(ended, ends, "{sequence}");
        }
    }
}
