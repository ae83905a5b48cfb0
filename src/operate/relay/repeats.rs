//! Keeps a fault that lasts from filling the log with the same line.

use std::time::{Duration, Instant};

/// How long a reason is not said again that was the last one: a relay tries again four times a minute, for days if need
/// be.
const QUIET: Duration = Duration::from_secs(10 * 60);

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// A reason, and since when it is not said.
    last: Option<(String, Instant)>,
    /// How often it was given since.
    left_out: u32,
}

impl Repeats {
    /// What is to be said of a reason now, if anything.
    pub(super) fn pass(&mut self, why: String, now: Instant) -> Option<String> {
        let again = self.last.as_ref().filter(|(last, _)| *last == why);
        if again.is_some_and(|(_, said)| now.duration_since(*said) < QUIET) {
            self.left_out += 1;
            return None;
        }
        let said = match (again, self.left_out) {
            (Some(_), more @ 1..) => format!("{why} ({more} times more since it was said last)"),
            _ => why.clone(),
        };
        self.last = Some((why, now));
        self.left_out = 0;
        Some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_reason_is_said_once_in_a_while_and_another_at_once() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let mut said = |why: &str, after: u64| {
            let said = repeats.pass(why.to_owned(), start + Duration::from_secs(after));
            said.unwrap_or_default()
        };
        assert_eq!(said("refused", 0), "refused");
        for after in 1..100 {
            assert_eq!(said("refused", after), "");
        }
        let again = "refused (99 times more since it was said last)";
        assert_eq!(said("refused", 700), again);
        assert_eq!(said("refused", 701), "");
        assert_eq!(said("silent", 702), "silent");
        assert_eq!(said("refused", 703), "refused");
        assert_eq!(said("refused", 1_400), "refused");
    }
}
