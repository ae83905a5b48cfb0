//! What passes between instances and a server, as `src/bus.rs` has it: the parts of the crate that
//! are compiled in here need no more of it. They would not compile if it were different.

pub(crate) mod local;

use std::time::Duration;

use bytes::Bytes;

/// The crate's is 512. A page of one event makes every repair of two events take two pages.
pub(crate) const JOURNAL_PAGE: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}

pub(crate) type IntentId = [u8; 16];

#[derive(Clone, Debug)]
pub(crate) struct Intent {
    pub(crate) id: IntentId,
    pub(crate) deadline: Duration,
    pub(crate) payload: Bytes,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct StillOpen {
    pub(crate) up_to: u64,
    pub(crate) intents: Vec<IntentId>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known;

impl Known {
    /// Here no counter goes back within its epoch.
    pub(crate) fn lowest(self) -> Option<Position> {
        None
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Verified {
    pub(crate) head: Position,
    pub(crate) known: bool,
    pub(crate) recovered: u32,
    pub(crate) wait: Duration,
    pub(crate) pause: Duration,
    pub(crate) others: Option<u32>,
    pub(crate) counted: Counted,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Counted {
    pub(crate) number: u64,
    pub(crate) marks: Vec<(usize, Reached)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reached {
    pub(crate) number: u64,
    pub(crate) place: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) source: String,
    pub(crate) at: Option<MarkAt>,
    pub(crate) lease: Option<(u64, Duration)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MarkAt {
    pub(crate) epoch: u64,
    pub(crate) reached: Reached,
    pub(crate) sequence: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    pub(crate) set: bool,
    pub(crate) refused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Journal {
    pub(crate) head: Position,
    pub(crate) events: Vec<(u64, Bytes)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubscriptionRepair {
    Resubscribe,
    Reconnect,
}
