//! When a hit asks for a reload although its entry may still be served.

use crate::time::Nanos;

/// The time from which on an entry is due for a reload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Refresh {
    /// After this share of its life, above 0 and below 1.
    Share(f64),
    /// This long before its end, but at most half of the entry's life: a margin of 300 s would make a value
    /// that lives 120 s due from its first hit on, and every value that replaces it.
    Before(Nanos),
}

impl Refresh {
    /// Of an entry that may be served now.
    #[inline]
    pub(crate) fn is_due(&self, loaded_at: Nanos, expires_at: Nanos, now: Nanos) -> bool {
        let life = expires_at.saturating_sub(loaded_at);
        match *self {
            Self::Share(share) => now.saturating_sub(loaded_at) as f64 > life as f64 * share,
            Self::Before(margin) => expires_at.saturating_sub(now) <= margin.min(life / 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Nanos = 1_000_000_000;

    fn due(refresh: Refresh, life: Nanos, age: Nanos) -> bool {
        let loaded_at = 5 * SECOND;
        refresh.is_due(loaded_at, loaded_at + life, loaded_at + age)
    }

    #[test]
    fn a_margin_counts_from_the_end_and_at_most_half_a_life() {
        let margin = Refresh::Before(300 * SECOND);
        let hours = 7_200 * SECOND;
        assert!(!due(margin, hours, 6_900 * SECOND - 1));
        assert!(due(margin, hours, 6_900 * SECOND));
        let short = 120 * SECOND;
        assert!(!due(margin, short, 60 * SECOND - 1));
        assert!(due(margin, short, 60 * SECOND));
    }

    proptest! {
        /// Or it would be reloaded on every hit, and so would what replaces it.
        #[test]
        fn no_margin_makes_the_first_half_of_a_life_due(
            life in 2_u64..1 << 55,
            margin in 0_u64..1 << 55,
            at in 0.0_f64..0.499,
        ) {
            prop_assert!(!due(Refresh::Before(margin), life, (life as f64 * at) as Nanos));
        }

        #[test]
        fn a_share_is_due_after_it_and_not_before(
            life in 1_000_u64..1 << 50,
            share in 0.01_f64..0.99,
        ) {
            let turn = (life as f64 * share) as Nanos;
            prop_assert!(!due(Refresh::Share(share), life, turn.saturating_sub(1)));
            prop_assert!(due(Refresh::Share(share), life, turn + 2));
        }
    }
}
