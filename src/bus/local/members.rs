//! The members of a lane, and the writes that are open in it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::bus::{Intent, IntentId, StillOpen};
use crate::mutants::{Mechanism, without};

/// Dead members and intents at their deadline that one beat deals with; the next beat goes on.
/// It bounds what one beat costs: a whole fleet of a hundred instances may die at once.
const RECOVERED_PER_BEAT: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Open {
    deadline: Duration,
    payload: Bytes,
}

/// Members and intents: two keys in Redis, either of which may be lost without the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Members {
    /// When each instance was last heard of.
    seen: BTreeMap<u64, Duration>,
    /// How long each may be silent; kept with the intents.
    timeouts: BTreeMap<u64, Duration>,
    /// Intents of dead members that were published once, and when they are again, for good.
    recovered: BTreeMap<IntentId, Duration>,
    /// Whether a beat has looked for orphans since `seen` was lost.
    swept: bool,
    /// The open intents.
    open: BTreeMap<IntentId, Open>,
}

/// What a beat finds to be dealt with, oldest first.
enum Due {
    Member(u64),
    Intent(IntentId),
}

impl Members {
    /// Registers an instance as alive. Returns whether it was a member before.
    pub(super) fn beat(&mut self, instance: u64, timeout: Duration, now: Duration) -> bool {
        if !without(Mechanism::ServerClockSteps) {
            self.follow_clock(now);
        }
        let known = self.seen.insert(instance, now).is_some();
        if !known {
            self.timeouts.insert(instance, timeout);
        }
        known
    }

