//! Judges a run by what its source of truth and its servers know.
//!
//! 1. *Time bound*: a read returns no version that was replaced, and whose invalidation a primary
//!    had taken, more than `max_staleness` before the read began. A version that a `write` replaced
//!    is bounded from its commit, see [`Judge::obliged`].
//! 2. *Push*: where nothing has gone wrong, it is returned no longer than one hop.
//! 3. *Causality*: once an instance has applied an event, its reads reflect every invalidation up to
//!    that event's sequence.
//! 4. *Acknowledgement*: a call that returned Ok has had its event sequenced.
//! 5. *Liveness*: faults stop, and the fleet is fresh and answers from memory (see `run`).

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::time::Instant;
use unstale::testing::inside::{Happened, Sequenced};

use crate::fleet::{Read, Written, ms};
use crate::run::Ran;
use crate::schedule::*;
use crate::source::{Version, cache, exists, tag};

/// What a judge found.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The first is the earliest; empty if every promise was kept.
    pub(crate) violations: Vec<String>,
    /// Reads that returned what had been replaced and published, within their bound.
    pub(crate) stale: u64,
    /// The same for runs that went alike.
    pub(crate) trace: u64,
}

struct Judge<'a> {
    ran: &'a Ran,
    /// Versions of each key, oldest first, with when a primary first took an event that drops it.
    versions: BTreeMap<u64, Vec<(&'a Version, Vec<Told>)>>,
    /// Sequences that were handed out twice make these epochs say nothing.
    ambiguous: Vec<(u32, u64)>,
    /// Times at which a server lost what it must remember of writes.
    losses: Vec<Instant>,
    /// What requests took on their way at most.
    slowest: u64,
    /// Places whose instances could not publish although all else worked.
    unpublishing: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Told {
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
            losses: Vec::new(),
            slowest: 0,
            unpublishing: Vec::new(),
        };
        for version in &ran.versions {
            let told = judge.told(version);
            judge
                .versions
                .entry(version.key)
                .or_default()
                .push((version, told));
        }
        judge.find_ambiguous();
        for step in &ran.schedule.steps {
            judge.note_step(step);
        }
        judge
    }

    fn note_step(&mut self, step: &Step) {
        match step.what {
            What::Server(
                ServerFault::Flush
                | ServerFault::RestartEmpty
                | ServerFault::DropMembers
                | ServerFault::Split { .. },
            ) => self.losses.push(self.ran.started + ms(step.at)),
            What::Fault {
                fault: LinkFault::Slow(request, _),
                ..
            } => {
                self.slowest = self.slowest.max(request);
            }
            What::Fault {
                node,
                fault: LinkFault::FailPublish(_) | LinkFault::PausePublish | LinkFault::LoseAck(_),
            } => self.unpublishing.push(node),
            _ => {}
        }
    }

    fn sequenced(&self) -> impl Iterator<Item = (usize, Instant, &'a Sequenced)> + use<'a> {
        let entries = self.ran.history.entries().iter().enumerate();
        entries.filter_map(|(moment, entry)| match &entry.what {
            Happened::Published(event) => Some((moment, entry.at, event)),
            Happened::Seen(_) => None,
        })
    }

    fn drops(&self, event: &Sequenced, key: u64) -> bool {
        event.drops(self.ran.schedule.lanes, cache(key), &key, &[tag(key)])
    }

    /// The first event after its commit that drops it; and the first of another instance, for the
    /// one that sent the first: it dropped the key when it was asked to, not when that was
    /// published.
    fn told(&self, version: &Version) -> Vec<Told> {
        let mut told: Vec<Told> = Vec::new();
        for (moment, at, event) in self.sequenced() {
            let first = told.first().is_none_or(|told| {
                told.origin
                    .is_some_and(|origin| event.origin != Some(origin))
            });
            if moment >= version.moment && first && event.primary && self.drops(event, version.key)
            {
                told.push(Told {
                    at,
                    moment,
                    origin: event.origin,
                });
                if told.len() == 2 || event.origin.is_none() {
                    break;
                }
            }
        }
        told
    }

    /// When the instance of this read was told.
    fn told_to(read: &Read, told: &[Told]) -> Option<Told> {
        told.iter()
            .find(|told| told.origin != Some(read.number))
            .copied()
    }

    fn find_ambiguous(&mut self) {
        let mut seen = std::collections::BTreeSet::new();
        for (_, _, event) in self.sequenced() {
            if !seen.insert((event.lane, event.epoch, event.sequence)) {
                self.ambiguous.push((event.lane, event.epoch));
            }
        }
        // A counter that stepped back below what somebody had adopted.
        let back = |read: &Read, at: Instant, event: &Sequenced| {
            let applied = read.applied.get(&event.lane);
            applied.is_some_and(|(epoch, sequence)| {
                *epoch == event.epoch && *sequence >= event.sequence && at > read.began
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
    fn missed(&self, read: &Read) -> impl Iterator<Item = &(&'a Version, Vec<Told>)> {
        let versions = self.versions.get(&read.key).map_or(&[][..], Vec::as_slice);
        let got = self.got(read);
        versions
            .iter()
            .filter(move |(version, _)| version.version > got)
    }

    /// The version that a read returned. "Does not exist" may be any that says so: the latest.
    fn got(&self, read: &Read) -> u64 {
        read.value.unwrap_or_else(|| {
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
        self.missed(read)
            .any(|(_, told)| Self::told_to(read, told).is_some_and(|told| told.at < read.began))
    }

    fn read(&self, read: &Read) -> Option<String> {
        let (of, got) = (&self.ran.schedule.nodes[read.node], self.got(read));
        let since = |at: Instant| at.saturating_duration_since(self.ran.started);
        let said = |version: &Version, told: Option<Instant>, what: &str| {
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
                told.map(since),
            )
        };
        if read.value.is_some_and(|value| !exists(value)) {
            return Some(format!("{read:?} returned what does not exist"));
        }
        let bound = ms(of.max_staleness);
        for (version, told) in self.missed(read) {
            let told = Self::told_to(read, told);
            if let Some(told) = told {
                let broken = if read.began > told.at + bound {
                    Some("too old")
                } else if read.clean && read.began > told.at {
                    Some("not pushed")
                } else if self.applied_before(read, told.moment) {
                    Some("applied and returned")
                } else {
                    None
                };
                if let Some(broken) = broken {
                    return Some(said(version, Some(told.at), broken));
                }
            }
            if read.id.0 >= self.ran.end && self.must_have_arrived(version) {
                return Some(said(version, told.map(|told| told.at), "in the end"));
            }
            if self.own(read, version) {
                return Some(said(version, told.map(|told| told.at), "its own"));
            }
            if self
                .obliged(version, read)
                .is_some_and(|latest| read.began > latest + bound)
            {
                return Some(said(version, told.map(|told| told.at), "a write's bound"));
            }
        }
        None
    }

    /// Whether everybody must know of this version once all faults have stopped: its writer lives,
    /// or has left an intent that no server has lost. (Who dies before its `invalidate` has reached
    /// anybody leaves the TTL.)
    fn must_have_arrived(&self, version: &Version) -> bool {
        let announced = version.write.is_some_and(|write| {
            let write = &self.ran.log.writes[write];
            !write.available && !self.losses.iter().any(|at| *at >= write.began)
        });
        announced || self.ran.alive.contains(&version.by)
    }

    /// Whether a call on the same instance had invalidated this version's predecessor and returned.
    fn own(&self, read: &Read, version: &Version) -> bool {
        self.ran.log.acknowledged.iter().any(|call| {
            call.number == read.number
                && call.keys.contains(&version.key)
                && version.moment <= call.from
                && call.at < read.began
        })
    }

    /// Whether the instance had applied this event, or a later one of its epoch, when the read
    /// began.
    fn applied_before(&self, read: &Read, moment: usize) -> bool {
        let Happened::Published(event) = &self.ran.history.entries()[moment].what else {
            return false;
        };
        let applied = read.applied.get(&event.lane);
        applied.is_some_and(|(epoch, sequence)| {
            *epoch == event.epoch
                && *sequence >= event.sequence
                && !self.ambiguous.contains(&(event.lane, event.epoch))
        })
    }

    /// By when a primary must have been told of a version that a `write` committed, as far as this
    /// read can expect it; `None` where the table of bounds promises nothing but the TTL.
    ///
    /// Its writer was last seen at `seen`. From `seen + MEMBER_TIMEOUT` on the reader's own
    /// verification publishes what a silent writer left open. A commit that landed after its writer
    /// had given it up, or could have been taken for dead, is published at the write's deadline.
    fn obliged(&self, version: &Version, read: &Read) -> Option<Instant> {
        let write = &self.ran.log.writes[version.write?];
        let lost = self
            .losses
            .iter()
            .any(|at| (write.began..=read.began).contains(at));
        if write.available || lost || self.unpublishing.contains(&write.node) {
            return None;
        }
        let commit_began = write.commit_began?;
        let resolved = write.resolved.filter(|at| *at < version.at);
        let late = resolved.is_some() || version.at >= commit_began + ms(MEMBER_TIMEOUT / 2);
        let deadline = write.began + ms(WRITE_TIMEOUT + self.slowest);
        if self.undisturbed(write.node) {
            // It publishes by itself: when the commit is answered, and where that tells nothing, at
            // the deadline.
            let answered = write.resolved?.max(version.at);
            return Some(if resolved.is_some() {
                deadline
            } else {
                answered
            });
        }
        let seen = self.last_seen(write, read.began).max(version.at);
        let dead = seen + ms(MEMBER_TIMEOUT);
        Some(if late { dead.max(deadline) } else { dead })
    }

    /// Whether nothing in the schedule could keep this place's instances from publishing.
    fn undisturbed(&self, place: usize) -> bool {
        self.ran.schedule.steps.iter().all(|step| match step.what {
            What::Server(_) | What::Freeze { .. } => false,
            What::Fault { node, .. } | What::Crash { node } | What::Shutdown { node } => {
                node != place
            }
            _ => true,
        })
    }

    fn last_seen(&self, write: &Written, until: Instant) -> Instant {
        let entries = self.ran.history.entries().iter().rev();
        entries
            .filter(|entry| entry.at <= until)
            .find(|entry| matches!(entry.what, Happened::Seen(number) if number == write.number))
            .map_or(write.began, |entry| entry.at)
    }

    /// Calls that returned Ok without an event.
    fn unsequenced(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for call in &self.ran.log.acknowledged {
            for key in &call.keys {
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

/// Order within one moment is left out: tokio wakes who waits for the same thing in any order.
fn trace(ran: &Ran) -> u64 {
    let mut hasher = DefaultHasher::new();
    let since = |at: Instant| at.saturating_duration_since(ran.started);
    let mut reads: Vec<_> = ran
        .log
        .reads
        .iter()
        .map(|read| {
            (
                since(read.began),
                read.id,
                read.node,
                read.key,
                since(read.ended),
                read.value,
            )
        })
        .collect();
    reads.sort_unstable();
    reads.hash(&mut hasher);
    for version in &ran.versions {
        (version.key, version.version, since(version.at)).hash(&mut hasher);
    }
    for entry in ran.history.entries() {
        since(entry.at).hash(&mut hasher);
        match &entry.what {
            Happened::Seen(number) => number.hash(&mut hasher),
            Happened::Published(event) => {
                (event.lane, event.epoch, event.sequence).hash(&mut hasher)
            }
        }
    }
    hasher.finish()
}
