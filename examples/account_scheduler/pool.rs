//! The accounts that one gateway may choose from: what a service would keep of this program.
//!
//! - In memory, and in Redis for the gateways beside it: what choosing needs.
//! - In memory only, for the accounts in use: their tokens.
//! - Nowhere but in the database: when an account was last used.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use unstale::{BoxError, Cache, Instance, SharedTier};

use super::account::{Account, Scheduling};
use super::database::Database;

/// How long an account lives in Redis. Memory is renewed from there every minute (the cache's TTL),
/// the database is asked again after this.
const IN_REDIS: Duration = Duration::from_secs(600);

/// See the module's documentation.
pub(crate) struct Pool {
    instance: Instance,
    database: Database,
    accounts: Cache<u64, Arc<Account>>,
    whole: Cache<u64, Arc<Account>>,
    /// By platform: its accounts.
    rosters: Cache<String, Arc<[u64]>>,
    /// Accounts that are equally good take turns.
    turn: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(instance: &Instance, database: &Database) -> Result<Self, unstale::Error> {
        let source = database.clone();
        let accounts = instance
            .cache("accounts")
            .tier(shared())
            .batch_loader(move |ids| {
                let source = source.clone();
                async move { Ok(source.accounts(ids).await?) }
            })
            .build()?;
        let source = database.clone();
        let whole = instance
            .cache("accounts_in_use")
            .capacity(200)
            .loader(move |id| {
                let source = source.clone();
                async move { Ok(source.account(id).await?) }
            })
            .build()?;
        let source = database.clone();
        let rosters = instance
            .cache("rosters")
            .loader(move |platform| {
                let source = source.clone();
                async move { Ok(source.ids(platform).await?) }
            })
            .build()?;
        Ok(Self {
            instance: instance.clone(),
            database: database.clone(),
            accounts,
            whole,
            rosters,
            turn: AtomicUsize::new(0),
        })
    }

    /// An account for a request: of those that serve the model one with the best priority.
    pub(crate) async fn choose(
        &self,
        platform: &str,
        model: &str,
        now: u64,
    ) -> Result<Option<Arc<Account>>, unstale::Error> {
        let ids = self.rosters.get(platform).await?.unwrap_or_default();
        let accounts = self.accounts.get_many(ids.iter()).await?;
        let serves = |account: &Arc<Account>| account.scheduling.serves(model, now);
        let able: Vec<_> = accounts.into_iter().flatten().filter(serves).collect();
        let best = able.iter().map(|account| account.scheduling.priority).min();
        let best = able
            .into_iter()
            .filter(|account| Some(account.scheduling.priority) == best);
        let mut best: Vec<_> = best.collect();
        if best.is_empty() {
            return Ok(None);
        }
        let turn = self.turn.fetch_add(1, Relaxed) % best.len();
        Ok(Some(best.swap_remove(turn)))
    }

    /// One account, as far as choosing it goes.
    pub(crate) async fn account(&self, id: u64) -> Result<Option<Arc<Account>>, unstale::Error> {
        self.accounts.get(&id).await
    }

    /// The account with its tokens, which the one request that was chosen for it needs.
    pub(crate) async fn with_tokens(
        &self,
        account: Arc<Account>,
    ) -> Result<Option<Arc<Account>>, unstale::Error> {
        if account.tokens.is_some() {
            return Ok(Some(account));
        }
        self.whole.get(&account.scheduling.id).await
    }

    /// Notes that accounts were used. Nothing that is cached has changed, so nothing is published.
    pub(crate) async fn used(&self, ids: BTreeSet<u64>, now: u64) -> Result<(), BoxError> {
        Ok(self.database.used(ids, now).await?)
    }

    /// Stores accounts, and tells the other gateways which have changed: none as a rule, if they come
    /// from a rebuild of everything. Returns how many.
    pub(crate) async fn put(&self, accounts: Vec<Account>) -> Result<usize, BoxError> {
        let different = self.database.different(accounts).await?;
        if different.is_empty() {
            return Ok(0);
        }
        let (count, mut batch) = (different.len(), self.instance.batch());
        let mut platforms = BTreeSet::new();
        for account in &different {
            let Scheduling { id, platform, .. } = &account.scheduling;
            batch = batch.key(&self.accounts, id).key(&self.whole, id);
            platforms.insert(platform);
        }
        for platform in platforms {
            batch = batch.key(&self.rosters, platform);
        }
        // Announced before the commit: if this process dies in between, the others still hear of it.
        batch.write(self.database.put(different)).await?;
        Ok(count)
    }

    /// Makes every gateway read these accounts again: after a change by hand, for example.
    pub(crate) async fn forget(&self, ids: &[u64]) -> Result<(), unstale::Error> {
        self.accounts.invalidate_many(ids).await?;
        Ok(())
    }

    /// Reads these accounts into memory. Returns how many exist.
    pub(crate) async fn warm_up(&self, ids: &[u64]) -> Result<usize, unstale::Error> {
        let accounts = self.accounts.get_many(ids).await?;
        Ok(accounts.iter().flatten().count())
    }
}

/// How accounts live in Redis. An account that is loaded keeps its tokens in the memory of the gateway that loaded
/// it; the others find it without.
fn shared() -> SharedTier<Arc<Account>> {
    SharedTier::projection(
        |account: &Arc<Account>| account.scheduling.clone(),
        |scheduling| {
            Arc::new(Account {
                scheduling,
                tokens: None,
            })
        },
    )
    .whole_where_loaded()
    .version(1) // another number whenever `Scheduling` changes
    .ttl(IN_REDIS)
}
