//! Who belongs to a lane, and the writes that are open in it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::bus::{Intent, IntentId};

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
    /// Intents of dead members that were published once, and are again at their deadline.
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
    /// Registers an instance as alive; whether it was a member before.
    pub(super) fn beat(&mut self, instance: u64, now: Duration) -> bool {
        self.seen.insert(instance, now).is_some()
    }

    /// Removes intents that were published by their writer.
    pub(super) fn clear(&mut self, ids: &[IntentId]) {
        for id in ids {
            self.open.remove(id);
            self.recovered.remove(id);
        }
    }

    /// Records intents, and the instance as alive.
    pub(super) fn record(&mut self, now: Duration, instance: u64, intents: Vec<Intent>) -> bool {
        for Intent {
            id,
            deadline,
            payload,
        } in intents
        {
            // Recorded again by a writer that was taken for dead: it is its own again, and the
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
        self.beat(instance, now)
    }

    /// Removes a member that leaves no open intents behind.
    pub(super) fn goodbye(&mut self, instance: u64) {
        if self.intents_of(instance).is_empty() {
            self.seen.remove(&instance);
        }
    }

    /// The payloads to publish for members that died. Whoever asks has just registered itself, so
    /// that it is never among them.
    ///
    /// Case 1: a member silent for `timeout` is removed and its intents are published.
    /// Case 2: an intent published so is published again at its deadline, and cleared: by then
    /// its commit has either happened or never will.
    /// Case 3: the members were lost: intents of everybody not registered since count as a dead
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
                self.bury(instance, &mut payloads);
            }
        }
        for due in self.due(now, timeout) {
            match due {
                Due::Member(instance) => self.bury(instance, &mut payloads),
                Due::Intent(id) => {
                    self.recovered.remove(&id);
                    payloads.extend(self.open.remove(&id).map(|open| open.payload));
                }
            }
        }
        payloads
    }

    /// The dead members and the recovered intents at their deadline, the longest overdue first.
    fn due(&self, now: Duration, timeout: Duration) -> Vec<Due> {
        let members = self
            .seen
            .iter()
            .map(|(instance, seen)| (*seen + timeout, Due::Member(*instance)));
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

    /// Removes a member; what it left open is published now and marked for its deadline.
    fn bury(&mut self, instance: u64, payloads: &mut Vec<Bytes>) {
        self.seen.remove(&instance);
        for id in self.intents_of(instance) {
            // Marked already: published when its owner was buried before.
            if self.recovered.contains_key(&id) {
                continue;
            }
            if let Some(open) = self.open.get(&id) {
                payloads.push(open.payload.clone());
                self.recovered.insert(id, open.deadline);
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

/// The instance that an intent belongs to.
fn owner(id: &IntentId) -> u64 {
    let mut instance = [0; 8];
    instance.copy_from_slice(&id[..8]);
    u64::from_be_bytes(instance)
}
