//! By when a primary must have received the event of what a `write` committed.

use tokio::time::Instant;
use unstale::internals::Happened;

use crate::fleet::ms;
use crate::judge::Judge;
use crate::log::{Read, Written};
use crate::run::Ran;
use crate::schedule::*;
use crate::source::Version;

/// What of a schedule takes something away from the promise of writes.
pub(super) struct Conditions {
    /// Times at which a server lost what it must remember of writes.
    losses: Vec<Instant>,
    /// As `losses`, of what writers that live record again once they have verified.
    recoverable: Vec<Instant>,
    /// When the server's clock stepped back: beats count from then, as far as they were in its future.
    back: Vec<Instant>,
    /// By how many milliseconds in all.
    pub(super) stepped_back: u64,
    /// What requests took on their way at most.
    slowest: u64,
    /// Places whose instances could not publish although all else worked.
    unpublishing: Vec<usize>,
    /// Places whose connections had faults.
    faulty: Vec<usize>,
}

impl Conditions {
    pub(super) fn new(ran: &Ran) -> Self {
        let mut conditions = Self {
            losses: Vec::new(),
            recoverable: Vec::new(),
            back: Vec::new(),
            stepped_back: 0,
            slowest: 0,
            unpublishing: Vec::new(),
            faulty: Vec::new(),
        };
        for step in &ran.schedule.steps {
            conditions.note(ran.started + ms(step.at), step.what);
        }
        conditions
    }

    fn note(&mut self, at: Instant, what: What) {
        match what {
            What::Server(
                ServerFault::Flush
                | ServerFault::RestartEmpty
                | ServerFault::DropMembers
                | ServerFault::DropIntents
                | ServerFault::Restore
                | ServerFault::Split { .. },
            ) => self.losses.push(at),
            What::Server(ServerFault::StepClock { ms: step }) if step < 0 => {
                self.back.push(at);
                self.stepped_back += step.unsigned_abs();
            }
            // A clock that steps forward has writers buried, which record their intents again then.
            What::Server(
                ServerFault::StepClock { .. } | ServerFault::FailOverWithoutIntents { .. },
            ) => self.recoverable.push(at),
            What::Fault { node, fault } => {
                self.faulty.push(node);
                match fault {
                    LinkFault::Slow(request, _) => self.slowest = self.slowest.max(request),
                    LinkFault::FailPublish(_)
                    | LinkFault::PausePublish
                    | LinkFault::Refuse
                    | LinkFault::LoseAck(_) => self.unpublishing.push(node),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Returns whether the intent of a write was lost since, without its writer recording it again.
    pub(super) fn lost_since(&self, write: &Written, ran: &Ran) -> bool {
        self.lost(write, ran, |at| at >= write.began)
    }

    fn lost(&self, write: &Written, ran: &Ran, when: impl Fn(Instant) -> bool) -> bool {
        let again = |at: &Instant| {
            let seen = *at + 3 * ms(ran.schedule.nodes[write.node].verify_interval);
            let recorded = |entry: &unstale::internals::Entry| {
                entry.at >= seen && matches!(entry.what, Happened::Seen(of) if of == write.number)
            };
            !self.faulty.contains(&write.node) && ran.timeline.entries().iter().any(recorded)
        };
        self.losses.iter().any(|at| when(*at))
            || self.recoverable.iter().any(|at| when(*at) && !again(at))
    }
}

impl Judge<'_> {
    /// By when a primary must have received the event of a version that a `write` committed, as far as this
    /// read can expect it; `None` where the table of bounds promises nothing but the TTL.
    ///
    /// Its writer was last seen at `seen`. From `seen` and the longest silence on, the reader's own
    /// verification publishes what a silent writer left open. A commit that landed after its writer
    /// had given it up, or could have been taken for dead, is published at the write's deadline.
    pub(super) fn obliged(&self, version: &Version, read: &Read) -> Option<Instant> {
        let write = &self.ran.log.writes[version.write?];
        let conditions = &self.conditions;
        let meanwhile = |at: Instant| (write.began..=read.began).contains(&at);
        let lost = conditions.lost(write, self.ran, meanwhile);
        if write.available
            || lost
            || self.has_twin(write.node)
            || conditions.unpublishing.contains(&write.node)
        {
            return None;
        }
        let nodes = &self.ran.schedule.nodes;
        let of_writer = nodes[write.node].member_timeout;
        let shortest = nodes.iter().map(|of| of.member_timeout).min()?;
        let commit_began = write.commit_began?;
        let resolved = write.resolved.filter(|at| *at < version.at);
        // The commit begins when the record is younger than half a silence of the writer's.
        let early = shortest.saturating_sub(of_writer / 2);
        let late = resolved.is_some() || version.at >= commit_began + ms(early);
        let back = conditions.back.iter().filter(|at| meanwhile(**at)).max();
        let counts = back.map_or(write.began, |back| write.began.max(*back));
        let deadline = counts + ms(WRITE_TIMEOUT + conditions.slowest);
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
        let mut seen = self.last_seen(write, read.began).max(version.at);
        if let Some(back) = back {
            // Found in the future by the next beat, and pulled back to then.
            seen = seen.max(*back + ms(nodes[read.node].verify_interval));
        }
        let dead = seen + ms(nodes[read.node].member_timeout);
        Some(if late { dead.max(deadline) } else { dead })
    }

    /// Returns whether another instance has the same id, and so the names of the same writes.
    pub(super) fn has_twin(&self, place: usize) -> bool {
        let nodes = &self.ran.schedule.nodes;
        let id = nodes[place].id;
        id.is_some() && nodes.iter().filter(|of| of.id == id).count() > 1
    }

    /// Returns whether nothing in the schedule could keep this place's instances from publishing.
    fn undisturbed(&self, place: usize) -> bool {
        self.ran.schedule.steps.iter().all(|step| match step.what {
            What::Server(_) | What::Freeze { .. } => false,
            What::Fault { node, .. }
            | What::Crash { node }
            | What::Shutdown { node }
            | What::StartSilent { node, .. } => node != place,
            _ => true,
        })
    }

    fn last_seen(&self, write: &Written, until: Instant) -> Instant {
        let entries = self.ran.timeline.entries().iter().rev();
        entries
            .filter(|entry| entry.at <= until)
            .find(|entry| matches!(entry.what, Happened::Seen(number) if number == write.number))
            .map_or(write.began, |entry| entry.at)
    }
}
