//! Everything that is wrong with the rules, in one error.

use std::fmt::Write as _;

use crate::error::{Error, ErrorKind};
use crate::foreign;
use crate::settings;

/// Longest line of an error, in characters: one mistake and the SQL that fixes it.
const LONGEST: usize = 4_096;

/// Most mistakes that are shown: a reader fixes those and asks again.
const MOST_SHOWN: usize = 200;

/// Collects what is wrong, in the order in which it was found.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    lines: Vec<String>,
    left_out: usize,
    hint: Option<String>,
}

impl Problems {
    /// One mistake: where it is, what is wrong, what would be right.
    pub(crate) fn report(&mut self, place: &str, what: impl AsRef<str>) {
        let line = format!("{place}: {}", what.as_ref());
        let line = foreign::cut(&line, LONGEST);
        // Two rules of one table have the same mistakes.
        if self.lines.contains(&line) {
            return;
        }
        if self.lines.len() < MOST_SHOWN {
            self.lines.push(line);
        } else {
            self.left_out += 1;
        }
    }

    /// What is to be said once below the mistakes.
    pub(crate) fn hint(&mut self, hint: &str) {
        self.hint = Some(hint.to_owned());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// # Errors
    ///
    /// `Settings`, with all mistakes, one on each line, if there is one.
    pub(crate) fn into_result(self, of: &str) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        Err(self.into_error(of))
    }

    /// Returns the error with all mistakes.
    pub(crate) fn into_error(self, of: &str) -> Error {
        let mut message = match self.lines.len() + self.left_out {
            1 => format!("{of} 1 mistake:"),
            n => format!("{of} {n} mistakes:"),
        };
        for line in &self.lines {
            let _ = write!(message, "\n  {line}");
        }
        if self.left_out > 0 {
            let _ = write!(message, "\n  and {} more", self.left_out);
        }
        if let Some(hint) = &self.hint {
            let _ = write!(message, "\n{hint}");
        }
        Error::new(ErrorKind::Settings, message)
    }
}

/// `; the nearest is ...`, or nothing where there is no name at all.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<String> = known.into_iter().map(str::to_owned).collect();
    settings::nearest(name, &known).map_or_else(String::new, |near| {
        format!("; the nearest is `{}`", foreign::shown(near))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_in_the_one_error_and_none_twice() {
        let mut problems = Problems::default();
        problems.report("rule 1", "one thing\nand a forged line");
        problems.report("rule 2", "another");
        problems.report("rule 2", "another");
        let error = problems
            .into_result("the file has")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("the file has 2 mistakes:\n  rule 1: "),
            "{error}"
        );
        assert_eq!(error.lines().count(), 3, "{error}");
    }

    #[test]
    fn nothing_wrong_is_no_error_and_too_much_is_counted() {
        assert!(Problems::default().into_result("x").is_ok());
        let mut problems = Problems::default();
        for n in 0..MOST_SHOWN + 3 {
            problems.report(&format!("rule {n}"), "wrong");
        }
        let error = problems
            .into_result("the file has")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("the file has 203 mistakes:"), "{error}");
        assert!(error.ends_with("and 3 more"), "{error}");
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        assert_eq!(
            nearest("acounts", ["orders", "accounts"]),
            "; the nearest is `accounts`"
        );
        assert_eq!(nearest("x", []), "");
    }
}
