//! Standard output for every command, into a pipe that may be closed at any time.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};

use unstale::operate::escaped;

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

/// Tells on standard error what went wrong, and why.
pub(crate) fn complain(error: &dyn Error) {
    let mut text = format!("unstale: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    // No reader is left for the report of this failure.
    let _ = writeln!(io::stderr(), "{}", escaped(&text));
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
    fn a_reader_who_goes_is_no_error_and_is_noticed() {
        let mut output = Output::to(Pipe(1));
        output.line("one").unwrap();
        assert!(!output.closed());
        output.line("two").unwrap();
        output.line("three").unwrap();
        assert!(output.closed());
    }
}
