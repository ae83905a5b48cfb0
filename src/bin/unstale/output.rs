//! Standard output for every command, into a pipe that may be closed at any time.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use unstale::operate::escaped;

use crate::text::wrap;

/// Standard output, line by line. A reader who has seen enough (`| head -1`) is no error.
pub(crate) struct Output<W = io::Stdout> {
    to: W,
    closed: bool,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self::to(io::stdout())
    }
}

impl<W: Write> Output<W> {
    fn to(to: W) -> Self {
        Self { to, closed: false }
    }

    /// Writes a line, and nothing once the reader has gone.
    pub(crate) fn line(&mut self, text: impl Display) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        match writeln!(self.to, "{text}").and_then(|()| self.to.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            result => result,
        }
    }

    /// Whether the reader has gone: the rest has no reader.
    pub(crate) fn closed(&self) -> bool {
        self.closed
    }
}

/// Says on standard error what went wrong, and why.
pub(crate) fn complain(error: &dyn Error) {
    let mut text = format!("unstale: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    let text = escaped(&text);
    let text = if io::stderr().is_terminal() {
        for_a_person(&text)
    } else {
        text
    };
    // No reader is left for the report of this failure.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Breaks long lines between words. In a log, each stays one line.
fn for_a_person(text: &str) -> String {
    let lines = text.lines().flat_map(|line| {
        let indent = &line[..line.len() - line.trim_start().len()];
        wrap(indent, &format!("{indent}  "), line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe whose reader goes after some lines.
    struct Pipe(usize);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0 = self.0.saturating_sub(1);
            Ok(())
        }
    }

    #[test]
    fn a_long_error_is_broken_between_words_and_keeps_its_lines() {
        let text = format!(
            "unstale: 2 settings are not valid:\n  {}\n  short",
            "word ".repeat(20)
        );
        let shown = for_a_person(&text);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[0], "unstale: 2 settings are not valid:");
        assert_eq!(lines[1].len(), "  ".len() + 15 * "word ".len() - 1);
        assert!(lines[2].starts_with("    word"), "{shown}");
        assert_eq!(lines[3..], ["  short"]);
    }

    #[test]
    fn a_reader_who_goes_is_no_error_and_is_noticed() {
        let mut output = Output::to(Pipe(1));
        output.line("one").unwrap();
        assert!(!output.closed());
        output.line("two").unwrap();
        output.line("three").unwrap();
        assert!(output.closed());
    }
}
