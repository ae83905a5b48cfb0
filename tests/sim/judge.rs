//! Judges a run by what its source of truth and its servers know.
//!
//! 1. *Time bound*: a read returns no version that was replaced, and whose invalidation a primary
//!    had taken, more than `max_staleness` before the read began. A version that a `write` replaced
//!    is bounded from its commit, see [`Judge::obliged`].
//! 2. *Push*: where nothing has gone wrong, it is returned no longer than one hop.
//! 3. *Causality*: once an instance has applied an event, its reads reflect every invalidation up to
//!    that event's sequence.
//! 4. *Acknowledgement*: a call that returned Ok has had its event sequenced.
//! 5. *Liveness*: faults stop, and the fleet is fresh and answers from memory (see `heal`).
//! 6. *Nothing hangs*: every read ends by its deadline, and the runtime turns (see `watch`).
//!    Nothing panics but code of the user that is meant to.
//! 7. *Pace*: no instance asks a server for verifications faster than it may.
//! 8. *From the commit*: where a relay watches the source, no read returns what was replaced more than
//!    `max_staleness` before it began, whichever writer replaced it.
//!
//!    Where loaders read a replica, 1 to 8 are judged of what memory returns.
//! 9. *Health*: an instance that calls itself coherent has verified every lane lately (see `heal`).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use unstale::Outcome;
use unstale::internals::{Happened, Sequenced};

use crate::fleet::ms;
use crate::log::{Call, Read};
use crate::obliged::Conditions;
use crate::options::CacheOptions;
use crate::run::Ran;
use crate::schedule::*;
use crate::source::{Version, cache, exists, tag};
use crate::trace::{too_often, trace};

/// What a judge found.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The first is the earliest; empty if every promise was kept.
    pub(crate) violations: Vec<String>,
    /// Reads that returned what had been replaced and published, within their bound.
    pub(crate) stale: u64,
    /// Equal for equal runs.
    pub(crate) trace: u64,
}

pub(super) struct Judge<'a> {
    pub(super) ran: &'a Ran,
    /// Versions of each key, oldest first, with when a primary first took an event that drops it.
    versions: BTreeMap<u64, Vec<(&'a Version, Vec<Known>)>>,
    /// Sequences that were handed out twice make these epochs say nothing.
    ambiguous: Vec<(u32, u64)>,
    pub(super) conditions: Conditions,
}

#[derive(Clone, Copy)]
struct Known {
    at: Instant,
    moment: usize,
    origin: Option<usize>,
}

pub(crate) fn judge(ran: &Ran) -> Verdict {
    let judge = Judge::new(ran);
    let mut found: Vec<(Instant, String)> = Vec::new();
    let mut stale = 0;
    for read in &ran.log.reads {
        stale += u64::from(judge.is_stale(read));
        found.extend(judge.read(read).map(|why| (read.began, why)));
    }
    found.sort_by_key(|(at, _)| *at);
    let mut violations: Vec<_> = found.into_iter().map(|(_, why)| why).collect();
    violations.extend(judge.unsequenced());
    violations.extend(ran.log.late.iter().cloned());
    violations.extend(too_often(ran));
    violations.extend(ran.unhealed.iter().cloned());
    Verdict {
        violations,
        stale,
        trace: trace(ran),
    }
}

impl<'a> Judge<'a> {
    fn new(ran: &'a Ran) -> Self {
        let mut judge = Self {
            ran,
            versions: BTreeMap::new(),
            ambiguous: Vec::new(),
            conditions: Conditions::new(ran),
        };
        for version in &ran.versions {
            let known = judge.known(version);
            judge
                .versions
                .entry(version.key)
                .or_default()
                .push((version, known));
        }
        judge.find_ambiguous();
        judge
    }

