//! Receivers of each invalidation that is applied here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::broadcast;

use crate::coherence::recent::Applied;
use crate::lock::Lock;

/// Invalidations that wait for a receiver at most; beyond that it has lagged. Four of the largest messages, of 1,024
/// keys each; some 500 KiB of an instance from its first receiver on.
const WAITING: usize = 4_096;

/// An invalidation, and the name of its cache; none for a lane.
#[derive(Clone, Debug)]
pub(crate) struct Reported {
    pub(crate) applied: Applied,
    pub(crate) cache: Option<Arc<str>>,
}

/// See the module's documentation. Reporting never waits: a receiver that is too slow loses the oldest, and learns that
/// it has.
#[derive(Default)]
pub(crate) struct Listeners {
    /// Whether there is a receiver, or was one.
    any: AtomicBool,
    line: Lock<Line>,
}

#[derive(Default)]
enum Line {
    #[default]
    Unused,
    Open(broadcast::Sender<Reported>),
    Closed,
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}

impl Listeners {
    /// Hears what is reported from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Reported> {
        let mut line = self.line.lock();
        if matches!(*line, Line::Unused) {
            *line = Line::Open(broadcast::Sender::new(WAITING));
        }
        match &*line {
            Line::Open(sender) => {
                // Before the lock is released: what is reported after this call is heard.
                self.any.store(true, Relaxed);
                sender.subscribe()
            }
            // Its sender is gone.
            Line::Unused | Line::Closed => broadcast::Sender::new(1).subscribe(),
        }
    }

    /// Reports to all receivers; `reported` is not called where there are none.
    pub(crate) fn report(&self, reported: impl FnOnce() -> Reported) {
        if !self.any.load(Relaxed) {
            return;
        }
        let sender = match &*self.line.lock() {
            Line::Open(sender) => sender.clone(),
            Line::Unused | Line::Closed => return,
        };
        // Under no lock of ours: it wakes tasks of the program.
        if sender.receiver_count() > 0 {
            let _ = sender.send(reported());
        }
    }

    /// Ends all reports.
    pub(crate) fn close(&self) {
        let before = std::mem::replace(&mut *self.line.lock(), Line::Closed);
        drop(before);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;
    use crate::coherence::recent::Named;

    fn reported(at: u64) -> Reported {
        let applied = Applied {
            cache: 7,
            named: Named::Cache,
            lane: None,
            origin: None,
            position: None,
            at,
        };
        Reported {
            applied,
            cache: None,
        }
    }

    #[test]
    fn nothing_is_built_without_a_receiver() {
        let listeners = Listeners::default();
        let never = || unreachable!("there is no receiver");
        listeners.report(never);
        drop(listeners.listen());
        listeners.report(never);
        let mut receiver = listeners.listen();
        listeners.report(|| reported(1));
        assert_eq!(receiver.try_recv().unwrap().applied.at, 1);
    }

    #[test]
    fn a_receiver_that_does_not_listen_keeps_nothing_from_others() {
        let listeners = Listeners::default();
        let (mut slow, mut quick) = (listeners.listen(), listeners.listen());
        for at in 0..WAITING as u64 + 10 {
            listeners.report(|| reported(at));
            assert_eq!(quick.try_recv().unwrap().applied.at, at);
        }
        assert!(matches!(slow.try_recv(), Err(TryRecvError::Lagged(10))));
    }

    #[test]
    fn a_receiver_hears_what_was_reported_before_the_end_and_then_the_end() {
        let listeners = Listeners::default();
        let mut receiver = listeners.listen();
        listeners.report(|| reported(1));
        listeners.close();
        listeners.report(|| unreachable!("it is closed"));
        assert!(receiver.try_recv().is_ok());
        for mut receiver in [receiver, listeners.listen()] {
            assert!(matches!(receiver.try_recv(), Err(TryRecvError::Closed)));
        }
    }
}
