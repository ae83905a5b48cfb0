//! Mechanisms of the protocol that tests can take out, to show that each is needed.
//!
//! A test makes a `internals::Without`, and the simulator or the model must then find a read that breaks
//! the promise. Without the feature `test-util` the switch is a constant, and nothing of this is
//! left in the program.

/// One mechanism that the promise rests on.
#[cfg_attr(
    not(any(test, feature = "test-util")),
    expect(unreachable_pub, reason = "only `internals` exports it")
)]
#[cfg_attr(
    not(any(test, feature = "test-util")),
    allow(dead_code, reason = "some are a relay's")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// A loaded value is stored only if nothing concerning it was invalidated since its load began.
    TokenAtInsert,
    /// A fence stops loads in flight from being stored, not only entries.
    FenceOfLoadsInFlight,
    /// An event that does not follow the last one is a gap.
    SequenceCheck,
    /// Only a verification proves that nothing was missed.
    Verification,
    /// A new life of a lane's counter has a new epoch.
    Epochs,
    /// After a sequence has been adopted, everything held before is dropped.
    FenceAfterAdoption,
    /// After a reconnection: subscribed first, then repaired, then verified.
    OrderOfResubscription,
    /// A commit is followed by an event.
    PublishAfterCommit,
    /// Peers finish the writes of a dead instance.
    IntentRecovery,
    /// A commit begins only while its intent is recent and its instance a member.
    WritersGate,
    /// A write of unknown outcome is published again at its deadline.
    PublishAtDeadline,
    /// Events that no later verification has confirmed are published again.
    Republishing,
    /// A full outbox becomes whole caches and lanes; it never forgets.
    Collapse,
    /// A verification counts only from the server that is still the primary.
    StillThePrimary,
    /// A value of the shared tier counts only if the record has nothing newer that concerns it.
    SharedRecord,
    /// With the shared tier an instance applies its own events again once they are published.
    OwnEchoes,
    /// A miss looks into memory a second time after it has released the lock of the flights.
    SecondLookOutsideTheLock,
    /// An event with the instance's own origin is applied unless this instance has sent it.
    ForeignEchoes,
    /// A position that goes back within its epoch is another life of the lane.
    BackwardPositions,
    /// Nothing counts while a lane has another number of lanes.
    AgreedLanes,
    /// An expired entry that is served instead of a failed load has a token, as a load has.
    StandInToken,
    /// An entry that is served instead of a load is checked as any entry is: after an invalidation it is not served.
    StandInStamps,
    /// Open writes are announced again after every adoption.
    AnnouncementAfterAdoption,
    /// A panic in the code of the user ends no task of the instance.
    ContainedPanics,
    /// Values are dropped after the lock of the store is released.
    DropsOutsideLocks,
    /// A failed verification is followed by a pause.
    VerificationPace,
    /// A read begins to wait for a verification before it looks whether there was one.
    WaitBeforeTest,
    /// Marks and numbers of another epoch count for nothing.
    MarksOfOneEpoch,
    /// A mark counts once everything up to its head is applied.
    MarksAfterApplying,
    /// A relay reads the numbers of verifications before it reads where the log ends.
    NumbersBeforeTheEnd,
    /// A relay marks once everything up to the log's end is published.
    MarksAfterPublishing,
    /// A relay drops the caches of its rules after it has opened the log. Taken out in the model only: a first round
    /// drops them as well.
    DropsAfterOpening,
    /// A relay marks a lane only in the epoch in which it has published everything.
    LanesRenewed,
    /// What was read from a replica counts as read at the moment that its place stands for.
    MomentOfReplicas,
    /// A read after a token looks into memory once the token's event is applied.
    AppliedBeforeLookup,
    /// Beats that lie in the future of the server's clock are pulled back to its present.
    ServerClockSteps,
}

#[cfg(any(test, feature = "test-util"))]
std::thread_local! {
    static WITHOUT: std::cell::Cell<Option<Mechanism>> = const { std::cell::Cell::new(None) };
}

/// Returns whether this mechanism is to be left out on this thread.
#[inline]
pub(crate) fn without(mechanism: Mechanism) -> bool {
    #[cfg(any(test, feature = "test-util"))]
    return WITHOUT.get() == Some(mechanism);
    #[cfg(not(any(test, feature = "test-util")))]
    {
        let _ = mechanism;
        false
    }
}

/// Takes a mechanism out on this thread until the guard is dropped.
#[cfg(any(test, feature = "test-util"))]
#[derive(Debug)]
pub struct Without(Option<Mechanism>);

#[cfg(any(test, feature = "test-util"))]
impl Without {
    /// Takes it out. Instances must run on this thread: use a current-thread runtime.
    #[must_use]
    pub fn new(mechanism: Mechanism) -> Self {
        Self(WITHOUT.replace(Some(mechanism)))
    }
}

#[cfg(any(test, feature = "test-util"))]
impl Drop for Without {
    fn drop(&mut self) {
        WITHOUT.set(self.0);
    }
}
