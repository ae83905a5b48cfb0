//! Many keys at once: one call of the batch loader for all that are missing.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cache::inner::{Began, Inner};
use crate::cache::load::{InFlight, Landed, length};
use crate::cache::tier::{Read, Ticket, Turn, Wanted};
use crate::cache::unknown::Admitted;
use crate::cache::{Cache, Lookup, Outcome};
use crate::flight::{Boarding, Leader, Passenger};
use crate::key::too_long;
use crate::loader::{BatchLoader, Loaded};
use crate::metrics::{LoadOutcome, Miss};
use crate::store::Found;
use crate::time::Nanos;
use crate::{Error, ErrorKind, Key};

/// Values of one batch that are fetched from the shared tier, or stored there, at once.
const TIER_CALLS: usize = 32;

/// Keys a warm-up asks the batch loader for in one call.
const PRELOAD_BATCH: usize = 1_000;

impl<K, V> Cache<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Many values at once, in the order asked; `None` for what does not exist. All that is missing
    /// goes to the batch loader in one call, or to the loader key by key where there is none.
    ///
    /// Where [`unknown_loads`](crate::CacheBuilder::unknown_loads) limits loads of unknown keys, one
    /// call of the batch loader begins like one load, and costs as many as it has found nothing
    /// for. If it may not begin, its unknown keys fail with `Overloaded`; the others are loaded.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get): the first error of any key. The others are loaded and stored all the
    /// same.
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn get_many(&self, keys: &[K]) -> Result<Vec<Option<V>>, Error> {
        let hashes: Option<Vec<u64>> = keys.iter().map(Key::digest).collect();
        let hashes = hashes.ok_or_else(too_long)?;
        let mut values = vec![None; keys.len()];
        let began: Vec<Began> = hashes.iter().map(|hash| self.0.began(*hash)).collect();
        let mut missing = Vec::new();
        for (index, (key, hash)) in keys.iter().zip(hashes).enumerate() {
            match self.look(hash, key).await {
                Ok(lookup) => values[index] = lookup.value,
                Err(cause) => missing.push((index, hash, cause)),
            }
        }
        // From here to the departure nothing waits: a call that is dropped leaves no flight that
        // others have joined without its load.
        let mut waiting = Vec::new();
        let mut leaders = Vec::new();
        for (index, hash, cause) in missing {
            let key = &keys[index];
            let newest = || self.0.store.newest(hash, &[]);
            match self.0.flights.board(hash, key, newest) {
                Boarding::Join(passenger) => {
                    self.0.metrics.coalesced.inc();
                    waiting.push((index, began[index], passenger));
                }
                Boarding::Lead(leader, passenger) => {
                    if let Some(hit) = self.0.second_look(hash, key) {
                        leader.withdraw();
                        values[index] = Lookup::from(hit).value;
                        continue;
                    }
                    self.0.metrics.misses[cause].inc();
                    leaders.push(leader);
                    waiting.push((index, began[index], passenger));
                }
            }
        }
        self.depart(leaders);
        self.land_many(keys, waiting, &mut values).await?;
        Ok(values)
    }

    /// Starts the loads: one call if there is a batch loader, else one for each key.
    fn depart(&self, leaders: Vec<Leader<K, V>>) {
        if let Some(load) = &self.0.batch_loader {
            if !leaders.is_empty() {
                let runtime = &self.0.core().runtime;
                runtime.spawn(self.0.clone().fly_many(leaders, load.clone()));
            }
            return;
        }
        for leader in leaders {
            match self.0.load_of(leader.key()) {
                Ok(load) => self.0.depart(leader, load, Wanted::ValueOfMany),
                Err(error) => leader.land(Err(error), 0, || 0),
            }
        }
    }

    async fn look(&self, hash: u64, key: &K) -> Result<Lookup<V>, Miss> {
        match self
            .0
            .hit(hash, key)
            .map_err(|missing| self.0.cause(&missing))
        {
            Ok(hit) => Ok(hit.into()),
            Err(Some(cause)) => Err(cause),
            Err(None) => self.0.verified(hash, key).await,
        }
    }

    async fn land_many(
        &self,
        keys: &[K],
        waiting: Vec<(usize, Began, Passenger<V>)>,
        values: &mut [Option<V>],
    ) -> Result<(), Error> {
        let mut failed = None;
        for (index, began, passenger) in waiting {
            let landing = passenger.landing().await;
            let result = match landing.filter(|landing| self.0.answers(began, landing)) {
                Some(landing) => landing.result,
                None => self.get(&keys[index]).await,
            };
            match result {
                Ok(value) => values[index] = value,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Loads these keys, at most `capacity` of them, and says how many are in memory afterwards,
    /// those known not to exist included.
    ///
    /// # Errors
    ///
    /// As [`get_many`](Self::get_many); what was loaded before the error stays.
    ///
    /// # Cancel safety
    ///
    /// Batches that have begun are stored all the same; later ones are not begun.
    pub async fn preload(&self, keys: impl IntoIterator<Item = K>) -> Result<usize, Error> {
        let keys: Vec<K> = keys.into_iter().take(self.0.options.capacity).collect();
        for batch in keys.chunks(PRELOAD_BATCH) {
            self.get_many(batch).await?;
        }
        let held = |key: &&K| {
            let hash = key.digest();
            hash.is_some_and(|hash| {
                let found = self.0.store.lookup(hash, *key);
                matches!(found, Found::Value { .. } | Found::Absent { .. })
            })
        };
        Ok(keys.iter().filter(held).count())
    }
}

impl<K, V> Inner<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// One load for many flights; counts as one of `max_loads`.
    async fn fly_many(self: Arc<Self>, leaders: Vec<Leader<K, V>>, load: Arc<BatchLoader<K, V>>) {
        let (leaders, tickets) = self.land_what_is_shared(leaders).await;
        if leaders.is_empty() {
            return;
        }
        let Admitted {
            leaders,
            known,
            loan,
        } = self.admit_many(leaders).await;
        if leaders.is_empty() {
            return;
        }
        let keys = || leaders.iter().map(|leader| length(leader.key())).sum();
        let permit = match self.permit(keys).await {
            Ok(permit) => permit,
            Err(error) => {
                self.settle_many(loan, 0);
                return self
                    .fail_many(leaders, &error, LoadOutcome::Overloaded)
                    .await;
            }
        };
        let (token, loaded_at) = self.begin(&leaders);
        let running = InFlight::new(&self);
        let keys = leaders.iter().map(|leader| leader.key().clone()).collect();
        let result = timeout(self.options.load_timeout, load(keys)).await;
        drop((permit, running));
        let pairs = match result {
            Ok(Ok(pairs)) => pairs,
            Ok(Err(error)) => {
                let error = Error::with_source(ErrorKind::Load, "the batch loader failed", error);
                return self.fail_many(leaders, &error, LoadOutcome::Error).await;
            }
            Err(_) => {
                return self
                    .fail_many(leaders, &self.timed_out(), LoadOutcome::Timeout)
                    .await;
            }
        };
        let mut loaded: HashMap<u64, Vec<(K, Loaded<V>)>> = HashMap::new();
        for (key, value) in pairs {
            if let Some(hash) = key.digest() {
                loaded.entry(hash).or_default().push((key, value));
            }
        }
        let mut take = |leader: &Leader<K, V>| {
            let same_hash = loaded.get_mut(&leader.hash())?;
            let index = same_hash.iter().position(|(key, _)| key == leader.key())?;
            Some(same_hash.swap_remove(index).1)
        };
        let landing: Vec<_> = leaders
            .into_iter()
            .map(|leader| {
                let value = take(&leader).unwrap_or_else(|| Loaded::new(None));
                (leader, value)
            })
            .collect();
        let absent = landing.iter().skip(known);
        let absent = absent.filter(|(_, loaded)| loaded.value.is_none()).count();
        self.settle_many(loan, absent);
        self.land_batch(landing, tickets, token, loaded_at).await;
    }

    /// Lands every flight of a batch, and stores in the shared tier what still counts.
    async fn land_batch(
        self: &Arc<Self>,
        landing: Vec<(Leader<K, V>, Loaded<V>)>,
        mut tickets: HashMap<u64, Ticket>,
        token: u64,
        loaded_at: Nanos,
    ) {
        let mut writes = JoinSet::new();
        for (leader, value) in landing {
            let shared = tickets
                .remove(&leader.hash())
                .map(|ticket| (ticket, leader.key().clone(), value.clone()));
            let landed = self.land(leader, value, token, loaded_at).await;
            if let (Landed::Valid, Some((ticket, key, value))) = (landed, shared) {
                if writes.len() >= TIER_CALLS {
                    writes.join_next().await;
                }
                let cache = self.clone();
                writes.spawn(async move {
                    if let Some(tier) = &cache.tier {
                        tier.write(&cache, &key, ticket, value).await;
                    }
                });
            }
        }
        while writes.join_next().await.is_some() {}
    }

    /// Lands what the shared tier has; returns the others, with what it takes to store them.
    async fn land_what_is_shared(
        self: &Arc<Self>,
        leaders: Vec<Leader<K, V>>,
    ) -> (Vec<Leader<K, V>>, HashMap<u64, Ticket>) {
        if self.tier.is_none() {
            return (leaders, HashMap::new());
        }
        let (mut missing, mut tickets) = (Vec::new(), HashMap::new());
        let mut reads = JoinSet::new();
        let mut leaders = leaders.into_iter();
        loop {
            while reads.len() < TIER_CALLS
                && let Some(leader) = leaders.next()
            {
                let cache = self.clone();
                reads.spawn(async move {
                    let read = match &cache.tier {
                        Some(tier) => {
                            let wanted = Wanted::ValueOfMany;
                            tier.read(&cache, &leader, wanted, Turn::Came).await
                        }
                        None => Read::Load(None),
                    };
                    (leader, read)
                });
            }
            match reads.join_next().await {
                None => return (missing, tickets),
                Some(Ok((leader, Read::Found(arrived)))) => self.land_shared(leader, arrived),
                Some(Ok((leader, Read::Load(ticket)))) => {
                    tickets.extend(ticket.map(|ticket| (leader.hash(), ticket)));
                    missing.push(leader);
                }
                Some(Ok((leader, Read::Wait(_)))) => missing.push(leader),
                // It panicked or its runtime is gone; its leader has told whoever waits.
                Some(Err(_)) => {}
            }
        }
    }

    pub(super) async fn fail_many(
        &self,
        leaders: Vec<Leader<K, V>>,
        error: &Error,
        outcome: LoadOutcome,
    ) {
        for leader in leaders {
            self.fail(leader, error.clone(), outcome).await;
        }
    }
}

impl<V> Lookup<V> {
    /// Whether it came from memory.
    #[must_use]
    pub fn is_hit(&self) -> bool {
        matches!(self.outcome, Outcome::Hit | Outcome::Negative)
    }
}
