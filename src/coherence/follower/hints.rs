//! What the subscription has delivered and the journal has not confirmed yet.

use std::collections::BTreeMap;

use crate::event::Mac;

/// Hints that are kept. As many as the default journal has events: what more come between two
/// verifications are applied twice, which costs loads and no correctness.
const HINTS: usize = 4_096;

/// The MACs of signed events, by the sequence that the channel claimed for them.
///
/// An event that the journal has where it was heard need not be applied again. This is sound only for
/// payloads that are published once (an instance puts its id and its clock into each):
/// 1: an event is heard at sequence s and applied; 2: the real event s is published, with the
/// same bytes; 3: the journal has these bytes at s. If 1 could come before 2, a load between them
/// would have read what 2 invalidates. Bytes that were not published yet cannot be replayed, so bytes
/// that are published once are heard after they got their sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Hints(BTreeMap<u64, Mac>);

impl Hints {
    /// `false` if this very event was heard here before.
    pub(super) fn insert(&mut self, sequence: u64, mac: Mac) -> bool {
        let known = self.0.insert(sequence, mac) == Some(mac);
        if self.0.len() > HINTS {
            // Old events that are replayed at places far ahead push out no real one.
            self.0.pop_last();
        }
        !known
    }

    pub(super) fn has(&self, sequence: u64, mac: Mac) -> bool {
        self.0.get(&sequence) == Some(&mac)
    }

    /// Returns what was heard at `sequence`; forgets it and everything before.
    pub(super) fn take(&mut self, sequence: u64) -> Option<Mac> {
        let after = self.0.split_off(&(sequence + 1));
        let mut confirmed = std::mem::replace(&mut self.0, after);
        confirmed.remove(&sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_keep_the_nearest_events_and_forget_what_is_confirmed() {
        let mut hints = Hints::default();
        for sequence in (0..2 * HINTS as u64).rev() {
            assert!(hints.insert(sequence, [1; 16]));
        }
        assert_eq!(hints.0.len(), HINTS);
        assert!(!hints.insert(5, [1; 16]), "heard twice");
        assert!(hints.insert(5, [2; 16]), "another event in its place");
        assert_eq!(hints.take(5), Some([2; 16]));
        assert_eq!(hints.take(4), None);
        assert_eq!(hints.0.first_key_value(), Some((&6, &[1; 16])));
        assert_eq!(hints.take(u64::MAX - 1), None);
        assert!(hints.0.is_empty());
    }
}
