//! With a key, how far the events of each writer were heard: by this a replayed event is recognised.
//!
//! A user who may publish and listen can replay a genuine event at any place, without limit. But its writer's
//! clock is in it, under the MAC, and a lane's events leave their writer in the order of that clock. An
//! event that is not newer than the latest one of its writer is left out: the channel is a hint, and if the event
//! is one that was published and not heard before, the journal has it.

use std::collections::{HashMap, VecDeque};

/// Writers that are remembered, 32 bytes each: four times a large fleet. Each run of `unstale invalidate`
/// is one. An event of a forgotten one may be replayed once more.
const WRITERS: usize = 4_096;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    latest: HashMap<u64, u64>,
    /// The oldest first.
    order: VecDeque<u64>,
}

impl Origins {
    /// Returns whether the event that its writer sent then is newer than all that are known; it is known now.
    pub(crate) fn is_news(&mut self, origin: u64, sent: u64) -> bool {
        if let Some(latest) = self.latest.get_mut(&origin) {
            let newer = sent > *latest;
            *latest = sent.max(*latest);
            return newer;
        }
        if self.order.len() >= WRITERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.latest.remove(&oldest);
        }
        self.order.push_back(origin);
        self.latest.insert(origin, sent);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_newer_event_is_news() {
        let mut origins = Origins::default();
        assert!(origins.is_news(1, 10));
        assert!(!origins.is_news(1, 10) && !origins.is_news(1, 9));
        assert!(origins.is_news(2, 9) && origins.is_news(1, 11));
        assert!(!origins.is_news(1, 10));
    }

    #[test]
    fn the_writers_that_are_remembered_are_bounded() {
        let mut origins = Origins::default();
        for origin in 0..2 * WRITERS as u64 {
            assert!(origins.is_news(origin, 1));
        }
        assert_eq!(
            (origins.latest.len(), origins.order.len()),
            (WRITERS, WRITERS)
        );
        assert!(!origins.is_news(2 * WRITERS as u64 - 1, 1));
        assert!(origins.is_news(0, 1), "forgotten");
    }
}