    fn sequenced(&self) -> impl Iterator<Item = (usize, Instant, &'a Sequenced)> + use<'a> {
        let entries = self.ran.timeline.entries().iter().enumerate();
        entries.filter_map(|(moment, entry)| match &entry.what {
            Happened::Published(event) => Some((moment, entry.at, event)),
            Happened::Seen(_) | Happened::Asked(_) => None,
        })
    }

    fn drops(&self, event: &Sequenced, key: u64) -> bool {
        event.drops(self.ran.schedule.lanes, cache(key), &key, &[tag(key)])
    }

    /// The first event after its commit that drops it; and the first of another instance, for the
    /// one that sent the first: it dropped the key when it was asked to, not when that was
    /// published.
    fn known(&self, version: &Version) -> Vec<Known> {
        let mut known: Vec<Known> = Vec::new();
        for (moment, at, event) in self.sequenced() {
            let first = known.first().is_none_or(|known| {
                known
                    .origin
                    .is_some_and(|origin| event.origin != Some(origin))
            });
            if moment >= version.moment && first && event.primary && self.drops(event, version.key)
            {
                known.push(Known {
                    at,
                    moment,
                    origin: event.origin,
                });
                if known.len() == 2 || event.origin.is_none() {
                    break;
                }
            }
        }
        known
    }

    /// When the instance of this read could first know it.
    fn known_to(read: &Read, known: &[Known]) -> Option<Known> {
        known
            .iter()
            .find(|known| known.origin != Some(read.number))
            .copied()
    }

    fn find_ambiguous(&mut self) {
        let mut seen = std::collections::BTreeSet::new();
        for (_, _, event) in self.sequenced() {
            if !seen.insert((event.lane, event.epoch, event.sequence)) {
                self.ambiguous.push((event.lane, event.epoch));
            }
        }
        // An older state was put back: what was numbered before may be numbered again.
        let mut goes_back = false;
        for step in &self.ran.schedule.steps {
            let back = matches!(
                step.what,
                What::Server(ServerFault::SetBack { .. } | ServerFault::Restore)
            );
            goes_back |= back;
            let until = self.ran.started + ms(step.at);
            for (_, at, event) in self.sequenced() {
                if back && at <= until {
                    self.ambiguous.push((event.lane, event.epoch));
                }
            }
        }
        // A counter that stepped back below what an instance had adopted.
        let back = |read: &Read, at: Instant, event: &Sequenced| {
            let applied = read.applied.get(&event.lane);
            applied.is_some_and(|(epoch, sequence)| {
                let before = at > read.began || (goes_back && at == read.began);
                *epoch == event.epoch && *sequence >= event.sequence && before
            })
        };
        let reads = &self.ran.log.reads;
        for (_, at, event) in self.sequenced() {
            if reads.iter().any(|read| back(read, at, event)) {
                self.ambiguous.push((event.lane, event.epoch));
            }
        }
    }

    /// The versions that replaced what this read returned, with their numbers.
    fn missed(&self, read: &Read) -> impl Iterator<Item = &(&'a Version, Vec<Known>)> {
        let versions = self.versions.get(&read.key).map_or(&[][..], Vec::as_slice);
        let got = self.got(read);
        versions
            .iter()
            .filter(move |(version, _)| version.version > got)
    }

    /// The version that a read returned. "Does not exist" may be any absence: the latest.
    fn got(&self, read: &Read) -> u64 {
        read.facts.map(|facts| facts.version).unwrap_or_else(|| {
            let versions = self.versions.get(&read.key);
            let absent = versions
                .into_iter()
                .flatten()
                .map(|(version, _)| version.version);
            let absent = absent.filter(|version| !exists(*version));
            absent.max().unwrap_or(0)
        })
    }

    fn is_stale(&self, read: &Read) -> bool {
        self.missed(read).any(|(_, known)| {
            Self::known_to(read, known).is_some_and(|known| known.at < read.began)
        })
    }

    fn read(&self, read: &Read) -> Option<String> {
        let (of, got) = (&self.ran.schedule.nodes[read.node], self.got(read));
        let since = |at: Instant| at.saturating_duration_since(self.ran.started);
        let said = |version: &Version, known: Option<Instant>, what: &str| {
            format!(
                "{what}: at {:?} instance {} returned version {got} of key {} ({:?}, bound {} ms); version {} \
                 was committed at {:?} and published at {:?}",
                since(read.began),
                read.node,
                read.key,
                read.outcome,
                of.max_staleness,
                version.version,
                since(version.at),
                known.map(since),
            )
        };
        if read.facts.is_some_and(|facts| !exists(facts.version)) {
            return Some(format!("{read:?} returned what does not exist"));
        }
        if self.outlived(read) {
            return Some(format!(
                "{read:?} outlived the TTL that came with the value"
            ));
        }
        // What a replica had is returned as late as that is; what memory has is judged.
        let in_memory = matches!(read.outcome, Some(Outcome::Hit | Outcome::Negative));
        if self.options_of(read.key).replica.is_some() && !in_memory {
            return None;
        }
        let bound = ms(of.max_staleness);
        for (version, known) in self.missed(read) {
            let known = Self::known_to(read, known);
            let at = known.map(|known| known.at);
            if let Some(known) = known {
                let broken = if read.began > known.at + bound {
                    Some("too old")
                } else if let Some(broken) = self.misses_what_was_asked(read, version, known) {
                    Some(broken)
                } else if read.clean && read.began > known.at + self.longest_pause() {
                    Some("not pushed")
                } else if self.applied_before(read, known.moment) {
                    Some("applied and returned")
                } else {
                    None
                };
                if let Some(broken) = broken {
                    return Some(said(version, at, broken));
                }
            }
            if read.id.0 >= self.ran.end && self.must_have_arrived(version) {
                return Some(said(version, at, "in the end"));
            }
            let options = self.options_of(read.key);
            if options.source && read.began > version.at + bound {
                return Some(said(version, at, "too old since the commit"));
            }
            if self.own(read, version) {
                return Some(said(version, at, "its own"));
            }
            if self
                .obliged(version, read)
                .is_some_and(|latest| read.began > latest + bound)
            {
                return Some(said(version, at, "a write's bound"));
            }
        }
        None
    }

    fn options_of(&self, key: u64) -> &CacheOptions {
        if key < FIRST_COLUMN {
            &self.ran.schedule.rows
        } else {
            &self.ran.schedule.columns
        }
    }

    /// Returns whether every instance must know of this version once all faults have stopped: its writer lives,
    /// or has left an intent that no server has lost. (A writer that dies before its `invalidate` has reached
    /// any server leaves the TTL.)
    fn must_have_arrived(&self, version: &Version) -> bool {
        let announced = version.write.is_some_and(|write| {
            let write = &self.ran.log.writes[write];
            !write.available
                && !self.has_twin(write.node)
                && !self.conditions.lost_since(write, self.ran)
        });
        announced || self.ran.alive.contains(&version.by)
    }

    /// Memory has served a value for longer than the TTL that came with it. What came from the tier
    /// lives by the server's clock.
    fn outlived(&self, read: &Read) -> bool {
        let Some(facts) = read.facts.filter(|facts| facts.life > 0) else {
            return false;
        };
        let born = self.ran.started + Duration::from_micros(facts.born);
        let ends = born + ms(facts.life) + ms(self.conditions.stepped_back);
        read.outcome == Some(Outcome::Hit) && read.began >= ends
    }

    /// Returns whether a call on the same instance had invalidated this version's predecessor and returned; or
    /// had dropped it. With the tier a read may find the old value there until the call returns.
    fn own(&self, read: &Read, version: &Version) -> bool {
        let options = self.options_of(read.key);
        let dropped = self.ran.log.dropped.iter().any(|call| {
            call.number == read.number
                && call.order < read.order
                && call
                    .keys
                    .iter()
                    .any(|(key, had)| *key == version.key && version.version <= *had)
        });
        if dropped && !options.tier {
            return true;
        }
        self.ran.log.acknowledged.iter().any(|call| {
            call.number == read.number
                && call.at < read.began
                && call
                    .keys
                    .iter()
                    .any(|(key, had)| *key == version.key && version.version <= *had)
        })
    }

    /// Returns whether the instance had applied this event, or a later one of its epoch, when the read
    /// began.
    fn applied_before(&self, read: &Read, moment: usize) -> bool {
        let Happened::Published(event) = &self.ran.timeline.entries()[moment].what else {
            return false;
        };
        let applied = read.applied.get(&event.lane);
        applied.is_some_and(|(epoch, sequence)| {
            *epoch == event.epoch
                && *sequence >= event.sequence
                && !self.ambiguous.contains(&(event.lane, event.epoch))
        })
    }

    /// The read had to see this version, by what kind of call it is.
    fn misses_what_was_asked(
        &self,
        read: &Read,
        version: &Version,
        known: Known,
    ) -> Option<&'static str> {
        let Happened::Published(event) = &self.ran.timeline.entries()[known.moment].what else {
            return None;
        };
        // Numbers that were given out twice are the limit that `Token` documents.
        let twice = self.ambiguous.iter().any(|(lane, _)| *lane == event.lane);
        match read.call {
            Call::Latest if read.began > known.at => Some("not the latest"),
            Call::After(given) if version.version <= given && !twice => {
                Some("older than its token")
            }
            _ => None,
        }
    }

    /// How long an event may wait before it is delivered; timers are as exact as a millisecond.
    fn longest_pause(&self) -> Duration {
        match self.ran.schedule.pause {
            0 => Duration::ZERO,
            pause => ms(pause + 2),
        }
    }

    /// Calls that returned Ok without an event.
    fn unsequenced(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for call in &self.ran.log.acknowledged {
            for (key, _) in &call.keys {
                let sequenced = self.sequenced().any(|(moment, _, event)| {
                    (call.from..call.to).contains(&moment) && self.drops(event, *key)
                });
                if !sequenced {
                    wrong.push(format!("acknowledged without an event: {call:?}"));
                }
            }
        }
        wrong
    }
}
