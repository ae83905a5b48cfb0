//! One cache's side of the shared tier: fetch and store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::Key;
use crate::bus::shared::{Claim, Fetch, Fetched, Found, Head, Put, Stored, Subject};
use crate::bus::{BoxFuture, Position};
use crate::cache::inner::{Inner, VERIFICATION_WAIT};
use crate::cache::tier::{Arrived, Held, Job, Read, Ticket, Tier, Turn, Waiting, Wanted};
use crate::core::{Core, Phase};
use crate::flight::Leader;
use crate::key::{canonical, tag_hash};
use crate::loader::Loaded;
use crate::metrics::{LaneWait, SharedRead, SharedStore};
use crate::shared::Shared;
use crate::shared::calls::{NoAnswer, STORE, patience};
use crate::shared::names::Content;
use crate::shared::value::{Layout, Unfit};
use crate::store::stamps::{Stamp, lane_of};
use crate::time::{Nanos, nanos};

/// How long Redis keeps a value that has ended, at most: a load that brings the same bytes then only
/// renews it. It is kept for another life of its own if that is shorter.
const KEPT: Duration = Duration::from_secs(600);

/// The shared tier of one cache.
pub(crate) struct Reader<V> {
    pub(super) shared: Shared<V>,
    ttl: Duration,
}

/// What a read saw before it asked.
#[derive(Clone, Copy)]
struct Before {
    token: Stamp,
    at: Nanos,
    verified_at: Nanos,
    applied: Position,
}

/// What one question led to.
pub(super) enum Asked<V> {
    Read(Read<V>),
    /// Another instance loads it.
    Wait,
    /// Nothing counts before a verification has begun the lane's record.
    NoRecord,
}

