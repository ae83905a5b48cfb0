//! What is explored: how much may happen, and what is left out.

/// What may be left out, to see that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A value does not count once its key was invalidated after its load began.
    Record,
    /// A record that has missed an event no longer proves anything.
    Hole,
    /// A server that has not been verified in this life has no values.
    Sound,
    /// A store is checked as a fetch is.
    CheckedStore,
    /// An own event is applied again once it is recorded.
    OwnEcho,
    /// What was invalidated while it was on its way is not kept.
    Token,
}

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Commits, each followed by its invalidation.
    pub writes: u8,
    /// Lives of the server after the first.
    pub failovers: u8,
    /// Times that the server loses everything but goes on.
    pub flushes: u8,
    /// Events of another key.
    pub others: u8,
    /// Events that are published past the record.
    pub bypasses: u8,
    /// Steps of the longest schedules; `None`: all states.
    pub steps: Option<usize>,
}

/// What the checker explores.
#[derive(Clone, Copy, Debug)]
pub struct Tier {
    /// How much may happen.
    pub limits: Limits,
    /// What is left out.
    pub without: Option<Cut>,
}

impl Tier {
    pub(super) fn lacks(&self, cut: Cut) -> bool {
        self.without == Some(cut)
    }
}
