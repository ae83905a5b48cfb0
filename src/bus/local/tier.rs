//! A lane's part of the shared tier, as a server keeps it: values, claims, and the history of
//! invalidations that decides which of them count. The same rules as in the scripts over Redis.

#![cfg_attr(
    not(feature = "shared"),
    allow(dead_code, reason = "used only with feature `shared`")
)]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::history::{History, Signs};
use crate::bus::Position;
use crate::bus::tier::{ClaimId, Fetch, Fetched, Found, HEAD, Head, Name, Put, Stored};

/// What the server adds to its time to get the milliseconds of its clock.
const EPOCH_MILLIS: u64 = 1_750_000_000_000;

/// Values that are held at most: each fetch looks through them for those that have ended.
const VALUES: usize = 4_096;

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Tier {
    signs: Signs,
    history: Option<History>,
    values: BTreeMap<Name, Value>,
    claims: BTreeMap<Name, Held>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Value {
    head: Head,
    body: Bytes,
    forget: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Held {
    id: ClaimId,
    position: Position,
    expires: u64,
}

pub(super) fn millis(now: Duration) -> u64 {
    EPOCH_MILLIS + u64::try_from(now.as_millis()).unwrap_or(u64::MAX / 4)
}

impl Tier {
    /// A member that uses the tier verifies: the history is begun, or begun again after a hole.
    pub(super) fn begin(&mut self, head: Position, signs: Signs) {
        self.signs = signs;
        if self.covering(head).is_none() {
            self.history = Some(History::begin(head));
        }
    }

    /// Returns whether the history has events of this epoch beyond its head: the counter went back.
    pub(super) fn is_beyond(&self, head: Position) -> bool {
        let history = self.history.as_ref();
        history.is_some_and(|history| history.is_beyond(head))
    }

    /// Everything is forgotten that came after the lane's head stepped back to this sequence.
    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn forget(&mut self, head: u64) {
        if let Some(history) = &mut self.history {
            history.forget(head);
        }
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn drop_history(&mut self) {
        self.history = None;
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn drop_values(&mut self) {
        self.values.clear();
        self.claims.clear();
    }

    /// Returns the history, if it covers the lane up to its head.
    fn covering(&self, head: Position) -> Option<&History> {
        let history = self.history.as_ref();
        history.filter(|history| history.covers(head))
    }

    /// An event has been given this position.
    pub(super) fn remember(&mut self, position: Position, payload: &[u8]) {
        let Some(history) = &mut self.history else {
            return;
        };
        if history.precedes(position) {
            history.remember(position.sequence, payload, self.signs);
        } else {
            // Only the next verification closes a hole; until then nothing counts, also if a
            // counter that was set back comes to the same sequence again.
            self.history = None;
        }
    }

    pub(super) fn fetch(
        &mut self,
        head: Position,
        sound: bool,
        now: u64,
        fetch: &Fetch,
    ) -> Fetched {
        self.values.retain(|_, value| value.forget > now);
        self.claims.retain(|_, claim| claim.expires > now);
        let found = if sound {
            self.find(head, now, fetch)
        } else {
            Found::NoHistory
        };
        Fetched { head, now, found }
    }

    fn find(&mut self, head: Position, now: u64, fetch: &Fetch) -> Found {
        let Some(history) = self.covering(head) else {
            return Found::NoHistory;
        };
        let value = self.values.get(&fetch.name);
        if let Some(Value { head, body, .. }) = value
            && history.counts(fetch.subject, &head.tags, head.position)
            && young(head, now, fetch)
        {
            return Found::Value([&head.encode()[..], body].concat().into());
        }
        let digest = value.map(|value| value.head.digest);
        let Some(claim) = fetch.claim else {
            return Found::Nothing(digest);
        };
        let held = self.claims.get(&fetch.name);
        if held.is_some_and(|held| {
            held.id != claim.id && history.counts(fetch.subject, &[], held.position)
        }) {
            return Found::Claimed;
        }
        let (id, expires) = (claim.id, now + claim.millis);
        let held = Held {
            id,
            position: head,
            expires,
        };
        self.claims.insert(fetch.name, held);
        Found::Nothing(digest)
    }

    pub(super) fn put(&mut self, head: Position, put: Put) -> Stored {
        let stored = self.place(head, &put);
        if stored != Stored::BodyNeeded
            && let Some(id) = put.claim
        {
            self.release(&put.name, id);
        }
        stored
    }

    fn place(&mut self, head: Position, put: &Put) -> Stored {
        let counts = |history: &History| {
            put.head.position.sequence <= head.sequence
                && history.counts(put.subject, &put.head.tags, put.head.position)
        };
        let old = self.values.get(&put.name);
        let newer = old.is_some_and(|old| {
            old.head.position.epoch == put.head.position.epoch
                && old.head.position.sequence > put.head.position.sequence
        });
        if newer || !self.covering(head).is_some_and(counts) {
            return Stored::Refused;
        }
        let (body, stored) = match (&put.body, old) {
            (Some(body), _) => (body.clone(), Stored::Written),
            (None, Some(old)) if old.head.digest == put.head.digest => {
                (old.body.clone(), Stored::Renewed)
            }
            (None, _) => return Stored::BodyNeeded,
        };
        let value = Value {
            head: put.head.clone(),
            body,
            forget: put.forget,
        };
        if old.is_none() && self.values.len() >= VALUES {
            // One process has little use for a second copy of what it loads.
            return Stored::Refused;
        }
        self.values.insert(put.name, value);
        stored
    }

    pub(super) fn release(&mut self, name: &Name, id: ClaimId) {
        if self.claims.get(name).is_some_and(|held| held.id == id) {
            self.claims.remove(name);
        }
    }

    /// Bytes a value takes on the wire, about.
    pub(super) fn size(found: &Found) -> usize {
        match found {
            Found::Value(bytes) => bytes.len(),
            Found::Nothing(_) | Found::Claimed | Found::NoHistory => HEAD,
        }
    }
}

/// Returns whether it is neither past the part of its life that is asked for, nor within the margin of its end.
fn young(head: &Head, now: u64, fetch: &Fetch) -> bool {
    let life = head.expires.saturating_sub(head.born);
    let age = u128::from(now.saturating_sub(head.born));
    let margin = fetch.margin.min(life / 2);
    age * 1_000 < u128::from(life) * u128::from(fetch.part)
        && now.saturating_add(margin) < head.expires
}

#[cfg(test)]
mod tests;
