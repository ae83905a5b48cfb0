//! When a hit asks for a reload although its entry may still be served.

use crate::time::Nanos;

/// From when on an entry is due for a reload: after a part of its life, or in the last time of it,
/// whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Refresh {
    /// 1 for never: no entry is served so long.
    part: f64,
    /// 0 for never. Counts at most half of the entry's life: a margin of 300 s would make a value that
    /// lives 120 s due from its first hit on, and every value that replaces it.
    margin: Nanos,
}

impl Refresh {
    /// `None`, which costs a hit one comparison, if there are to be no reloads ahead.
    pub(crate) fn new(part: Option<f64>, margin: Option<Nanos>) -> Option<Self> {
        (part.is_some() || margin.is_some()).then(|| Self {
            part: part.unwrap_or(1.0),
            margin: margin.unwrap_or(0),
        })
    }

    /// Of an entry that may be served now.
    #[inline]
    pub(crate) fn is_due(&self, loaded_at: Nanos, expires_at: Nanos, now: Nanos) -> bool {
        let life = expires_at.saturating_sub(loaded_at);
        let age = now.saturating_sub(loaded_at);
        let left = expires_at.saturating_sub(now);
        left <= self.margin.min(life / 2) || age as f64 > life as f64 * self.part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Nanos = 1_000_000_000;

    fn due(part: Option<f64>, margin: Option<Nanos>, life: Nanos, age: Nanos) -> bool {
        let loaded_at = 5 * SECOND;
        let refresh = Refresh::new(part, margin).expect("one of them");
        refresh.is_due(loaded_at, loaded_at + life, loaded_at + age)
    }

    #[test]
    fn a_margin_counts_from_the_end_and_at_most_half_a_life() {
        let margin = Some(300 * SECOND);
        let hours = 7_200 * SECOND;
        assert!(!due(None, margin, hours, 6_900 * SECOND - 1));
        assert!(due(None, margin, hours, 6_900 * SECOND));
        let short = 120 * SECOND;
        assert!(!due(None, margin, short, 60 * SECOND - 1));
        assert!(due(None, margin, short, 60 * SECOND));
    }

    #[test]
    fn of_a_part_and_a_margin_the_earlier_counts() {
        let (part, margin) = (Some(0.5), Some(30 * SECOND));
        // Half of 40 s is 20 s, and 30 s before the end would be 10 s: half a life at most.
        assert!(due(part, margin, 40 * SECOND, 20 * SECOND));
        assert!(!due(part, margin, 40 * SECOND, 20 * SECOND - 1));
        // Half of 100 s is before the last 30 s; of 0.9 it is the other way round.
        assert!(due(part, margin, 100 * SECOND, 50 * SECOND + 1));
        assert!(!due(part, margin, 100 * SECOND, 50 * SECOND));
        assert!(due(Some(0.9), margin, 100 * SECOND, 70 * SECOND));
        assert!(!due(Some(0.9), margin, 100 * SECOND, 70 * SECOND - 1));
    }

    #[test]
    fn without_either_there_is_no_rule() {
        assert_eq!(Refresh::new(None, None), None);
    }

    proptest! {
        /// Or it would be reloaded on every hit, and so would what replaces it.
        #[test]
        fn no_margin_makes_the_first_half_of_a_life_due(
            life in 2_u64..1 << 55,
            margin in 0_u64..1 << 55,
            at in 0.0_f64..0.499,
        ) {
            prop_assert!(!due(None, Some(margin), life, (life as f64 * at) as Nanos));
        }

        #[test]
        fn a_part_alone_is_due_after_it_and_nothing_before(
            life in 1_000_u64..1 << 50,
            part in 0.01_f64..0.99,
        ) {
            let turn = (life as f64 * part) as Nanos;
            prop_assert!(!due(Some(part), None, life, turn.saturating_sub(1)));
            prop_assert!(due(Some(part), None, life, turn + 2));
        }
    }
}
