//! Many keys at once: one call of the batch loader for all that are missing.

use crate::cache::Cache;
use crate::cache::flight::{Joined, Leader, Waiter};
use crate::cache::lookup::{Lookup, Outcome, Preload};
use crate::cache::nested;
use crate::cache::read::{Began, outcome_of};
use crate::cache::stand_in::Waited;
use crate::key::reference::KeyRef;
use crate::key::too_long;
use crate::metrics::Miss;
use crate::{Error, Key};

/// Keys a warm-up asks the batch loader for in one call.
const PRELOAD_BATCH: usize = 1_000;

/// Keys beyond the capacity that a warm-up counts: the list may have no end.
const COUNTED: usize = 1_000_000;

/// What became of each key of a call, in its order.
type Results<V> = Vec<Result<Option<V>, Error>>;

impl<K, V> Cache<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns many values at once, in the order of the keys; `None` for what does not exist. All keys that
    /// memory cannot answer go to the batch loader in one call, or to the loader key by key if there is no
    /// batch loader.
    ///
    /// It takes keys or their reference forms, by value or by reference: `get_many(&ids)`, `get_many([1, 2])`,
    /// `get_many(["a", "b"])`.
    ///
    /// Where [`unknown_loads`](crate::CacheBuilder::unknown_loads) limits loads of unknown keys, one call of
    /// the batch loader begins like one load, and then counts as one load for each key that it did not find. If
    /// it may not begin, its unknown keys fail with `Limited`; the others are loaded.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), unstale::Error> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// let squares = instance
    ///     .cache::<u64, u64>("squares")
    ///     .batch_loader(|ns: Vec<u64>| async move { Ok(ns.into_iter().map(|n| (n, n * n)).collect::<Vec<_>>()) })
    ///     .build()?;
    /// assert_eq!(squares.get_many([3, 4]).await?, [Some(9), Some(16)]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get): the first error of any key. The other keys are loaded and stored all the same.
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    #[doc(alias = "get_all")]
    pub async fn get_many<I>(&self, keys: I) -> Result<Vec<Option<V>>, Error>
    where
        I: IntoIterator,
        I::Item: KeyRef<K>,
    {
        let keys: Vec<I::Item> = keys.into_iter().collect();
        self.0
            .entered(self.results(&keys))
            .await?
            .into_iter()
            .collect()
    }

    async fn results<Q: KeyRef<K>>(&self, keys: &[Q]) -> Result<Results<V>, Error> {
        let hashes: Option<Vec<u64>> = keys.iter().map(Key::digest).collect();
        let hashes = hashes.ok_or_else(too_long)?;
        let began = self.0.member().clock.precise();
        let all: Vec<usize> = (0..keys.len()).collect();
        let mut results: Vec<_> = self.pass(keys, &hashes, &all).await;
        // As `CacheState::confirm`: what may have been created meanwhile is asked for again, in one pass.
        let mut again = Vec::new();
        for (index, result) in results.iter_mut().enumerate() {
            let Ok(found) = result else { continue };
            if self.0.is_to_be_confirmed(found) {
                match self.0.held_as_of(hashes[index], &keys[index], began).await {
                    Some(hit) => *found = hit.into(),
                    None => again.push(index),
                }
            }
        }
        if !again.is_empty() {
            for (index, result) in again.iter().zip(self.pass(keys, &hashes, &again).await) {
                results[*index] = result;
            }
        }
        let values = results.into_iter();
        Ok(values.map(|found| found.map(|found| found.value)).collect())
    }

    /// Reads the keys of these indices: from memory, or by one call of the batch loader.
    async fn pass<Q: KeyRef<K>>(
        &self,
        keys: &[Q],
        hashes: &[u64],
        indices: &[usize],
    ) -> Vec<Result<Lookup<V>, Error>> {
        let keys: Vec<&Q> = indices.iter().map(|index| &keys[*index]).collect();
        let hashes: Vec<u64> = indices.iter().map(|index| hashes[*index]).collect();
        let began: Vec<Began> = hashes.iter().map(|hash| self.0.began(*hash)).collect();
        let mut found: Vec<Option<Lookup<V>>> = vec![None; keys.len()];
        let mut missing = Vec::new();
        for (index, (key, hash)) in keys.iter().zip(&hashes).enumerate() {
            match self.look(*hash, *key).await {
                Ok(lookup) => found[index] = Some(lookup),
                Err(cause) => missing.push((index, cause)),
            }
        }
        // From here to the departure nothing waits: a call that is dropped leaves no flight that
        // others have joined without its load.
        let mut waiting = Vec::new();
        let mut leaders = Vec::new();
        let mut failed = Vec::new();
        for (index, cause) in missing {
            let (key, hash) = (keys[index], hashes[index]);
            let newest = || self.0.store.newest(hash, &[]);
            let now = Some(self.0.member().clock.now());
            match self.0.flights.join(hash, &key.to_key(), now, newest) {
                Joined::Failed(error) => {
                    self.0.metrics.coalesced.inc();
                    failed.push((index, error));
                }
                Joined::Join(waiter) => {
                    self.0.metrics.coalesced.inc();
                    if nested::is_nested() {
                        self.0.flights.hurry(hash);
                    }
                    waiting.push((index, Outcome::Coalesced, began[index], waiter));
                }
                Joined::Lead(mut leader, waiter) => {
                    if let Some(hit) = self.0.second_look(hash, key) {
                        leader.withdraw();
                        found[index] = Some(hit.into());
                        continue;
                    }
                    leader.span = self.0.miss_of(cause, hash);
                    leaders.push(leader);
                    waiting.push((index, Outcome::Miss, began[index], waiter));
                }
            }
        }
        self.spawn_loads(leaders);
        let mut results: Vec<Option<Result<Lookup<V>, Error>>> =
            found.into_iter().map(|lookup| lookup.map(Ok)).collect();
        for (index, error) in failed {
            let answer = self.0.after_failure(hashes[index], keys[index], error);
            results[index] = Some(answer.await);
        }
        self.wait_for(&keys, &hashes, waiting, &mut results).await;
        let mut answers = Vec::with_capacity(keys.len());
        for (key, result) in keys.into_iter().zip(results) {
            answers.push(match result {
                Some(result) => result,
                None => self.lookup(key).await,
            });
        }
        answers
    }

    /// Starts the loads: one call if there is a batch loader, else one for each key.
    fn spawn_loads(&self, leaders: Vec<Leader<K, V>>) {
        if leaders.is_empty() {
            return;
        }
        let (cache, runtime) = (self.0.clone(), &self.0.member().runtime);
        let waits = nested::current();
        match &self.0.batch_loader {
            Some(load) => drop(runtime.spawn(cache.run_load_of_many(leaders, load.clone(), waits))),
            None => drop(runtime.spawn(cache.run_loads(leaders, waits))),
        }
    }

    async fn look<Q: KeyRef<K>>(&self, hash: u64, key: &Q) -> Result<Lookup<V>, Miss> {
        match self
            .0
            .held(hash, key)
            .map_err(|missing| self.0.cause(missing))
        {
            Ok(hit) => Ok(hit.into()),
            Err(Some(cause)) => Err(cause),
            Err(None) => self.0.verified(hash, key).await,
        }
    }

    /// Waits for the loads. What does not answer this call stays open in `results`.
    async fn wait_for<Q: KeyRef<K>>(
        &self,
        keys: &[&Q],
        hashes: &[u64],
        waiting: Vec<(usize, Outcome, Began, Waiter<V>)>,
        results: &mut [Option<Result<Lookup<V>, Error>>],
    ) {
        for (index, outcome, began, mut waiter) in waiting {
            let waited = self
                .0
                .wait_for_load(hashes[index], keys[index], &mut waiter);
            let landing = match waited.await {
                Waited::Answered(answer) => {
                    results[index] = Some(answer);
                    continue;
                }
                Waited::Landed(landing) => landing,
            };
            let answers = landing.filter(|landing| self.0.answers(began, landing));
            results[index] = answers.map(|landing| {
                let now = self.0.member().clock.now();
                let age = now.saturating_sub(landing.loaded_at);
                landing
                    .result
                    .map(|value| Lookup::new(value, outcome_of(outcome, landing.from), age))
            });
        }
    }

    /// Loads these keys, at most `capacity` of them, and returns how many are in memory afterwards,
    /// those known not to exist included, how many failed, and how many did not fit.
    ///
    /// A load that fails does not stop the others; see [`Preload::error`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), unstale::Error> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// let names = instance
    ///     .cache::<u64, String>("names")
    ///     .loader(|id: u64| async move { Ok(format!("user {id}")) })
    ///     .build()?;
    /// let warm = names.preload(0..100).await;
    /// assert_eq!((warm.held, warm.failed, warm.did_not_fit), (100, 0, 0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops no batch that has begun: its values are stored. No further batch begins.
    pub async fn preload<I>(&self, keys: I) -> Preload
    where
        I: IntoIterator,
        I::Item: KeyRef<K>,
    {
        let mut keys = keys.into_iter();
        let fit: Vec<I::Item> = keys.by_ref().take(self.0.options.capacity).collect();
        let mut preload = Preload {
            did_not_fit: keys.take(COUNTED).count(),
            ..Preload::default()
        };
        // A key that cannot be encoded fails alone, not with its batch.
        let (keys, refused): (Vec<_>, Vec<_>) =
            fit.into_iter().partition(|key| key.digest().is_some());
        preload.note_failures(refused.iter().map(|_| too_long()));
        // Whole rounds of loads: the last one of a batch would else leave places free.
        let batch = match &self.0.batch_loader {
            Some(_) => PRELOAD_BATCH,
            None => PRELOAD_BATCH.next_multiple_of(self.0.options.max_loads),
        };
        for batch in keys.chunks(batch) {
            let results = self.0.entered(self.results(batch)).await;
            match results {
                Ok(results) => preload.note_failures(results.into_iter().filter_map(Result::err)),
                Err(error) => preload.note_failures(batch.iter().map(|_| error.clone())),
            }
        }
        let held = |key: &&I::Item| {
            let hash = key.digest();
            hash.is_some_and(|hash| self.0.store.lookup(hash, *key).is_ok())
        };
        preload.held = keys.iter().filter(held).count();
        let loaded = keys.len() + refused.len() - preload.failed;
        preload.did_not_fit += loaded.saturating_sub(preload.held);
        preload
    }
}
