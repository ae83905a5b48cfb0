//! What happens in one run, as data.

use std::fmt;

use unstale::internals::Mechanism;

use crate::mind::{Act, Spot};
use crate::options::CacheOptions;

/// Keys of the source of truth. Those from [`FIRST_COLUMN`] on live in a second cache.
pub(crate) const KEYS: u64 = 6;

/// See [`KEYS`].
pub(crate) const FIRST_COLUMN: u64 = 4;

/// Silence after which an instance counts as dead, of most instances.
pub(crate) const MEMBER_TIMEOUT: u64 = 600;

/// The longest of those that differ.
pub(crate) const LONGEST_MEMBER_TIMEOUT: u64 = 2 * MEMBER_TIMEOUT;

/// Longest run of a commit, of all instances.
pub(crate) const WRITE_TIMEOUT: u64 = 2_400;

/// Everything that one run is made of. All times are milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) lanes: u32,
    /// For how long events wait to be delivered together.
    pub(crate) pause: u64,
    pub(crate) nodes: Vec<NodeSettings>,
    /// The options of the cache of the first keys.
    pub(crate) rows: CacheOptions,
    /// The options of the cache of the others.
    pub(crate) columns: CacheOptions,
    /// A relay reads the source's log, so many milliseconds late.
    pub(crate) relay: Option<u64>,
    /// The mechanism that is taken out.
    pub(crate) without: Option<Mechanism>,
    /// In the order of their times. Any subset is a schedule, too.
    pub(crate) steps: Vec<Step>,
}

/// How one instance is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeSettings {
    pub(crate) verify_interval: u64,
    pub(crate) max_staleness: u64,
    pub(crate) ttl: u64,
    pub(crate) journal: u32,
    /// The policy of writes is `available`.
    pub(crate) available: bool,
    pub(crate) member_timeout: u64,
    pub(crate) publish_timeout: u64,
    /// A misconfiguration: another number of lanes than the fleet's. Never of the first instance.
    pub(crate) lanes: Option<u32>,
    /// Clones of an instance have one id.
    pub(crate) id: Option<u64>,
    /// It is not there at the beginning.
    pub(crate) late: bool,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            verify_interval: 100,
            max_staleness: 300,
            ttl: 60_000,
            journal: 64,
            available: false,
            member_timeout: MEMBER_TIMEOUT,
            publish_timeout: 500,
            lanes: None,
            id: None,
            late: false,
        }
    }
}

/// Something that happens at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) at: u64,
    pub(crate) what: What,
}

/// In a set of places: all relays.
pub(crate) const RELAYS: usize = 7;

/// What happens to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayFault {
    Crash,
    Start,
    /// A second one.
    Join,
    /// Its requests take so many milliseconds to the server.
    Slow(u64),
    Cut,
    Heal,
}

/// Instances are named by their place in [`Schedule::nodes`]; a step that names one which is down
/// does nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Read {
        node: usize,
        key: u64,
        how: How,
    },
    /// So many reads, one each millisecond.
    ReadOften {
        node: usize,
        key: u64,
        reads: u64,
    },
    /// A warm-up of the first cache.
    Preload {
        node: usize,
    },
    /// Looks for all keys in memory.
    Peek {
        node: usize,
    },
    /// Code of the user does something, once.
    Arm {
        node: usize,
        spot: Spot,
        act: Act,
    },
    /// When the next load is about to leave the table of flights, another thread of this instance
    /// replaces its key and reads it.
    AtLanding {
        node: usize,
    },
    /// All keys of the first cache at once.
    ReadMany {
        node: usize,
    },
    /// A caller that goes away after so long.
    ReadCancelled {
        node: usize,
        key: u64,
        after: u64,
    },
    /// A commit, and an invalidation so much later.
    Put {
        node: usize,
        key: u64,
        publish_after: u64,
    },
    /// Commits of all keys of a cache with this tag, and its invalidation.
    /// A row is replaced without an invalidation, as by SQL.
    PutSilently {
        key: u64,
    },
    /// A fault of the relay: its process dies, or starts, or is cut off from the server.
    Relay(RelayFault),
    PutTag {
        node: usize,
        column: bool,
        odd: bool,
    },
    /// Commits of all keys of a cache, and its invalidation.
    PutAll {
        node: usize,
        column: bool,
    },
    /// Commits of two keys, and the invalidation of both in one batch.
    PutBatch {
        node: usize,
        keys: (u64, u64),
    },
    Write {
        node: usize,
        key: u64,
        commit: Commit,
    },
    /// Invalidations of so many keys that are not read: fills the outbox.
    Flood {
        node: usize,
        keys: u64,
    },
    /// How long loads take before and after they read.
    Loader {
        before: u64,
        after: u64,
    },
    LoaderFails(bool),
    LoaderHangs(bool),
    Fault {
        node: usize,
        fault: LinkFault,
    },
    Server(ServerFault),
    /// Dropped without leaving, callers and all.
    Crash {
        node: usize,
    },
    /// A new instance in the place of one that is down.
    Start {
        node: usize,
    },
    /// As `Start`, while the server is silent; it is heard again so much later.
    StartSilent {
        node: usize,
        lasts: u64,
    },
    Shutdown {
        node: usize,
    },
    /// The machine stands still: all clocks jump.
    Freeze {
        time: u64,
    },
}

