//! Keeps a fault that lasts from filling the log with the same line.

use std::time::{Duration, Instant};

use super::RelayNews;
use crate::relay::Note;

/// How long a line is not said again that was the last one: a relay tries again four times a minute, for days if need be.
const QUIET: Duration = Duration::from_secs(10 * 60);

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Why the log was lost, and since when that is not said.
    last: Option<(String, Instant)>,
    /// How often it was lost for that reason since.
    left_out: u32,
}

impl Repeats {
    /// What is to be said of it now, if anything.
    pub(super) fn pass(&mut self, note: &Note, now: Instant) -> Option<RelayNews> {
        let why = match note {
            Note::Lost(error) => error.to_string(),
            Note::Waits => return Some(RelayNews::Waits),
            Note::GivenUp(what) => return Some(RelayNews::GivenUp(what.clone())),
            Note::Began => {
                *self = Self::default();
                return Some(RelayNews::Began);
            }
        };
        let again = self.last.as_ref().filter(|(last, _)| *last == why);
        if again.is_some_and(|(_, said)| now.duration_since(*said) < QUIET) {
            self.left_out += 1;
            return None;
        }
        let said = match again.and(self.left_out.checked_sub(1)) {
            Some(_) => format!(
                "{why} ({} times more since it was said last)",
                self.left_out
            ),
            None => why.clone(),
        };
        self.last = Some((why, now));
        self.left_out = 0;
        Some(RelayNews::Lost(said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, ErrorKind};

    fn lost(why: &str) -> Note {
        Note::Lost(Error::new(ErrorKind::Bus, why.to_owned()))
    }

    #[test]
    fn the_same_reason_is_said_once_in_a_while_and_another_at_once() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let mut said = |note: &Note, after: u64| match repeats
            .pass(note, start + Duration::from_secs(after))
        {
            Some(RelayNews::Lost(why)) => why,
            other => format!("{other:?}"),
        };
        assert!(said(&lost("refused"), 0).ends_with("refused"));
        for after in 1..100 {
            assert_eq!(said(&lost("refused"), after), "None");
        }
        let again = said(&lost("refused"), 700);
        assert!(
            again.ends_with("refused (99 times more since it was said last)"),
            "{again}"
        );
        assert!(said(&lost("silent"), 701).ends_with("silent"));
        assert!(said(&lost("refused"), 702).ends_with("refused"));
        assert_eq!(said(&Note::Waits, 703), "Some(Waits)");
        assert_eq!(said(&lost("refused"), 704), "None");
        assert_eq!(said(&Note::Began, 705), "Some(Began)");
        assert!(said(&lost("refused"), 706).ends_with("refused"));
    }
}
