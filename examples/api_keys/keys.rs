//! API keys: they identify callers, on every instance, from the moment a key is created until it is revoked.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use unstale::{Cache, CacheBuilder, Error, Instance, WriteError};

use super::database::{self, Account, Database};

/// Keys of one instance's memory: more than there are, at about 300 bytes each.
const CAPACITY: u32 = 100_000;

/// Checks keys from memory. Clones share everything.
///
/// Neither the cache nor the database ever sees a key, only its digest.
#[derive(Clone)]
pub(crate) struct ApiKeys {
    keys: Cache<String, Arc<Account>>,
    database: Database,
}

/// What a write that went wrong has left behind.
pub(crate) type Refused<T> = WriteError<T, database::Error>;

impl ApiKeys {
    pub(crate) fn new(instance: &Instance, database: Database) -> Result<Self, Error> {
        let (one, many) = (database.clone(), database.clone());
        let keys: CacheBuilder<String, Arc<Account>> = instance
            .cache("api_keys")
            .loader(move |digest| {
                let database = one.clone();
                async move { Ok(database.find(digest).await?) }
            })
            .batch_loader(move |digests| {
                let database = many.clone();
                async move { Ok(database.find_many(digests).await?) }
            });
        let keys = keys
            .capacity(CAPACITY as usize)
            // Long, since every change of a key is published.
            .ttl(Duration::from_secs(600))
            // While the database is away, keys that were good stay good; never after a revocation.
            .stale_if_error(Duration::from_secs(3_600))
            // One bad key, sent again and again, costs a query a minute.
            .negative_ttl(Duration::from_secs(60))
            // Made-up keys, each sent once, cost the database fifty queries a second.
            .unknown_loads(50)
            // A key that another instance has just created is no bad key.
            .confirm_absent(true)
            .build()?;
        Ok(Self { keys, database })
    }

    /// Loads all keys at once, before the first request comes.
    pub(crate) async fn warm_up(&self) -> Result<usize, unstale::BoxError> {
        let all = self.database.all(CAPACITY).await?;
        let warm = self.keys.preload(all).await;
        warm.error.map_or(Ok(warm.held), |error| Err(error.into()))
    }

    /// Returns the owner of this key; `None` if it has none. An error says that this is not known, and is no
    /// reason to refuse the key.
    pub(crate) async fn authenticate(&self, key: &str) -> Result<Option<Arc<Account>>, Error> {
        self.keys.get(&digest(key)).await
    }

    /// Makes a new key, which works on every instance from now on. This is the only time that
    /// it is shown.
    pub(crate) async fn create(&self, owner: &str) -> Result<String, Refused<()>> {
        let key = random();
        self.register(&key, owner).await?;
        Ok(key)
    }

    /// As [`create`](Self::create), with a key that the caller brings along, and may have tried before.
    pub(crate) async fn register(&self, key: &str, owner: &str) -> Result<(), Refused<()>> {
        let digest = digest(key);
        let commit = self.database.insert(digest.clone(), owner.to_owned());
        self.keys.write(&digest, commit).await
    }

    /// Ends a key on every instance. Returns whether there was one.
    pub(crate) async fn revoke(&self, key: &str) -> Result<bool, Refused<bool>> {
        let digest = digest(key);
        let commit = self.database.delete(digest.clone());
        self.keys.write(&digest, commit).await
    }
}

/// 192 random bits in hexadecimal, from the operating system.
fn random() -> String {
    let mut bytes = [0; 24];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("the system has random numbers");
    bytes.iter().fold("sk-".to_owned(), |mut key, byte| {
        let _ = write!(key, "{byte:02x}");
        key
    })
}

/// Keys are random, so a plain hash cannot be guessed back.
fn digest(key: &str) -> String {
    blake3::hash(key.as_bytes()).to_hex().to_string()
}
