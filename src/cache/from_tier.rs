//! What a load finds in the shared tier: whether a value is fresh enough is decided here.

use crate::Key;
use crate::bus::Position;
use crate::bus::tier::Claim;
use crate::cache::flight::{Incoming, Leader, Wanted};
use crate::cache::state::CacheState;
use crate::coherence::freshness::NotVerified;
use crate::coherence::member::Phase;
use crate::key::canonical;
use crate::loader::Loaded;
use crate::metrics::{SharedRead, SharedWait};
use crate::store::stamps::{Stamp, lane_of};
use crate::tier::claim::{Request, Waiting};
pub(crate) use crate::tier::client::Ticket;
use crate::tier::client::{Answer, Found, Query, Tier};
use crate::tier::pool::PATIENCE;
pub(crate) use crate::tier::pool::Slot;
use crate::time::Nanos;

/// What the tier had for a load.
pub(crate) enum FromTier<V> {
    Found(Incoming<V>),
    /// Load it. Without a ticket the value is not stored in the tier.
    Load(Option<Ticket>),
}

/// The answer to one question.
enum Reply<V> {
    Done(FromTier<V>),
    /// Another instance loads it.
    Claimed,
    /// Nothing counts before a verification has begun the lane's record.
    NoRecord,
}

/// What a load knows before it asks, taken in this order:
/// the token (what is applied later stops the value from being stored); the verification (all
/// published before it are applied); what is applied (never less than either has seen).
#[derive(Clone, Copy)]
struct Snapshot {
    token: Stamp,
    at: Nanos,
    verified_at: Nanos,
    applied: Position,
}

