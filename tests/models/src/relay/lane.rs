//! The servers of one lane, with the crate's own marks.

use std::time::Duration;

use crate::bus::local::marks::LaneMarks;
use crate::bus::{Counted, Mark, MarkAt, Marked, Position, Reached};

/// At this time all numbers of verifications are counted from 1.
const NOW: Duration = Duration::ZERO;

/// A server of one lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Server {
    /// Which life of it this is; stands for Redis' run id.
    pub(super) life: u8,
    /// Zero where it has no counter.
    pub(super) head: Position,
    /// A verification has found it in this life. Until then its epoch is provisional.
    pub(super) verified: bool,
    pub(super) marks: LaneMarks,
}

/// An event on its way to the instance, until it is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Message {
    pub(super) life: u8,
    pub(super) position: Position,
    /// The instance itself has published it.
    pub(super) own: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    pub(super) primary: Server,
    /// What a replica has that lags, as long as it may be promoted.
    pub(super) replica: Option<Server>,
    /// The server before the failover, if it still answers.
    pub(super) demoted: Option<Server>,
    /// Epochs drawn so far.
    pub(super) epochs: u64,
    pub(super) log: Vec<Message>,
}

/// What a server says to a verification.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    pub(super) head: Position,
    pub(super) counted: Counted,
    pub(super) demoted: bool,
}

impl Server {
    /// Where it puts an event; `fresh` is the epoch that it begins if it must.
    fn publish(&mut self, fresh: u64) -> Position {
        if self.head.epoch == 0 {
            self.head.epoch = fresh;
        }
        self.head.sequence += 1;
        self.head
    }

    fn verify(&mut self, fresh: u64) -> (Position, Counted) {
        if !self.verified {
            self.head.epoch = fresh;
            self.verified = true;
        }
        // A name that takes no memory.
        let sources = [String::new()];
        let counted = self.marks.count(NOW, self.head.epoch, &sources);
        (self.head, counted)
    }

    /// Sets a mark, if there is one; what the lane's epoch and number are.
    pub(super) fn mark(&mut self, at: Option<(u64, Reached)>) -> Marked {
        // No lane is put back here, so none lacks what its epoch has had.
        let at = at.map(|(epoch, reached)| MarkAt {
            epoch,
            reached,
            sequence: 0,
        });
        let mark = Mark {
            source: String::new(),
            at,
            lease: None,
        };
        self.marks.mark(NOW, self.head, mark)
    }

    pub(super) fn flush(&mut self) {
        *self = Self {
            life: self.life,
            ..Self::empty()
        };
    }

    fn empty() -> Self {
        Self {
            life: 0,
            head: Position {
                epoch: 0,
                sequence: 0,
            },
            verified: false,
            marks: LaneMarks::default(),
        }
    }
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            primary: Server::empty(),
            replica: None,
            demoted: None,
            epochs: 0,
            log: Vec::new(),
        }
    }

    pub(super) fn server(&mut self, demoted: bool) -> Option<&mut Server> {
        match demoted {
            false => Some(&mut self.primary),
            true => self.demoted.as_mut(),
        }
    }

    /// An event is published. Returns whether its place was given to another one before.
    pub(super) fn publish(&mut self, demoted: bool, own: bool) -> Option<(Position, bool)> {
        let fresh = self.epochs + 1;
        let server = self.server(demoted)?;
        let (position, life) = (server.publish(fresh), server.life);
        self.epochs = self.epochs.max(position.epoch);
        let again = self.log.iter().any(|before| before.position == position);
        self.log.push(Message {
            life,
            position,
            own,
        });
        Some((position, again))
    }

    pub(super) fn verify(&mut self, demoted: bool) -> Option<Answer> {
        let fresh = self.epochs + 1;
        let (head, counted) = self.server(demoted)?.verify(fresh);
        self.epochs = self.epochs.max(head.epoch);
        Some(Answer {
            head,
            counted,
            demoted,
        })
    }
}
