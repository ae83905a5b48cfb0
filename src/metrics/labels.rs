//! The labels of labelled series: one enum per label, one variant per value.

use std::fmt;

use super::series::Label;

/// Something that selects one series of a `Family`.
pub(crate) trait Labels: Copy {
    /// The labels and all their values.
    const LABELS: &'static [Label];

    /// The place among all combinations of values, the last label varying fastest.
    fn index(self) -> usize;
}

/// The value of the one label that this is.
pub(crate) fn label<L: Labels>(value: L) -> &'static str {
    L::LABELS[0].values[value.index()]
}

impl<A: Labels, B: Labels> Labels for (A, B) {
    const LABELS: &'static [Label] = &[A::LABELS[0], B::LABELS[0]];

    fn index(self) -> usize {
        self.0.index() * B::LABELS[0].values.len() + self.1.index()
    }
}

/// Defines an enum whose variants are the values of one label.
macro_rules! label {
    ($(#[$meta:meta])* pub $name:ident, $($rest:tt)*) => {
        label! { @ $(#[$meta])* [pub] $name, $($rest)* }
    };
    ($(#[$meta:meta])* $name:ident, $($rest:tt)*) => {
        label! { @ $(#[$meta])* [pub(crate)] $name, $($rest)* }
    };
    (@ $(#[$meta:meta])* [$vis:vis] $name:ident, $label:literal { $($(#[$doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl Labels for $name {
            const LABELS: &'static [Label] = &[Label { name: $label, values: &[$($value,)*] }];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// What bytes on the wire are for.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "used only with feature `redis`"))]
    Kind, "kind" {
        /// Publishing events (requests and acknowledgements).
        Publish = "publish",
        /// Events delivered by the subscription.
        Deliver = "deliver",
        /// Verifications: the beat that also counts as membership.
        Verify = "verify",
        /// Reading the journal.
        Repair = "repair",
        /// Recording intents of writes.
        Intent = "intent",
        /// What relays mark.
        Mark = "mark",
        /// Values of the shared tier, fetched and stored.
        Shared = "shared",
        /// Connecting, authenticating, subscribing, loading scripts, leaving.
        Connect = "connect",
    }
}

label! {
    /// Why an event, or one of its operations, was received and not applied.
    Dropped, "reason" {
        /// Its sequence had been applied before.
        Duplicate = "duplicate",
        /// This instance published it, and applied it before that.
        Own = "own",
        /// It has this instance's id, but another instance published it: a copy of this process. It
        /// was applied, not dropped.
        Stranger = "stranger",
        /// It belongs to another epoch than the one this instance follows.
        OtherEpoch = "other_epoch",
        /// No epoch of its lane has been adopted yet.
        NotAdopted = "not_adopted",
        /// It does not decode, or its version is unknown; the lane was fenced.
        Undecodable = "undecodable",
        /// With a key, a message without its MAC; it was ignored.
        Refused = "refused",
        /// With a key, an event of a writer of which a later one was heard before, at another place: it was
        /// played again. It was left out; what was published counts by the journal.
        Replayed = "replayed",
        /// It names a cache that this instance has not built.
        UnknownCache = "unknown_cache",
        /// It arrived while the events that wait for a repair were at their limit.
        Overflow = "overflow",
    }
}

label! {
    /// How it was noticed that events of a lane may have been missed.
    Gap, "cause" {
        /// A sequence was left out.
        Sequence = "sequence",
        /// The lane began a new epoch.
        Epoch = "epoch",
        /// This side was too slow, and its queue dropped messages.
        Lagged = "lagged",
        /// The connection that carries the subscription was lost.
        Disconnected = "disconnected",
        /// Something on the channel was no message.
        Garbled = "garbled",
        /// A verification named events that the subscription never delivered.
        Silent = "silent",
    }
}

label! {
    /// How a repair ended.
    Repair, "outcome" {
        /// The journal had every missing event.
        Repaired = "repaired",
        /// It did not: the lane was fenced.
        Fenced = "fenced",
        /// The journal could not be read; tried again.
        Failed = "failed",
    }
}

label! {
    /// Why a lane was fenced.
    Fence, "cause" {
        /// The first verification adopted the lane.
        Adopted = "adopted",
        /// The lane began a new epoch.
        Epoch = "epoch",
        /// Events were missing, and the journal could not fill the gap.
        Gap = "gap",
        /// An event could not be decoded.
        Undecodable = "undecodable",
        /// A clock jumped.
        Clock = "clock",
        /// An event asked for it: an outbox somewhere collapsed to the lane.
        Requested = "requested",
        /// A lane had another number of lanes than this instance, or has it no more.
        Lanes = "lanes",
    }
}

label! {
    /// How a verification ended.
    Verification, "outcome" {
        /// The lane's head is known.
        Ok = "ok",
        /// No answer, or one that does not count.
        Failed = "failed",
    }
}

label! {
    /// How a read's wait for an unverified lane ended.
    LaneWait, "outcome" {
        /// The lane was verified in time.
        Verified = "verified",
        /// It was not: the read went to its loader.
        TimedOut = "timed_out",
    }
}

label! {
    /// What was done to a subscription that did not deliver.
    SubscriptionMethod, "how" {
        /// Subscribed again on the same connection.
        Resubscribe = "resubscribe",
        /// Made a new connection.
        Reconnect = "reconnect",
    }
}

label! {
    /// What a full outbox collapsed to.
    Collapse, "to" {
        /// Keys became their cache.
        Cache = "cache",
        /// Everything became the lane.
        Lane = "lane",
    }
}

label! {
    /// How a crash-safe write ended.
    WriteOutcome, "outcome" {
        /// Committed and published.
        Ok = "ok",
        /// Refused before its commit.
        Refused = "refused",
        /// The commit returned an error.
        Failed = "failed",
        /// The commit was dropped, panicked or ran into its deadline.
        Abandoned = "abandoned",
        /// Committed, but Redis did not acknowledge the event in time; it is retried.
        Unconfirmed = "unconfirmed",
        /// Committed without an intent in Redis (policy `available`).
        Unannounced = "unannounced",
    }
}

label! {
    /// Why a read found no entry that it could serve.
    ///
    /// `Display` writes the value of the label `cause` of `unstale_misses_total`.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(unstale::MissCause::Expired.to_string(), "expired");
    /// ```
    #[non_exhaustive]
    pub MissCause, "cause" {
        /// The instance does not know the key, or no longer.
        Cold = "cold",
        /// The entry was past its TTL.
        Expired = "expired",
        /// The entry was invalidated by its key, by a tag or with its whole cache.
        Invalidated = "invalidated",
        /// The entry was evicted to make room.
        Evicted = "evicted",
        /// All entries of its lane were dropped (fenced).
        Fenced = "fenced",
        /// The entry could not be proven fresh within `max_staleness`.
        Unverified = "unverified",
        /// The answer "does not exist" was past its negative TTL.
        Negative = "negative",
    }
}

impl fmt::Display for MissCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(label(*self))
    }
}

label! {
    /// How a load ended.
    LoadOutcome, "outcome" {
        /// With a value.
        Ok = "ok",
        /// With "does not exist".
        Absent = "absent",
        /// The loader returned an error.
        Error = "error",
        /// It did not end within `load_timeout`.
        Timeout = "timeout",
        /// It panicked.
        Panic = "panic",
        /// It never began: too many loads were under way for too long.
        Overloaded = "overloaded",
        /// It never began: loads of unknown keys were at their limit.
        Limited = "limited",
    }
}

label! {
    /// How an audited hit compared with the source.
    Audited, "outcome" {
        /// The source had the same.
        Same = "same",
        /// It had another value, which may be newer by a moment.
        Differs = "differs",
        /// The source could not be asked.
        Failed = "failed",
        /// Too many audits were under way.
        Skipped = "skipped",
    }
}

label! {
    /// How long past the bound a value was served that differed from the source.
    StaleFor, "age" {
        /// At least a second.
        Second = "1s",
        /// At least ten seconds.
        TenSeconds = "10s",
        /// At least a minute.
        Minute = "60s",
    }
}

impl StaleFor {
    /// As the label says it.
    pub(crate) fn text(self) -> &'static str {
        label(self)
    }
}

label! {
    /// What the shared tier had for a read of it.
    #[cfg_attr(not(feature = "shared"), expect(dead_code, reason = "used only with feature `shared`"))]
    SharedRead, "outcome" {
        /// A value that counts.
        Found = "found",
        /// None that counts.
        Missing = "missing",
        /// A value of another version, of another key, or no value at all.
        Foreign = "foreign",
        /// The server is in another life than this instance has seen, or keeps no record yet.
        Refused = "refused",
        /// The lane could not be verified, so nothing was asked.
        Unverified = "unverified",
        /// The bus is away or the breaker open, so nothing was asked.
        Skipped = "skipped",
        /// Too many reads were asking.
        Busy = "busy",
        /// An error, or no answer in time.
        Failed = "failed",
    }
}

label! {
    /// How storing a value in the shared tier ended.
    #[cfg_attr(not(feature = "shared"), expect(dead_code, reason = "used only with feature `shared`"))]
    SharedStore, "outcome" {
        /// It is there.
        Stored = "stored",
        /// The same bytes were there: only their times were renewed.
        Unchanged = "unchanged",
        /// It was invalidated since its load began, or a newer one is there.
        Refused = "refused",
        /// It is larger than the cache allows.
        Oversized = "oversized",
        /// It cannot be serialized.
        Broken = "broken",
        /// Redis did not answer, or not well.
        Failed = "failed",
    }
}

label! {
    /// How waiting for another instance's load ended.
    #[cfg_attr(not(feature = "shared"), expect(dead_code, reason = "used only with feature `shared`"))]
    SharedWait, "outcome" {
        /// With its value.
        Found = "found",
        /// It gave up, and this instance loads.
        Led = "led",
        /// The wait was over, or Redis away: this instance loads.
        GaveUp = "gave_up",
    }
}

label! {
    /// What a relay does.
    #[cfg_attr(
        not(any(test, feature = "test-util", feature = "relay")),
        allow(dead_code, reason = "nothing relays")
    )]
    RelayState, "state" {
        /// It has the lease and reads the log.
        Leading = "leading",
        /// It has not the lease: another relay has it, or Redis does not answer.
        Waiting = "waiting",
        /// It has the lease, and opens the log or drops the caches of the rules.
        Opening = "opening",
    }
}

label! {
    /// Why a relay dropped whole caches.
    #[cfg_attr(
        not(any(test, feature = "test-util", feature = "relay")),
        allow(dead_code, reason = "nothing relays")
    )]
    RelayCollapse, "cause" {
        /// Transactions had more names than the relay keeps.
        Names = "names",
        /// A table was truncated.
        Truncate = "truncate",
        /// A table was altered.
        Altered = "altered",
        /// A row or a message was too large to be looked at.
        Large = "large",
        /// The log did not have a value that a rule needs.
        Missing = "missing",
        /// A message could not be understood.
        Garbled = "garbled",
    }
}

label! {
    /// What an invalidation named.
    Scope, "kind" {
        /// One key.
        Key = "key",
        /// All entries with a tag.
        Tag = "tag",
        /// All entries of a cache.
        Cache = "cache",
    }
}

label! {
    /// Where an invalidation came from.
    Side, "from" {
        /// This instance.
        Local = "local",
        /// A peer, by an event.
        Remote = "remote",
    }
}
