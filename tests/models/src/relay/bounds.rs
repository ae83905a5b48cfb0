//! What is explored: how much may happen, and what a check has to come across.

/// What may happen in a run, and how often.
#[derive(Clone, Copy, Debug)]
pub struct RelayBounds {
    /// Commits of a writer that invalidates nothing.
    pub commits: u8,
    /// Writes of the service that the instance belongs to.
    pub own: u8,
    /// A commit is in the log some time before a load can see it; otherwise at once.
    pub late_sight: bool,
    /// A relay publishes a commit only once every load sees it.
    pub waits_for_sight: bool,
    pub loads: u8,
    /// Loads read a replica, which may lag by any number of commits.
    pub replica: bool,
    /// Verifications of the instance.
    pub verifications: u8,
    /// A verification reaches a server some time after it was sent; otherwise at once.
    pub slow: bool,
    /// Verifications of others, in any lane.
    pub beats: u8,
    pub lanes: usize,
    pub relays: usize,
    /// Rounds of all relays together.
    pub rounds: u8,
    /// Deaths of relays, each of which starts again.
    pub deaths: u8,
    /// The relays run already, and have dropped everything; otherwise they start.
    pub running: bool,
    /// A mistake that is no mechanism of its own: a relay drops everything, and opens the log then.
    pub drops_early: bool,
    /// Acknowledgements of a relay's events that are lost.
    pub losses: u8,
    /// Times that a server loses everything but goes on.
    pub flushes: u8,
    /// Promotions of a replica.
    pub failovers: u8,
    /// The replica may lack what happened last.
    pub loses: bool,
    /// After a failover the old primary still answers.
    pub split: bool,
}

impl RelayBounds {
    /// One commit, one lane, one relay that runs; each check names what it wants besides.
    pub const ONE: Self = Self {
        commits: 1,
        own: 0,
        late_sight: false,
        waits_for_sight: false,
        loads: 1,
        replica: false,
        verifications: 2,
        slow: false,
        beats: 0,
        lanes: 1,
        relays: 1,
        rounds: 1,
        deaths: 0,
        running: true,
        drops_early: false,
        losses: 0,
        flushes: 0,
        failovers: 0,
        loses: false,
        split: false,
    };
}

/// What a check must have come across to mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelaySeen {
    /// A mark has proven something.
    Proof,
    /// The same, of a commit, while an entry was held.
    ProofOfEntry,
    /// The same, while a load was under way.
    ProofOfLoad,
    /// A load that was not stored because of an event.
    Discarded,
    Adopted,
    /// The same while the marks of the epoch before were known.
    AdoptedAfterProof,
    /// A lane in another epoch has got everything.
    Renewed,
    /// A lane was not marked because it may lack something.
    NotSure,
    /// A mark of another epoch was not set.
    MarkRefused,
    /// The answer of an old primary was not believed.
    DemotedRefused,
    /// A place of an epoch was given out twice.
    PlaceTwice,
    /// A relay has published to an old primary.
    PublishedToDemoted,
    /// An event was published again, because its acknowledgement was lost.
    PublishedTwice,
    /// A relay has started.
    Opened,
    /// A round has marked lanes of different epochs.
    MarkedOfTwoEpochs,
    OwnEcho,
    /// A commit was in the log before loads could see it.
    LateSight,
    /// What a replica had was stored, although the primary had more.
    KeptOfReplica,
    /// What a replica had was not stored: because of an event, or because no moment was known.
    OvertakenOfReplica,
    UnknownOfReplica,
}
