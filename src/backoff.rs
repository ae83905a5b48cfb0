//! Delays after failures in a row.

use std::time::Duration;

/// Returns the delay after so many failures in a row: `first` after one, doubled by each further one, `longest`
/// at most.
pub(crate) fn delay(first: Duration, longest: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    first.saturating_mul(1 << doublings).min(longest)
}

/// As [`delay`], less up to half of it at random, so that the instances of a fleet do not all retry at once.
pub(crate) fn jittered(first: Duration, longest: Duration, failures: u32) -> Duration {
    delay(first, longest, failures).mul_f64(1.0 - fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_millis(500);

    #[test]
    fn delays_double_until_they_are_the_longest() {
        let millis = |failures| delay(FIRST, LONGEST, failures).as_millis();
        let delays: Vec<u128> = (1..8).map(millis).collect();
        assert_eq!(delays, [50, 100, 200, 400, 500, 500, 500]);
        assert_eq!(delay(FIRST, LONGEST, u32::MAX), LONGEST);
    }

    #[test]
    fn jitter_takes_away_half_at_most() {
        for failures in [1, 3, 100] {
            let full = delay(FIRST, LONGEST, failures);
            let jittered = jittered(FIRST, LONGEST, failures);
            assert!(jittered >= full / 2 && jittered <= full, "{jittered:?}");
        }
    }
}