    /// Returns how many instances belong to the lane.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.seen.len()).unwrap_or(u32::MAX)
    }

    /// The clock was set back, or this is another server whose clock is behind: what was noted comes
    /// earlier.
    ///
    /// 1: the latest beat is noted, at B by the clock of then; 2: the clock steps back by S; 3: after a
    /// time E since 1 this beat comes, at now = B + E - S. So the latest beat lies ahead by
    /// X = B - now = S - E. By the clock of now, all that was noted before 2 belongs S earlier. It is
    /// moved by X, which is not more than S: no beat looks older and no deadline comes earlier than it
    /// truly is, and all come E late at most, the time in which no member beat. Nothing was noted
    /// between 2 and 3: everything that notes a time begins with this.
    fn follow_clock(&mut self, now: Duration) {
        let latest = self.seen.values().max().copied().unwrap_or_default();
        let back = latest.saturating_sub(now);
        if back.is_zero() {
            return;
        }
        let deadlines = self.open.values_mut().map(|open| &mut open.deadline);
        let noted = self.seen.values_mut().chain(self.recovered.values_mut());
        for at in noted.chain(deadlines) {
            *at = at.saturating_sub(back);
        }
    }

    /// Removes intents that were published by their writer.
    pub(super) fn clear(&mut self, ids: &[IntentId]) {
        for id in ids {
            self.open.remove(id);
            self.recovered.remove(id);
        }
    }

    /// Announces intents, and the instance as alive.
    pub(super) fn announce(
        &mut self,
        now: Duration,
        instance: u64,
        timeout: Duration,
        intents: Vec<Intent>,
    ) -> bool {
        let known = self.beat(instance, timeout, now);
        for Intent {
            id,
            deadline,
            payload,
        } in intents
        {
            // Announced again by a writer that was taken for dead: it is its own again, and the
            // mark of the recovery must not clear it at the old deadline.
            self.recovered.remove(&id);
            self.open.insert(
                id,
                Open {
                    deadline: now + deadline,
                    payload,
                },
            );
        }
        known
    }

    /// Clears the instance's intents whose writes have ended. Returns whether none is left.
    pub(super) fn reconcile(&mut self, instance: u64, open: &StillOpen) -> bool {
        let ended: Vec<_> = self
            .intents_of(instance)
            .into_iter()
            .filter(|id| !open.intents.contains(id) && number_of(id) <= open.up_to)
            .collect();
        self.clear(&ended);
        self.intents_of(instance).is_empty()
    }

    /// As [`reconcile`](Self::reconcile); removes a member that leaves no open intents behind.
    pub(super) fn leave(&mut self, instance: u64, open: &StillOpen) {
        if self.reconcile(instance, open) {
            self.seen.remove(&instance);
            self.timeouts.remove(&instance);
        }
    }

    /// The payloads to publish for members that died. The caller has just registered itself, so
    /// that it is never among them.
    ///
    /// Case 1: a member silent for its own timeout and the caller's is removed and its intents are
    /// published.
    /// Case 2: an intent published so is published again at its deadline, and cleared: by then
    /// its commit has either happened or never will. Not before a member timeout has passed:
    /// 1: a live writer has an open write; 2: the clock steps forward, beyond the deadline and the
    /// writer's timeout; 3: a peer finds the writer silent and publishes the write; 4: the writer beats,
    /// is unknown and announces the write again; 5: the writer commits and dies. An intent that 3 had
    /// cleared would be missing between 3 and 4.
    /// Case 3: the members were lost: intents of every instance not registered since count as a dead
    /// member's.
    pub(super) fn recover(&mut self, now: Duration, timeout: Duration) -> Vec<Bytes> {
        let mut payloads = Vec::new();
        if !self.swept {
            self.swept = true;
            let orphans: Vec<u64> = self
                .open
                .keys()
                .map(owner)
                .filter(|instance| !self.seen.contains_key(instance))
                .collect();
            for instance in orphans {
                self.expire_member(instance, now + timeout, &mut payloads);
            }
        }
        for due in self.due(now, timeout) {
            match due {
                Due::Member(instance) => self.expire_member(instance, now + timeout, &mut payloads),
                Due::Intent(id) => {
                    self.recovered.remove(&id);
                    payloads.extend(self.open.remove(&id).map(|open| open.payload));
                }
            }
        }
        payloads
    }

    /// Returns the dead members and the recovered intents at their deadline, the longest overdue first.
    fn due(&self, now: Duration, timeout: Duration) -> Vec<Due> {
        let members = self.seen.iter().map(|(instance, seen)| {
            let own = self.timeouts.get(instance).copied().unwrap_or(timeout);
            (*seen + own.max(timeout), Due::Member(*instance))
        });
        let intents = self
            .recovered
            .iter()
            .map(|(id, deadline)| (*deadline, Due::Intent(*id)));
        let mut due: Vec<_> = members
            .chain(intents)
            .filter(|(at, _)| *at <= now)
            .collect();
        due.sort_by_key(|(at, _)| *at);
        due.truncate(RECOVERED_PER_BEAT);
        due.into_iter().map(|(_, due)| due).collect()
    }

    /// Removes a member; what it left open is published now and marked for its deadline, or this
    /// moment if that is later.
    fn expire_member(&mut self, instance: u64, not_before: Duration, payloads: &mut Vec<Bytes>) {
        self.seen.remove(&instance);
        self.timeouts.remove(&instance);
        for id in self.intents_of(instance) {
            // Marked already: published when its owner expired before.
            if self.recovered.contains_key(&id) {
                continue;
            }
            if let Some(open) = self.open.get(&id) {
                payloads.push(open.payload.clone());
                let settled = if without(Mechanism::ServerClockSteps) {
                    open.deadline
                } else {
                    open.deadline.max(not_before)
                };
                self.recovered.insert(id, settled);
            }
        }
    }

    fn intents_of(&self, instance: u64) -> Vec<IntentId> {
        let mut first = [0; 16];
        first[..8].copy_from_slice(&instance.to_be_bytes());
        let mut last = [u8::MAX; 16];
        last[..8].copy_from_slice(&instance.to_be_bytes());
        self.open.range(first..=last).map(|(id, _)| *id).collect()
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn drop_intents(&mut self) {
        self.open.clear();
        self.recovered.clear();
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn drop_members(&mut self) {
        self.seen.clear();
        self.recovered.clear();
        self.swept = false;
    }
}

/// Returns the instance that an intent belongs to.
fn owner(id: &IntentId) -> u64 {
    (u128::from_be_bytes(*id) >> 64) as u64
}

/// Returns the number that the instance gave to it.
fn number_of(id: &IntentId) -> u64 {
    u128::from_be_bytes(*id) as u64
}