impl What {
    /// The place of the instance that is called, for steps that are calls.
    pub(crate) fn caller(&self) -> Option<usize> {
        match self {
            Self::Read { node, .. }
            | Self::ReadOften { node, .. }
            | Self::ReadMany { node }
            | Self::ReadCancelled { node, .. }
            | Self::Preload { node }
            | Self::Peek { node }
            | Self::Put { node, .. }
            | Self::PutTag { node, .. }
            | Self::PutAll { node, .. }
            | Self::PutBatch { node, .. }
            | Self::Write { node, .. }
            | Self::Flood { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// What it is called in the totals.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Read { how, .. } => match how {
                How::Get => "get",
                How::Lookup => "lookup",
                How::With => "get_with",
                How::Latest => "latest",
                How::After => "after",
            },
            Self::ReadOften { .. } => "read_often",
            Self::ReadMany { .. } => "get_many",
            Self::ReadCancelled { .. } => "read_cancelled",
            Self::Preload { .. } => "preload",
            Self::Peek { .. } => "peek",
            Self::Put { .. } => "invalidate",
            Self::PutSilently { .. } => "put_silently",
            Self::Relay(_) => "relay_fault",
            Self::PutTag { .. } => "invalidate_tag",
            Self::PutAll { .. } => "invalidate_all",
            Self::PutBatch { .. } => "batch",
            Self::Write { .. } => "write",
            Self::Flood { .. } => "flood",
            Self::Arm { .. } => "arm",
            Self::AtLanding { .. } => "at_landing",
            Self::Loader { .. } => "loader",
            Self::LoaderFails(_) => "loader_fails",
            Self::LoaderHangs(_) => "loader_hangs",
            Self::Fault { fault, .. } if *fault == LinkFault::Refuse => "refuse",
            Self::Fault { .. } => "link_fault",
            Self::Server(fault) => fault.name(),
            Self::Crash { .. } => "crash",
            Self::Start { .. } => "start",
            Self::StartSilent { .. } => "start_silent",
            Self::Shutdown { .. } => "shutdown",
            Self::Freeze { .. } => "freeze",
        }
    }
}

impl ServerFault {
    fn name(&self) -> &'static str {
        match self {
            Self::DropIntents => "drop_intents",
            Self::DropShared => "drop_shared",
            Self::DropSharedRecord => "drop_shared_record",
            Self::DropSharedValues => "drop_shared_values",
            Self::FailOverWithoutIntents { .. } => "fail_over_without_intents",
            Self::SetBack { .. } => "set_back",
            Self::Restore => "restore",
            Self::StepClock { .. } => "step_clock",
            _ => "server_fault",
        }
    }
}

/// Which call a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Get,
    Lookup,
    With,
    Latest,
    /// After the last write of its key that has returned, with that one's token.
    After,
}

/// What a database does with a commit, counted from when it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    /// When it takes effect; never after the write's deadline.
    pub(crate) lands: Option<u64>,
    /// When the client gets its answer.
    pub(crate) answers: u64,
    /// The answer is an error although it may have landed or yet land.
    pub(crate) fails: bool,
    /// It lands although its client has gone.
    pub(crate) survives: bool,
    /// The caller of `write` goes away so long after the call.
    pub(crate) patience: Option<u64>,
}

/// What goes wrong with the connection of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkFault {
    Cut,
    Silence,
    Heal,
    Unsubscribe,
    Deafen,
    Mute,
    LoseReplies,
    Slow(u64, u64),
    Stall,
    /// Ends `Stall` and `Hold`.
    Release,
    ReleaseReversed,
    Hold,
    Lose(u32),
    Duplicate(u32),
    Garble,
    /// Deliveries come so much later, in order.
    Delay(u64),
    FailPublish(u32),
    LoseAck(u32),
    PausePublish,
    ResumePublish,
    /// Every command is refused at once, until `EndAll`.
    Refuse,
    EndAll,
}

/// What happens to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServerFault {
    Restart {
        losing: u64,
    },
    RestartEmpty,
    FailOver {
        losing: u64,
    },
    Flush,
    DropJournal,
    DropCounter,
    DropMembers,
    DropIntents,
    DropShared,
    DropSharedRecord,
    DropSharedValues,
    /// The promoted replica has the members, and lacks the intents.
    FailOverWithoutIntents {
        losing: u64,
    },
    /// The counters step back within their epochs; the journals stay.
    SetBack {
        events: u64,
    },
    /// What the server holds is copied, for `Restore`.
    Copy,
    /// What was copied is put back into the running server.
    Restore,
    /// The server's clock steps, back if this is negative.
    StepClock {
        ms: i64,
    },
    /// The instances with a bit in `isolated` go on with the old primary.
    Split {
        losing: u64,
        isolated: u32,
    },
    Unsplit,
    /// Something that no writer sent on purpose, on the channel of lane 0.
    Garbage,
}

/// Rust that makes the schedule, for a test of its own.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} lanes", self.seed, self.lanes)?;
        if let Some(without) = self.without {
            writeln!(f, "  without {without:?}")?;
        }
        writeln!(f, "  rows {:?}", self.rows)?;
        writeln!(f, "  columns {:?}", self.columns)?;
        for node in &self.nodes {
            writeln!(f, "  {node:?},")?;
        }
        for step in &self.steps {
            writeln!(f, "  at({}, {:?}),", step.at, step.what)?;
        }
        Ok(())
    }
}
