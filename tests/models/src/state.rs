//! What there is: the database, the server, everything ever published, and two instances.

use bytes::Bytes;

use crate::bus::local::lane::Published;
use crate::bus::{IntentId, Position};
use crate::reader::Reader;
use crate::server::Server;
use crate::writer::Writer;

/// Versions of the one key that is cached, counted from 0.
pub type Version = u8;

/// The server's time.
pub type Tick = u8;

/// A member that was silent for so long is dead; half of it, rounded down, is how old an intent may
/// be when its commit begins.
pub(crate) const MEMBER_TIMEOUT: Tick = 1;

/// How long a commit may take. More than twice the other, or a commit that began too late for the
/// first recovery would be covered by the second in time.
pub(crate) const WRITE_TIMEOUT: Tick = 3;

/// The instance that reads, and the one that only writes, by their index among the writers.
pub(crate) const READER: usize = 0;
pub(crate) const OTHER: usize = 1;

/// The origin of what a peer publishes for a dead writer, as in `src/event.rs`.
const NO_ORIGIN: u8 = 0;

/// What may happen in a run, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Writes of the cached key by the reader itself and by the other instance.
    pub writes: [u8; 2],
    /// Writes of other keys, by the other instance.
    pub others: u8,
    /// Writes announce themselves by intents (`write`); else they are `invalidate`.
    pub announced: bool,
    /// Events the journal keeps.
    pub journal: u32,
    /// Events the outbox holds before it collapses.
    pub outbox: usize,
    pub ticks: Tick,
    pub flushes: u8,
    /// Restarts of the server that lose nothing, or one event.
    pub failovers: u8,
    /// After a failover the old primary still answers the instances that it can reach.
    pub split: bool,
    /// Evictions of the counter or of the journal.
    pub evictions: u8,
    /// Verifications of the writing instance.
    pub beats: u8,
    /// Crashes of the writing instance.
    pub crashes: u8,
    /// Restarts of the reading instance.
    pub restarts: u8,
    /// Acknowledgements and pages of the journal that are lost.
    pub losses: u8,
    /// Messages of strangers with the sequence of an event that is yet to come.
    pub strangers: u8,
    /// Only runs of at most so many steps are looked at.
    pub steps: Option<usize>,
    /// The reader starts together with everything else; otherwise it has adopted the lane already.
    pub cold: bool,
    /// A load reads the database some time after it began; otherwise at once.
    pub slow_loads: bool,
    /// A page of the journal arrives some time after it was read; otherwise at once.
    pub slow_journal: bool,
    /// A mistake that is no mechanism of its own: late reads join a load that was invalidated.
    pub join_invalidated: bool,
}

impl Bounds {
    /// Nothing happens; each check names what it wants.
    pub const NONE: Self = Self {
        writes: [0, 0],
        others: 0,
        announced: false,
        journal: 3,
        outbox: 4,
        ticks: 0,
        flushes: 0,
        failovers: 0,
        split: false,
        evictions: 0,
        beats: 0,
        crashes: 0,
        restarts: 0,
        losses: 0,
        strangers: 0,
        steps: None,
        cold: false,
        slow_loads: false,
        slow_journal: false,
        join_invalidated: false,
    };
}

/// What a check must have come across to mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An entry that a verification has proven fresh.
    Hit,
    /// The same after a write.
    NewestHit,
    /// A load that was not stored because of an invalidation.
    Discarded,
    Applied,
    OwnEcho,
    Duplicate,
    OtherEpoch,
    Outdated,
    Adopted,
    Repaired,
    RepairInPages,
    RepairFenced,
    RepairObsolete,
    Collapsed,
    Republished,
    Recovered,
    RecoveredAgain,
    Registered,
    LateCommit,
    DemotedRefused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The source of truth: the version of the cached key.
    pub(crate) database: Version,
    /// A commit that was sent and has neither happened nor timed out.
    pub(crate) committing: Option<Committing>,
    pub(crate) server: Server,
    /// The server before the failover, if it still answers.
    pub(crate) demoted: Option<Server>,
    pub(crate) log: Vec<Message>,
    pub(crate) reader: Reader,
    pub(crate) writers: [Writer; 2],
    /// The newest version that must be known to every instance that verifies from now on: its event has been
    /// published, or the bound for publishing it has passed. Whatever claims to know the state of
    /// *now* must not be older.
    pub(crate) due: Version,
    /// Committed versions that are not due.
    pub(crate) owed: Vec<Owed>,
    pub(crate) left: Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Committing {
    pub(crate) writer: usize,
    pub(crate) deadline: Tick,
}