impl<V: Clone + Send + Sync + 'static> Reader<V> {
    pub(crate) fn new(shared: Shared<V>, ttl: Duration) -> Self {
        Self { shared, ttl }
    }

    fn layout(&self) -> Layout<'_, V> {
        Layout {
            codec: &*self.shared.codec,
            version: self.shared.version,
            compress_above: self.shared.compress_above,
            max_bytes: self.shared.max_bytes,
        }
    }

    /// Waits, where the lane's last verification is too old to vouch for a value, for the next one,
    /// as a read of memory does.
    async fn verified<K>(&self, cache: &Inner<K, V>, hash: u64) -> bool
    where
        K: Key + Clone + 'static,
    {
        let core = cache.core();
        let lane = core.stamps.lane(hash);
        let wait = async {
            loop {
                let mut verified = std::pin::pin!(lane.verified.notified());
                verified.as_mut().enable();
                if cache.vouched(lane.verified_at()) {
                    return true;
                }
                if !lane.up() || !core.bus.connected() {
                    return false;
                }
                core.set_busy(true);
                core.verify_key_now(hash);
                verified.await;
            }
        };
        match timeout(VERIFICATION_WAIT, wait).await {
            Ok(verified) => verified,
            Err(_) => {
                lane.set_down();
                core.metrics.lane_waits[LaneWait::TimedOut].inc();
                false
            }
        }
    }

    /// What is known before Redis is asked, in this order:
    /// the token (what is applied later stops the value from being stored); the verification (all
    /// published before it are applied); what is applied (never less than either has seen).
    fn before<K>(cache: &Inner<K, V>, leader: &Leader<K, V>) -> Option<Before>
    where
        K: Key + Clone + 'static,
    {
        let core = cache.core();
        let (token, at) = cache.begin(std::slice::from_ref(leader));
        let verified_at = core.stamps.lane(leader.hash()).verified_at();
        let lane = lane_of(leader.hash(), core.lane_count());
        let applied = core.lanes[lane as usize].applied()?;
        Some(Before {
            token,
            at,
            verified_at,
            applied,
        })
    }

    pub(super) async fn ask<K>(
        &self,
        cache: &Arc<Inner<K, V>>,
        leader: &Leader<K, V>,
        wanted: Wanted,
        claim: Option<Claim>,
    ) -> Asked<V>
    where
        K: Key + Clone + 'static,
    {
        let core = cache.core();
        let reads = &cache.metrics.shared_reads;
        let load = |outcome: SharedRead| {
            reads[outcome].inc();
            Asked::Read(Read::Load(None))
        };
        if !self.verified(cache, leader.hash()).await {
            return load(SharedRead::Unverified);
        }
        let Some(before) = Self::before(cache, leader) else {
            return load(SharedRead::Unverified);
        };
        let subject = Subject {
            cache: cache.id,
            format: K::FORMAT,
            hash: leader.hash(),
        };
        let (part, margin) = match wanted {
            Wanted::Newer => cache.due(),
            Wanted::Value | Wanted::ValueOfMany | Wanted::OfSource => (1_000, 0),
        };
        let fetch = Fetch {
            name: core.calls.secret.name(subject),
            subject,
            part,
            margin,
            claim,
        };
        let lane = lane_of(leader.hash(), core.lane_count());
        let answer = core
            .calls
            .ask(core, lane, patience(claim), || core.bus.fetch(lane, fetch));
        let fetched = match answer.await {
            Ok(fetched) => fetched,
            Err(NoAnswer::Skipped) => return load(SharedRead::Skipped),
            Err(NoAnswer::Busy) => return load(SharedRead::Busy),
            Err(NoAnswer::Failed) => return load(SharedRead::Failed),
        };
        let mut ticket = Ticket {
            name: fetch.name,
            subject,
            position: fetched.head,
            born: fetched.now,
            digest: None,
            claim: None,
        };
        match &fetched.found {
            Found::NoRecord => {
                reads[SharedRead::Refused].inc();
                Asked::NoRecord
            }
            Found::Claimed => Asked::Wait,
            Found::Nothing(digest) => {
                reads[SharedRead::Missing].inc();
                ticket.digest = *digest;
                ticket.claim = claim.map(|claim| Held {
                    core: core.clone(),
                    lane,
                    name: fetch.name,
                    id: claim.id,
                    released: false,
                });
                Asked::Read(Read::Load(Some(ticket)))
            }
            Found::Value(bytes) => {
                let known = fetched.head.epoch == before.applied.epoch
                    && fetched.head.sequence >= before.applied.sequence;
                if !known {
                    // The server has not seen what was applied here, or is in another life.
                    return load(SharedRead::Refused);
                }
                let Some(arrived) = self.accept(cache, leader, bytes, &fetched, before) else {
                    reads[SharedRead::Foreign].inc();
                    return Asked::Read(Read::Load(Some(ticket)));
                };
                reads[SharedRead::Found].inc();
                Asked::Read(Read::Found(arrived))
            }
        }
    }

    /// A value that counts, if it is this key's and of this version.
    ///
    /// Redis said that nothing that concerns it was published between its load and the answer, and
    /// had seen what is applied here. So it reflects everything that was published before the
    /// lane's last verification, which is what it is vouched for by: its own age, told by the
    /// server's clock, only ever makes it older than that.
    fn accept<K>(
        &self,
        cache: &Inner<K, V>,
        leader: &Leader<K, V>,
        bytes: &[u8],
        fetched: &Fetched,
        before: Before,
    ) -> Option<Arrived<V>>
    where
        K: Key + Clone + 'static,
    {
        let (head, body) = Head::decode(bytes)?;
        let key = canonical(leader.key())?;
        let content = Content {
            cache: &cache.name,
            format: K::FORMAT,
            key: &key,
            tags: &head.tags,
            body,
        };
        if !cache.core().calls.secret.is_digest(&head.digest, content) {
            return None;
        }
        let content = self.layout().read(body)?;
        let age = millis(fetched.now.saturating_sub(head.born));
        let left = left(&head, fetched.now);
        let exists = content.value.is_some();
        let left = if content.own_ttl {
            left
        } else {
            left.min(cache.life(None, exists))
        };
        let vouched_at = match cache.options.max_staleness {
            Some(_) => before.verified_at,
            None => before.at,
        };
        let loaded_at = before.at.saturating_sub(age).min(vouched_at);
        Some(Arrived {
            value: content.value,
            token: before.token,
            loaded_at,
            vouched_at,
            life: before.at.saturating_add(left).saturating_sub(loaded_at),
            tags: head.tags,
            own_ttl: content.own_ttl,
        })
    }

    async fn store<K>(
        &self,
        cache: &Arc<Inner<K, V>>,
        key: &K,
        mut ticket: Ticket,
        loaded: Loaded<V>,
    ) -> SharedStore
    where
        K: Key + Clone + 'static,
    {
        let core = cache.core();
        let default = match &loaded.value {
            Some(_) => self.ttl,
            None => cache.options.negative_ttl,
        };
        let life = loaded.ttl.unwrap_or(default).as_millis();
        let life = u64::try_from(life).unwrap_or(u64::MAX / 4);
        let written = self
            .layout()
            .write(loaded.value.as_ref(), loaded.ttl.is_some());
        let body = match written {
            Ok(body) => body,
            Err(Unfit::Oversized) => return SharedStore::Oversized,
            Err(Unfit::Broken) => return SharedStore::Broken,
        };
        let Some(key) = canonical(key).filter(|_| life > 0) else {
            return SharedStore::Refused;
        };
        let tags: Box<[u64]> = loaded.tags.iter().map(|tag| tag_hash(tag)).collect();
        let digest = core.calls.secret.digest(Content {
            cache: &cache.name,
            format: K::FORMAT,
            key: &key,
            tags: &tags,
            body: &body,
        });
        let expires = ticket.born.saturating_add(life);
        let kept = life.min(u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX));
        let lane = lane_of(ticket.subject.hash, core.lane_count());
        let mut put = Put {
            name: ticket.name,
            subject: ticket.subject,
            head: Head {
                position: ticket.position,
                born: ticket.born,
                expires,
                digest,
                tags,
            },
            body: None,
            forget: expires.saturating_add(kept),
            claim: ticket.claim.as_ref().map(|held| held.id),
        };
        // The same bytes are not sent again, if they are still there.
        let mut stored = Ok(Stored::BodyNeeded);
        if ticket.digest == Some(digest) {
            let renew = put.clone();
            stored = core
                .calls
                .ask(core, lane, STORE, || core.bus.put(lane, renew))
                .await;
        }
        if stored == Ok(Stored::BodyNeeded) {
            put.body = Some(body.into());
            stored = core
                .calls
                .ask(core, lane, STORE, || core.bus.put(lane, put))
                .await;
        }
        if stored.is_ok()
            && let Some(held) = &mut ticket.claim
        {
            held.released = true;
        }
        match stored {
            Ok(Stored::Written) => SharedStore::Stored,
            Ok(Stored::Renewed) => SharedStore::Unchanged,
            Ok(Stored::Refused | Stored::BodyNeeded) => SharedStore::Refused,
            Err(NoAnswer::Skipped | NoAnswer::Busy | NoAnswer::Failed) => SharedStore::Failed,
        }
    }
}

