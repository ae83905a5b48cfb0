//! One load of many keys: what the batch loader is asked for in one call.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::SemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Instrument;

use crate::cache::bucket::Loan;
use crate::cache::flight::{Leader, Wanted};
use crate::cache::from_tier::{FromTier, Ticket};
use crate::cache::load::{InFlight, Landed, length};
use crate::cache::nested::{self, Chain};
use crate::cache::state::CacheState;
use crate::loader::{Answers, BatchLoader, Loaded};
use crate::metrics::LoadOutcome;
use crate::spans;
use crate::time::Nanos;
use crate::{BoxError, Error, Key};

/// Values of one batch that are fetched from the shared tier, or stored there, at once.
const TIER_CALLS: usize = 32;

/// What a batch may load.
struct Admitted<'a, K, V> {
    /// First those whose keys are known.
    leaders: Vec<Leader<K, V>>,
    known: usize,
    loan: Option<Loan<'a>>,
}

impl<K, V> Admitted<'_, K, V> {
    /// Nothing of it is limited.
    fn known(leaders: Vec<Leader<K, V>>) -> Self {
        let (known, loan) = (leaders.len(), None);
        Self {
            leaders,
            known,
            loan,
        }
    }
}

type Answered<K, V> = (Leader<K, V>, Result<Loaded<V>, BoxError>);

/// What a batch loader says of each flight's key: a key left out does not exist.
fn answers_of<K: Key, V>(leaders: Vec<Leader<K, V>>, pairs: Answers<K, V>) -> Vec<Answered<K, V>> {
    let mut answers: HashMap<u64, Vec<_>> = HashMap::new();
    for (key, answer) in pairs {
        if let Some(hash) = key.digest() {
            answers.entry(hash).or_default().push((key, answer));
        }
    }
    let mut take = |leader: &Leader<K, V>| {
        let same_hash = answers.get_mut(&leader.hash())?;
        let index = same_hash.iter().position(|(key, _)| key == leader.key())?;
        Some(same_hash.swap_remove(index).1)
    };
    let answered = leaders.into_iter().map(|leader| {
        let answer = take(&leader).unwrap_or_else(|| Ok(Loaded::new(None)));
        (leader, answer)
    });
    answered.collect()
}

