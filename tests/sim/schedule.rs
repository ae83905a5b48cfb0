//! What happens in one run, as data.

use std::fmt;

/// Keys of the source of truth. Those from [`FIRST_COLUMN`] on live in a second cache.
pub(crate) const KEYS: u64 = 6;

/// See [`KEYS`].
pub(crate) const FIRST_COLUMN: u64 = 4;

/// Silence after which an instance counts as dead, of all instances.
pub(crate) const MEMBER_TIMEOUT: u64 = 600;

/// Longest run of a commit, of all instances.
pub(crate) const WRITE_TIMEOUT: u64 = 2_400;

/// Everything that one run is made of. All times are milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) lanes: u32,
    pub(crate) nodes: Vec<NodeSettings>,
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
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            verify_interval: 100,
            max_staleness: 300,
            ttl: 60_000,
            journal: 64,
            available: false,
        }
    }
}

/// Something that happens at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) at: u64,
    pub(crate) what: What,
}

/// Instances are named by their place in [`Schedule::nodes`]; a step that names one which is down
/// does nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Read {
        node: usize,
        key: u64,
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
    /// Invalidations of so many keys that nobody reads: fills the outbox.
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
    Fault {
        node: usize,
        fault: LinkFault,
    },
    Server(ServerFault),
    /// Dropped without a goodbye, callers and all.
    Crash {
        node: usize,
    },
    /// A new instance in the place of one that is down.
    Start {
        node: usize,
    },
    Shutdown {
        node: usize,
    },
    /// The machine stands still: all clocks jump.
    Freeze {
        time: u64,
    },
}

/// What a database does with a commit, counted from when it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    /// When it takes effect; never after the write's deadline.
    pub(crate) lands: Option<u64>,
    /// When the client is told.
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
    /// The instances with a bit in `isolated` go on with the old primary.
    Split {
        losing: u64,
        isolated: u32,
    },
    Unsplit,
    /// Something that nobody sent on purpose, on the channel of lane 0.
    Garbage,
}

/// Rust that makes the schedule, for a test of its own.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} lanes", self.seed, self.lanes)?;
        for node in &self.nodes {
            writeln!(f, "  {node:?},")?;
        }
        for step in &self.steps {
            writeln!(f, "  at({}, {:?}),", step.at, step.what)?;
        }
        Ok(())
    }
}