impl<K, V> Tier<K, V> for Reader<V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn enqueue(&self, core: &Arc<Core>, job: Job) {
        core.calls.queue.push(&core.runtime, job);
    }

    fn read<'a>(
        &'a self,
        cache: &'a Arc<Inner<K, V>>,
        leader: &'a Leader<K, V>,
        wanted: Wanted,
        turn: Turn,
    ) -> BoxFuture<'a, Read<V>> {
        Box::pin(async move {
            let core = cache.core();
            if core.phase() == Phase::Closed {
                return Read::Load(None);
            }
            if turn == Turn::Missed {
                cache.metrics.shared_reads[SharedRead::Busy].inc();
                return Read::Load(None);
            }
            let claim = self.claim(core, wanted);
            let id = claim.map(|(claim, _)| claim);
            let mut asked = self.ask(cache, leader, wanted, id).await;
            if let (Asked::NoRecord, Some(_)) = (&asked, id) {
                Self::record_begun(cache, leader.hash()).await;
                asked = self.ask(cache, leader, wanted, id).await;
            }
            match asked {
                Asked::Read(read) => read,
                Asked::Wait => Self::queue_up(cache, wanted, claim),
                Asked::NoRecord => Read::Load(None),
            }
        })
    }

    fn wait<'a>(
        &'a self,
        cache: &'a Arc<Inner<K, V>>,
        leader: &'a Leader<K, V>,
        waiting: Waiting,
    ) -> BoxFuture<'a, Read<V>> {
        Box::pin(self.poll(cache, leader, waiting))
    }

    fn write<'a>(
        &'a self,
        cache: &'a Arc<Inner<K, V>>,
        key: &'a K,
        ticket: Ticket,
        loaded: Loaded<V>,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let outcome = self.store(cache, key, ticket, loaded).await;
            cache.metrics.shared_stores[outcome].inc();
        })
    }
}

/// How long a value may live from now on; never longer than it might when its load began, should the
/// server's clock have been set back since.
fn left(head: &Head, now: u64) -> Nanos {
    let whole = head.expires.saturating_sub(head.born);
    millis(head.expires.saturating_sub(now).min(whole))
}

fn millis(millis: u64) -> Nanos {
    nanos(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_clock_that_is_set_back_prolongs_no_ttl_that_came_with_a_value() {
        let position = Position {
            epoch: 1,
            sequence: 1,
        };
        let head = Head {
            position,
            born: 1_000_000,
            expires: 1_120_000,
            digest: [0; 16],
            tags: Box::default(),
        };
        let seconds = |now| left(&head, now) / 1_000_000_000;
        assert_eq!([1_000_000, 1_090_000, 1_200_000].map(seconds), [120, 30, 0]);
        assert_eq!(seconds(400_000), 120, "set back by ten minutes");
    }
}