impl<K, V> CacheState<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// One load for many flights; counts as one of `max_loads`.
    pub(crate) async fn run_load_of_many(
        self: Arc<Self>,
        leaders: Vec<Leader<K, V>>,
        load: Arc<BatchLoader<K, V>>,
        waits: Option<Chain>,
    ) {
        let (leaders, tickets) = if self.has_tier {
            self.complete_many_from_tier(leaders).await
        } else {
            (leaders, HashMap::new())
        };
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
        let permit = match self.place_for_many(&leaders, waits.is_some()).await {
            Ok(permit) => permit,
            Err(error) => {
                self.admission.settle(loan, 0);
                return self
                    .fail_many(leaders, &error, LoadOutcome::Overloaded)
                    .await;
            }
        };
        let (token, loaded_at) = self.begin(&leaders);
        let span = spans::load_batch(&self.name, leaders.len());
        let running = InFlight::new(&self, span.clone());
        let keys = leaders.iter().map(|leader| leader.key().clone()).collect();
        let hashes = leaders.iter().map(Leader::hash).collect();
        let load = nested::within(load(keys), (self.id, hashes), waits);
        let load = timeout(self.options.load_timeout, load);
        let result = load.instrument(span).await;
        drop((permit, running));
        let pairs = match result {
            Ok(Ok(pairs)) => pairs,
            Ok(Err(error)) => {
                let error = self.load_failed(error);
                return self.fail_many(leaders, &error, LoadOutcome::Error).await;
            }
            Err(_) => {
                return self
                    .fail_many(leaders, &self.timed_out(), LoadOutcome::Timeout)
                    .await;
            }
        };
        let answers = answers_of(leaders, pairs);
        // A key that has failed costs as one that was not found.
        let found =
            |answer: &Result<Loaded<V>, _>| answer.as_ref().is_ok_and(|it| it.value.is_some());
        let absent = answers.iter().skip(known);
        let absent = absent.filter(|(_, answer)| !found(answer)).count();
        self.admission.settle(loan, absent);
        let mut landing = Vec::with_capacity(answers.len());
        for (leader, answer) in answers {
            match answer {
                Ok(loaded) => landing.push((leader, loaded)),
                Err(error) => {
                    let error = self.load_failed(error);
                    self.fail(leader, error, LoadOutcome::Error).await;
                }
            }
        }
        self.land_batch(landing, tickets, token, loaded_at).await;
    }

    async fn place_for_many(
        &self,
        leaders: &[Leader<K, V>],
        nested: bool,
    ) -> Result<Option<SemaphorePermit<'_>>, Error> {
        if nested {
            return Ok(None);
        }
        let keys = || leaders.iter().map(|leader| length(leader.key())).sum();
        self.admission.permit(keys).await.map(Some)
    }

    /// One load for each flight, at most as many at once as may run: none waits behind its own batch.
    pub(crate) async fn run_loads(
        self: Arc<Self>,
        leaders: Vec<Leader<K, V>>,
        waits: Option<Chain>,
    ) {
        let mut running = JoinSet::new();
        for leader in leaders {
            if running.len() >= self.options.max_loads {
                running.join_next().await;
            }
            match self.load_of(leader.key()) {
                Ok(load) => {
                    let (cache, waits) = (self.clone(), waits.clone());
                    let span = leader.span.clone();
                    let load = cache.run_load(leader, load, Wanted::ValueOfMany, None, waits);
                    running.spawn(load.instrument(span));
                }
                Err(error) => leader.land(Err(error), 0, || 0),
            }
        }
        while running.join_next().await.is_some() {}
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
                writes.spawn(async move { cache.store_in_tier(&key, ticket, &value).await });
            }
        }
        while writes.join_next().await.is_some() {}
    }

    /// Completes the loads whose values the shared tier has; returns the others, with what it takes to
    /// store their values.
    async fn complete_many_from_tier(
        self: &Arc<Self>,
        leaders: Vec<Leader<K, V>>,
    ) -> (Vec<Leader<K, V>>, HashMap<u64, Ticket>) {
        let (mut missing, mut tickets) = (Vec::new(), HashMap::new());
        let mut reads = JoinSet::new();
        let mut leaders = leaders.into_iter();
        loop {
            while reads.len() < TIER_CALLS
                && let Some(leader) = leaders.next()
            {
                let cache = self.clone();
                reads.spawn(async move {
                    let found = cache.ask_tier(&leader, Wanted::ValueOfMany, None).await;
                    (leader, found)
                });
            }
            match reads.join_next().await {
                None => return (missing, tickets),
                Some(Ok((leader, FromTier::Found(found)))) => {
                    self.complete_from_tier(leader, found)
                }
                Some(Ok((leader, FromTier::Load(ticket)))) => {
                    tickets.extend(ticket.map(|ticket| (leader.hash(), ticket)));
                    missing.push(leader);
                }
                // It panicked or its runtime is gone; its leader has notified the reads that wait.
                Some(Err(_)) => {}
            }
        }
    }

    /// Before a batch begins: it borrows one token for all its unknown keys and
    /// pays for those it does not find once it has landed. Without a token they are refused, and
    /// the others are loaded.
    async fn admit_many(&self, leaders: Vec<Leader<K, V>>) -> Admitted<'_, K, V> {
        if !self.admission.limits_unknown() {
            return Admitted::known(leaders);
        }
        let (mut leaders, unknown): (Vec<_>, Vec<_>) = leaders
            .into_iter()
            .partition(|leader| self.store.is_known(leader.hash(), leader.key()));
        if unknown.is_empty() {
            return Admitted::known(leaders);
        }
        let keys = unknown.iter().map(|leader| length(leader.key())).sum();
        match self.admission.lend(keys).await {
            Ok(loan) => {
                let known = leaders.len();
                leaders.extend(unknown);
                Admitted {
                    leaders,
                    known,
                    loan,
                }
            }
            Err(error) => {
                self.fail_many(unknown, &error, LoadOutcome::Limited).await;
                Admitted::known(leaders)
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