/// How often it may still happen; the fields of [`Bounds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    pub(crate) others: u8,
    pub(crate) flushes: u8,
    pub(crate) failovers: u8,
    pub(crate) evictions: u8,
    pub(crate) beats: u8,
    pub(crate) crashes: u8,
    pub(crate) restarts: u8,
    pub(crate) losses: u8,
    pub(crate) strangers: u8,
}

/// An event on its way, without end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) position: Position,
    pub(crate) payload: Bytes,
    /// The newest version that it drops the predecessors of.
    pub(crate) covers: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owed {
    pub(crate) version: Version,
    pub(crate) writer: usize,
    /// When a writer that has crashed must have been finished for, by the server's time.
    pub(crate) at: Option<Tick>,
}

/// What an event names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Key,
    /// A key that no instance caches here.
    Other,
    /// What a collapse leaves: everything.
    All,
}

/// The bytes of an event: which instance published it, and what it names.
pub(crate) fn encode(origin: Option<usize>, what: What) -> Bytes {
    const BYTES: [[&[u8]; 3]; 3] = [
        [&[0, 0], &[0, 1], &[0, 2]],
        [&[1, 0], &[1, 1], &[1, 2]],
        [&[2, 0], &[2, 1], &[2, 2]],
    ];
    let origin = origin.map_or(0, |writer| writer + 1);
    Bytes::from_static(BYTES[origin][what as usize])
}

/// Whether the reader has published it itself, and what it names.
pub(crate) fn decode(payload: &Bytes) -> (bool, What) {
    let what = match payload[1] {
        0 => What::Key,
        1 => What::Other,
        _ => What::All,
    };
    (
        payload[0] != NO_ORIGIN && usize::from(payload[0]) == READER + 1,
        what,
    )
}

/// What an instance calls itself.
pub(crate) fn id_of(writer: usize) -> u64 {
    writer as u64 + 1
}

/// The intent of a writer's write; it has one at a time.
pub(crate) fn intent_of(writer: usize, write: u8) -> IntentId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&id_of(writer).to_be_bytes());
    id[15] = write;
    id
}

impl State {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            database: 0,
            committing: None,
            server: Server::new(bounds.journal),
            demoted: None,
            log: Vec::new(),
            reader: Reader::default(),
            writers: bounds.writes.map(Writer::new),
            due: 0,
            owed: Vec::new(),
            left: Left {
                others: bounds.others,
                flushes: bounds.flushes,
                failovers: bounds.failovers,
                evictions: bounds.evictions,
                beats: bounds.beats,
                crashes: bounds.crashes,
                restarts: bounds.restarts,
                losses: bounds.losses,
                strangers: bounds.strangers,
            },
        }
    }

    /// A version of the key was committed.
    pub(crate) fn commit(&mut self, writer: usize, bound: Option<Tick>) {
        self.database += 1;
        self.owed.push(Owed {
            version: self.database,
            writer,
            at: bound,
        });
    }

    /// A committed version becomes due
    /// 1: when an event for the key is published after its commit (see `publish`);
    /// 2: when its writer holds nothing back: no open write, nothing queued or unconfirmed;
    /// 3: announced by an intent: when its writer has crashed, and `member_timeout` has passed since
    ///    it was last heard of and since the commit; of a commit that took effect late, when its
    ///    deadline has passed as well.
    pub(crate) fn update_due(&mut self) {
        let now = self.server.now;
        let mut due = self.due;
        for owed in &self.owed {
            let writer = &self.writers[owed.writer];
            let dead = !writer.alive && now >= writer.heard_at + MEMBER_TIMEOUT;
            if writer.settled() || (dead && owed.at.is_some_and(|at| now >= at)) {
                due = due.max(owed.version);
            }
        }
        self.due = due;
        self.owed.retain(|owed| owed.version > due);
    }

    /// Delivers what a server has published to every instance.
    pub(crate) fn deliver(&mut self, published: Published, covers: Version, primary: bool) {
        self.log.push(Message {
            position: published.position,
            payload: published.payload,
            covers,
        });
        if primary {
            self.due = self.due.max(covers);
        }
    }

    /// The version that an event of the journal covers: the least, where a failover has handed its
    /// number out twice.
    pub(crate) fn covered_by(&self, epoch: u64, sequence: u64, payload: &Bytes) -> Version {
        let position = Position { epoch, sequence };
        self.log
            .iter()
            .filter(|message| message.position == position && message.payload == *payload)
            .map(|message| message.covers)
            .min()
            .unwrap_or(0)
    }
}
