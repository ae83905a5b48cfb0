//! One load for the whole fleet: the claim to it, and the wait for another instance's value.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::Key;
use crate::bus::shared::Claim;
use crate::cache::inner::{Inner, VERIFICATION_WAIT};
use crate::cache::tier::{Read, Waiting, Wanted};
use crate::core::Core;
use crate::flight::Leader;
use crate::metrics::SharedWait;
use crate::shared::calls::Calls;
use crate::shared::reader::{Asked, Reader};

/// The first pause of somebody who waits for another instance's value; each further one doubles it.
const POLL: Duration = Duration::from_millis(4);

/// The longest pause: a waiter is late by half of it on average, and costs Redis 20 calls a second.
const MAX_POLL: Duration = Duration::from_millis(50);

/// Keys that one instance waits for at once: a task each, and 10,000 calls a second together, a
/// third of what Redis can do. Whoever finds no place loads.
pub(super) const WAITERS: usize = 512;

impl<V: Clone + Send + Sync + 'static> Reader<V> {
    /// What a read asks for that would load alone: the right to do so for so long.
    pub(super) fn claim(&self, core: &Core, wanted: Wanted) -> Option<(Claim, Instant)> {
        let wait = match wanted {
            Wanted::ValueOfMany | Wanted::OfSource => None,
            Wanted::Value | Wanted::Newer => self.shared.single_flight,
        }?;
        let claim = Claim {
            id: Calls::claim(core.id),
            millis: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1),
        };
        Some((claim, Instant::now() + wait))
    }

    /// A lane without a record grants no claims: everybody would load. The next verification begins
    /// the record, so that is waited for, once.
    pub(super) async fn record_begun<K>(cache: &Inner<K, V>, hash: u64)
    where
        K: Key + Clone + 'static,
    {
        let core = cache.core();
        let verified = core.stamps.lane(hash).verified.notified();
        let mut verified = std::pin::pin!(verified);
        verified.as_mut().enable();
        core.verify_key_now(hash);
        let _ = timeout(VERIFICATION_WAIT, verified).await;
    }

    /// Another instance loads: its place, if there is one, among those who wait for that.
    pub(super) fn queue_up<K>(
        cache: &Inner<K, V>,
        wanted: Wanted,
        claim: Option<(Claim, Instant)>,
    ) -> Read<V>
    where
        K: Key + Clone + 'static,
    {
        let place = cache.core().calls.waiters.clone().try_acquire_owned();
        if let (Some((claim, until)), Ok(place)) = (claim, place) {
            return Read::Wait(Waiting {
                wanted,
                claim,
                until,
                place,
            });
        }
        cache.metrics.shared_waits[SharedWait::GaveUp].inc();
        Read::Load(None)
    }

    /// Asks again and again, until the value is there, the claim is free, or the wait is over.
    pub(super) async fn poll<K>(
        &self,
        cache: &Arc<Inner<K, V>>,
        leader: &Leader<K, V>,
        waiting: Waiting,
    ) -> Read<V>
    where
        K: Key + Clone + 'static,
    {
        let Waiting {
            wanted,
            claim: mine,
            until,
            place: _until_the_end,
        } = waiting;
        let waits = &cache.metrics.shared_waits;
        let left = || until.saturating_duration_since(Instant::now());
        let mut pause = POLL;
        loop {
            let jitter = 0.5 + fastrand::f64();
            sleep(pause.mul_f64(jitter).min(left())).await;
            pause = (pause * 2).min(MAX_POLL);
            // The last question is asked after the wait, and whatever the answer, it ends there.
            let claim = Some(mine).filter(|_| !left().is_zero());
            let read = match self.ask(cache, leader, wanted, claim).await {
                Asked::Wait if claim.is_some() => continue,
                Asked::Wait | Asked::NoRecord => Read::Load(None),
                Asked::Read(read) => read,
            };
            let outcome = match (&read, claim) {
                (Read::Found(_), _) => SharedWait::Found,
                (_, None) => SharedWait::GaveUp,
                (_, Some(_)) => SharedWait::Led,
            };
            waits[outcome].inc();
            return read;
        }
    }
}