impl<K, V> CacheState<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Looks for the value of a load; takes the load's token first. It waits for no loader but another
    /// instance's, as long as the cache's options say.
    pub(crate) async fn ask_tier(
        &self,
        leader: &Leader<K, V>,
        wanted: Wanted,
        slot: Option<Slot>,
    ) -> FromTier<V> {
        let closed = self.member().phase() == Phase::Closed;
        match &self.tier {
            // Boxed: a load of a cache without a tier does not pay for the size of this.
            Some(tier) if wanted != Wanted::OfSource && !closed => {
                Box::pin(self.ask(tier, leader, wanted, slot)).await
            }
            _ => FromTier::Load(None),
        }
    }

    /// Makes a load begin once there is a place to ask the tier: as long as it waits it has no task.
    pub(crate) fn when_tier_is_free(&self, begin: impl FnOnce(Slot) + Send + 'static) {
        match &self.tier {
            Some(tier) => tier.pool.when_free(Box::new(begin)),
            None => begin(Slot::TimedOut),
        }
    }

    async fn ask(
        &self,
        tier: &Tier<V>,
        leader: &Leader<K, V>,
        wanted: Wanted,
        slot: Option<Slot>,
    ) -> FromTier<V> {
        let request = match wanted {
            Wanted::ValueOfMany | Wanted::OfSource => None,
            Wanted::Value | Wanted::Newer => tier.request(),
        };
        let claim = request.map(|request| request.claim);
        let slot = match slot {
            Some(slot) => slot,
            None => tier.pool.slot(PATIENCE).await,
        };
        let mut reply = self.ask_once(tier, leader, (wanted, claim), slot).await;
        if let (Reply::NoRecord, Some(_)) = (&reply, claim) {
            // Such a lane grants no claims: every instance would load. The next verification begins the
            // record, so that is waited for, once.
            let now = self.member().clock.precise();
            let _ = self.caught_up(leader.hash(), now).await;
            let slot = tier.pool.slot(PATIENCE).await;
            reply = self.ask_once(tier, leader, (wanted, claim), slot).await;
        }
        match (reply, request) {
            (Reply::Done(done), _) => done,
            (Reply::Claimed, Some(request)) => {
                self.wait_for_peer(tier, leader, wanted, request).await
            }
            (Reply::Claimed | Reply::NoRecord, _) => FromTier::Load(None),
        }
    }

    /// Asks again and again, until the value is there, the claim is free, or the wait is over.
    async fn wait_for_peer(
        &self,
        tier: &Tier<V>,
        leader: &Leader<K, V>,
        wanted: Wanted,
        request: Request,
    ) -> FromTier<V> {
        let waits = &self.metrics.shared_waits;
        let Some(place) = tier.pool.waiter() else {
            waits[SharedWait::GaveUp].inc();
            return FromTier::Load(None);
        };
        let mut waiting = Waiting::new(request, place);
        loop {
            let claim = waiting.pause().await;
            let slot = tier.pool.slot(PATIENCE).await;
            let asked = self.ask_once(tier, leader, (wanted, claim), slot);
            let found = match asked.await {
                Reply::Claimed if claim.is_some() => continue,
                Reply::Claimed | Reply::NoRecord => FromTier::Load(None),
                Reply::Done(done) => done,
            };
            let outcome = match (&found, claim) {
                (FromTier::Found(_), _) => SharedWait::Found,
                (_, None) => SharedWait::GaveUp,
                (_, Some(_)) => SharedWait::Led,
            };
            waits[outcome].inc();
            return found;
        }
    }

    async fn ask_once(
        &self,
        tier: &Tier<V>,
        leader: &Leader<K, V>,
        (wanted, claim): (Wanted, Option<Claim>),
        slot: Slot,
    ) -> Reply<V> {
        let load = || Reply::Done(FromTier::Load(None));
        let Slot::Granted(permit) = slot else {
            self.metrics.shared_reads[SharedRead::Busy].inc();
            return load();
        };
        let snapshot = match self.verified_in_bound(leader.hash()).await {
            Ok(()) => self.snapshot(leader),
            Err(NotVerified) => None,
        };
        let (Some(snapshot), Some(key)) = (snapshot, canonical(leader.key())) else {
            self.metrics.shared_reads[SharedRead::Unverified].inc();
            return load();
        };
        let query = Query {
            hash: leader.hash(),
            key: &key,
            applied: snapshot.applied,
            age: match wanted {
                Wanted::Newer => self.due(),
                Wanted::Value | Wanted::ValueOfMany | Wanted::OfSource => (1_000, 0),
            },
            claim,
        };
        match tier.fetch(permit, &query).await {
            Answer::Found(found) => Reply::Done(FromTier::Found(self.incoming(found, snapshot))),
            Answer::Missing(ticket) => Reply::Done(FromTier::Load(ticket)),
            Answer::Claimed => Reply::Claimed,
            Answer::NoRecord => Reply::NoRecord,
        }
    }

    /// Waits, where the lane's last verification is too old to prove a value fresh, for the next one, as a
    /// read of memory does.
    async fn verified_in_bound(&self, hash: u64) -> Result<(), NotVerified> {
        let member = self.member();
        let in_bound = || {
            if self.store.source_lags(hash) {
                return Some(Err(NotVerified));
            }
            let now = member.clock.now();
            let fresh = self.store.is_fresh(self.store.verified_at(hash), now);
            fresh.then_some(Ok(()))
        };
        member.wait_verified(hash, in_bound).await?
    }

    fn snapshot(&self, leader: &Leader<K, V>) -> Option<Snapshot> {
        let member = self.member();
        let (token, at) = self.begin(std::slice::from_ref(leader));
        let verified_at = self.store.verified_at(leader.hash());
        let lane = lane_of(leader.hash(), member.lane_count());
        let applied = member.lanes[lane as usize].applied()?;
        Some(Snapshot {
            token,
            at,
            verified_at,
            applied,
        })
    }

    /// A value that counts.
    ///
    /// Redis said that nothing that concerns it was published between its load and the answer, and
    /// had seen what is applied here. So it reflects everything that was published before the
    /// lane's last verification, which is what proves it fresh: its own age, as the
    /// server's clock measures it, can only make it older than that.
    fn incoming(&self, found: Found<V>, snapshot: Snapshot) -> Incoming<V> {
        let left = if found.own_ttl {
            found.left
        } else {
            found.left.min(self.life(None, found.value.is_some()))
        };
        let fresh_as_of = match self.options.max_staleness {
            Some(_) => snapshot.verified_at,
            None => snapshot.at,
        };
        let loaded_at = snapshot.at.saturating_sub(found.age).min(fresh_as_of);
        Incoming {
            value: found.value,
            token: snapshot.token,
            loaded_at,
            fresh_as_of,
            life: snapshot.at.saturating_add(left).saturating_sub(loaded_at),
            tags: found.tags,
            own_ttl: found.own_ttl,
        }
    }

    /// Stores what was loaded, and gives the claim up.
    pub(crate) async fn store_in_tier(&self, key: &K, ticket: Ticket, loaded: &Loaded<V>) {
        if let (Some(tier), Some(key)) = (&self.tier, canonical(key)) {
            tier.store(&key, ticket, loaded).await;
        }
    }
}
