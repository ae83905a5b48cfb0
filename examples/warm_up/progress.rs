//! A line on the terminal that shows how far something is.

use std::io::{self, Write};

/// Characters of the bar.
const WIDTH: usize = 30;

/// Draws over its own line, so it writes to a terminal or not at all.
pub(crate) struct Progress<W: Write> {
    out: Option<W>,
    total: usize,
}

impl<W: Write> Progress<W> {
    /// `None` draws nothing.
    pub(crate) fn new(out: Option<W>, total: usize) -> io::Result<Self> {
        let mut progress = Self { out, total };
        progress.at(0)?;
        Ok(progress)
    }

    pub(crate) fn at(&mut self, done: usize) -> io::Result<()> {
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        let total = self.total.max(1);
        let full = WIDTH * done.min(total) / total;
        let (full, empty) = ("#".repeat(full), ".".repeat(WIDTH - full));
        write!(out, "\r[{full}{empty}] {done} of {}", self.total)?;
        out.flush()
    }

    /// What comes next stands on a line of its own.
    pub(crate) fn end(mut self) -> io::Result<()> {
        match &mut self.out {
            Some(out) => writeln!(out),
            None => Ok(()),
        }
    }
}
