//! Events that wait to be delivered together, as in lane.lua.

use std::time::Duration;

use super::lane::Published;

/// Bytes of the payloads that wait at most; lane.lua says 64 KB.
const BYTES: usize = 65_536;

/// What waits in one lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gather {
    /// When the next message is due, by the server's clock.
    due: Duration,
    /// They follow each other.
    waiting: Vec<Published>,
}

/// What becomes of an event that was published.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivered {
    /// Each is one message.
    pub(crate) messages: Vec<Vec<Published>>,
    /// The event is the first that waits: when its publisher is to come back.
    pub(crate) come_back: Option<Duration>,
}

impl Gather {
    /// An event is published; a message is followed by a pause.
    pub(crate) fn add(&mut self, now: Duration, pause: Duration, event: Published) -> Delivered {
        let follows = |last: &Published| {
            let (last, next) = (last.position, event.position);
            last.epoch == next.epoch && last.sequence + 1 == next.sequence
        };
        if !self.waiting.last().is_none_or(follows) {
            self.waiting.clear();
        }
        let bytes: usize = self.waiting.iter().map(|it| it.payload.len()).sum();
        let fits = bytes + event.payload.len() <= BYTES;
        let is_due = self.left(now, pause).is_zero();
        let mut messages = Vec::new();
        if is_due || !fits {
            self.due = now + pause;
            messages.push(std::mem::take(&mut self.waiting));
        }
        let come_back = match messages.first_mut() {
            Some(message) if is_due && fits => {
                message.push(event);
                None
            }
            Some(_) if is_due => {
                messages.push(vec![event]);
                None
            }
            _ => {
                let is_first = self.waiting.is_empty();
                self.waiting.push(event);
                is_first.then(|| self.left(now, pause))
            }
        };
        Delivered {
            messages,
            come_back,
        }
    }

    /// Returns what waits, if it is due, or at once where that is asked for.
    pub(crate) fn flush(
        &mut self,
        now: Duration,
        pause: Duration,
        at_once: bool,
    ) -> Vec<Published> {
        if self.waiting.is_empty() || !(at_once || self.left(now, pause).is_zero()) {
            return Vec::new();
        }
        self.due = now + pause;
        std::mem::take(&mut self.waiting)
    }

    /// Returns how long events may wait yet.
    pub(crate) fn wait(&self, now: Duration, pause: Duration) -> Duration {
        if self.waiting.is_empty() {
            Duration::ZERO
        } else {
            self.left(now, pause)
        }
    }

    /// What waits is of another epoch.
    pub(crate) fn discard(&mut self) {
        self.waiting.clear();
    }

    /// A time far ahead is that of a clock which was set back.
    fn left(&self, now: Duration, pause: Duration) -> Duration {
        let left = self.due.saturating_sub(now);
        if left > pause { Duration::ZERO } else { left }
    }
}
