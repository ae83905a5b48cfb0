//! The latest events of a lane, by their places: they distinguish an event that arrives twice from another
//! event in a place that is taken.

use std::collections::VecDeque;

/// Events that are remembered: 4 KiB a lane. An older one that arrives again is applied again, which
/// costs loads and no correctness.
const EVENTS: usize = 256;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Passed(VecDeque<(u64, u64)>);

/// What an event in a place that was passed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The very event that was applied there.
    Same,
    /// It is not known which event was applied there.
    Unknown,
    /// Another event was applied there: the lane's counter went back.
    Taken,
}

impl Passed {
    /// An event is applied in its place, after all before it.
    pub(crate) fn add(&mut self, sequence: u64, digest: u64) {
        if self.0.len() >= EVENTS {
            self.0.pop_front();
        }
        self.0.push_back((sequence, digest));
    }

    pub(crate) fn place(&self, sequence: u64, digest: u64) -> Place {
        // Applied in order, but for an adoption, which clears all.
        let at = self.0.binary_search_by_key(&sequence, |(at, _)| *at);
        match at.map(|index| self.0[index].1) {
            Ok(held) if held == digest => Place::Same,
            Ok(_) => Place::Taken,
            Err(_) => Place::Unknown,
        }
    }

    /// The lane has another life.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_is_distinguished_from_another_in_its_place() {
        let mut passed = Passed::default();
        for sequence in 1..=2 * EVENTS as u64 {
            passed.add(sequence, sequence * 7);
        }
        let last = 2 * EVENTS as u64;
        assert_eq!(passed.place(last, last * 7), Place::Same);
        assert_eq!(passed.place(last, 1), Place::Taken);
        assert_eq!(passed.place(1, 7), Place::Unknown);
        assert_eq!(passed.0.len(), EVENTS);
        passed.clear();
        assert_eq!(passed.place(last, last * 7), Place::Unknown);
    }
}
