//! Colours, for a person at a terminal only.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal};

/// Paints text, or does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    /// Paints only where standard output is a terminal that has colours, and whose user wants them.
    pub(crate) fn for_stdout() -> Self {
        Self(io::stdout().is_terminal() && !is_dumb() && !no_color())
    }

    #[cfg(test)]
    pub(crate) fn never() -> Self {
        Self(false)
    }

    pub(crate) fn green(self, text: impl Display) -> String {
        self.with("32", text)
    }

    pub(crate) fn yellow(self, text: impl Display) -> String {
        self.with("33", text)
    }

    pub(crate) fn red(self, text: impl Display) -> String {
        self.with("31", text)
    }

    pub(crate) fn dim(self, text: impl Display) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: impl Display) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}

/// Whether the user wants no colours: <https://no-color.org>.
fn no_color() -> bool {
    env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Whether the terminal takes lines of text and nothing else.
pub(crate) fn is_dumb() -> bool {
    env::var_os("TERM").is_some_and(|value| value == "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_plain() {
        assert_eq!(Paint(false).red("x"), "x");
        assert_eq!(Paint(true).red("x"), "\x1b[31mx\x1b[0m");
    }
}
