//! Serves an entry past its TTL in place of a load that fails or takes long, and nothing else.
//!
//! It relaxes the TTL alone. After an invalidation, unverified, or past a TTL of its own no entry is served.

use std::sync::atomic::Ordering::Relaxed;

use tokio::time::timeout_at;

use crate::cache::failures::{Failure, LONGEST};
use crate::cache::flight::{Landing, Leader, Waiter};
use crate::cache::load::length;
use crate::cache::lookup::{Lookup, Outcome};
use crate::cache::state::CacheState;
use crate::foreign::shown;
use crate::key::reference::KeyRef;
use crate::metrics::LoadOutcome;
use crate::mutants::{Mechanism, without};
use crate::store::entry::Tags;
use crate::store::outcome::PastTtl;
use crate::store::stamps::Stamp;
use crate::time::{Nanos, nanos};
use crate::window::window;
use crate::{Error, Key};

/// An expired entry that answers in place of a load.
struct Stale<V> {
    value: V,
    tags: Tags,
    age: Nanos,
    fresh_as_of: Nanos,
    /// What its lookup saw of the invalidation clock.
    token: Stamp,
}

/// What came of waiting for a load.
pub(super) enum Waited<V> {
    /// As [`Waiter::landing`].
    Landed(Option<Landing<V>>),
    /// It takes long, and an expired entry answers, or the error of the load before.
    Answered(Result<Lookup<V>, Error>),
}

impl<K, V> CacheState<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The load failed: an entry that is past its TTL, and nothing else, may answer instead. Further reads
    /// do not ask the source for a while.
    pub(crate) async fn fail(&self, mut leader: Leader<K, V>, error: Error, outcome: LoadOutcome) {
        self.metrics.loads.note(outcome, &leader.span);
        if matches!(outcome, LoadOutcome::Error | LoadOutcome::Timeout) {
            self.say_failed(&error);
            self.remember(&mut leader, &error);
        }
        let Some(stale) = self.stale(leader.hash(), leader.key()).await else {
            return leader.land(Err(error), 0, || 0);
        };
        self.metrics.stale_if_error.inc();
        window().await;
        let loaded_at = self.member().clock.now().saturating_sub(stale.age);
        let hash = leader.hash();
        let tags = stale.tags;
        let newest = || {
            if without(Mechanism::StandInToken) {
                return 0;
            }
            self.store
                .newest(hash, tags.as_deref().map_or(&[], |tags| tags))
        };
        let at = (loaded_at, stale.fresh_as_of);
        leader.land_stale(stale.value, at, stale.token, newest);
    }

    /// With its cause, which is the source's own word.
    fn say_failed(&self, error: &Error) {
        let member = self.member();
        if let Some(suppressed) = self.failures.allow(member.clock.now()) {
            let reason = shown(&format!("{error:#}"));
            tracing::warn!(instance = %member.name(), cache = self.name, suppressed, reason, "a load failed");
        }
    }

    fn remember(&self, leader: &mut Leader<K, V>, error: &Error) {
        let time = nanos(self.options.error_ttl);
        let Some(token) = leader.token() else { return };
        if time == 0 || !leader.remembers() || length(leader.key()) > LONGEST {
            return;
        }
        let now = self.member().clock.now();
        leader.remember(Failure {
            key: leader.key().clone(),
            token,
            error: error.clone(),
            failed_at: now,
            until: now.saturating_add(time),
        });
    }

    /// The answer of a read whose source has just failed.
    pub(super) async fn after_failure<Q>(
        &self,
        hash: u64,
        key: &Q,
        error: Error,
    ) -> Result<Lookup<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        match self.stale(hash, key).await {
            Some(stale) => {
                self.metrics.stale_if_error.inc();
                Ok(stale.into())
            }
            None => Err(error),
        }
    }

    /// Waits for a load; when it has taken `stale_if_slow`, or follows one that failed, an expired entry
    /// answers. So does the error of that one where there is no entry: the read that leads the new load waits
    /// for it as long, and those that join it do not.
    pub(super) async fn wait_for_load<Q>(
        &self,
        hash: u64,
        key: &Q,
        waiter: &mut Waiter<V>,
    ) -> Waited<V>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let last = waiter.last.take();
        let slow = self.options.stale_if_slow;
        let slow = slow.filter(|_| last.is_some() || self.options.stale_if_error.is_some());
        let Some(slow) = slow else {
            return Waited::Landed(waiter.landing().await);
        };
        let slow = waiter.made + slow;
        // If the loads of other keys are slow too, each key would otherwise have its own wait.
        let at_once = last.is_some() || self.source_hangs.load(Relaxed);
        let until = if at_once { waiter.made } else { slow };
        if let Ok(landing) = timeout_at(until, waiter.landing()).await {
            return Waited::Landed(landing);
        }
        if !at_once {
            self.source_hangs.store(true, Relaxed);
        }
        if let Some(stale) = self.stale(hash, key).await {
            self.metrics.stale_if_slow.inc();
            return Waited::Answered(Ok(stale.into()));
        }
        let Some(error) = last else {
            return Waited::Landed(waiter.landing().await);
        };
        let until = if waiter.leads { slow } else { until };
        match timeout_at(until, waiter.landing()).await {
            Ok(landing) => Waited::Landed(landing),
            Err(_) => Waited::Answered(Err(error)),
        }
    }

    /// An entry that is past its TTL, if a verification, which is waited for, proves it fresh otherwise: an
    /// idle instance verifies too seldom for any moment.
    async fn stale<Q>(&self, hash: u64, key: &Q) -> Option<Stale<V>>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let window = nanos(self.options.stale_if_error?);
        let member = self.member();
        let look = || {
            // Before the entry is looked up: what is invalidated later is above it.
            let token = member.stamps.token();
            match self.store.past_ttl(hash, key, window) {
                PastTtl::Value {
                    value,
                    tags,
                    age,
                    fresh_as_of,
                } => Some(Some(Stale {
                    value,
                    tags,
                    age,
                    fresh_as_of,
                    token,
                })),
                PastTtl::Unverified => None,
                PastTtl::Nothing => Some(None),
            }
        };
        // After one wait without a verification the lane counts as down: the next load, of a batch for
        // example, does not wait.
        member.wait_verified(hash, look).await.ok().flatten()
    }
}

impl<V> From<Stale<V>> for Lookup<V> {
    fn from(stale: Stale<V>) -> Self {
        Self::new(Some(stale.value), Outcome::Stale, stale.age)
    }
}
