//! What one gateway in front of dashboards knows of sessions and tokens: what a service would keep
//! of this program.
//!
//! Each kind of thing has a cache of its own, with its own size and TTL; operators change them by
//! `UNSTALE_CACHES__<NAME>__TTL` and so on. What is expensive to fetch is in Redis for the whole fleet.
//! Redis holds live tokens for a few seconds: it must be as well guarded as the provider.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use unstale::{
    BoxError, Cache, Error, Instance, Loaded, Lookup, Settings, SharedTier, WriteError, WritePolicy,
};

use super::database::{Database, Session};
use super::provider::{Introspection, Metadata, Provider, Tokens};

/// How long the outcome of a refresh is shared: as long as the panels of a dashboard may come with
/// the old token.
const REFRESHED: Duration = Duration::from_secs(5);

/// Longest wait for another gateway's refresh. A second refresh of a rotated token is refused by the
/// provider, so this is longer than any refresh takes (`load_timeout`, 5 s).
const REFRESH_WAIT: Duration = Duration::from_secs(6);

/// Longest wait for another gateway's answer to the same question, before it is asked once more.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// The caches by what they hold.
pub(crate) struct Sessions {
    /// By refresh token: what it was exchanged for.
    refreshes: Cache<String, Arc<Tokens>>,
    /// By access token: when and whether it was found genuine.
    tokens: Cache<String, bool>,
    /// By the id of a token: whether it is revoked.
    blacklist: Cache<String, bool>,
    introspections: Cache<String, Introspection>,
    sessions: Cache<String, Session>,
    metadata: Cache<String, Metadata>,
    keys: Cache<String, Arc<[u8]>>,
    database: Database,
}

/// Whether every gateway knows of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notified {
    All,
    /// They will as soon as Redis is back; none accepts the token longer than `max_staleness` after it
    /// was last in touch.
    Later,
}

impl Sessions {
    /// The settings that this needs: a revocation is never refused because Redis is away.
    pub(crate) fn settings(mut settings: Settings) -> Settings {
        settings.write_policy = WritePolicy::Available;
        settings
    }

    pub(crate) fn new(
        instance: &Instance,
        provider: &Provider,
        database: &Database,
    ) -> Result<Self, Error> {
        let (p, d) = (provider, database);
        let tokens = instance
            .cache("tokens")
            .capacity(5_000)
            .ttl(300 * SECOND)
            .build()?;
        let blacklist = instance
            .cache("blacklist")
            .capacity(20_000)
            .ttl(60 * SECOND)
            .loader(with(
                d,
                |d, token| async move { Ok(d.is_revoked(token).await?) },
            ))
            .build()?;
        let introspections = fleet_wide(instance, "introspections")
            .capacity(20_000)
            .ttl(30 * SECOND)
            .loader(with(p, |p, token: String| async move {
                Ok(p.introspect(&token).await?)
            }))
            .build()?;
        let sessions = fleet_wide(instance, "sessions")
            .capacity(10_000)
            .ttl(600 * SECOND)
            .loader(with(d, |d, id| async move { Ok(d.session(id).await?) }))
            .build()?;
        let metadata = fleet_wide(instance, "metadata")
            .capacity(50)
            .ttl(HOUR)
            .loader(with(
                p,
                |p, issuer| async move { Ok(p.metadata(issuer).await?) },
            ))
            .build()?;
        let keys = instance
            .cache("keys")
            .capacity(200)
            .ttl(HOUR)
            .loader(with(p, |p, id| async move {
                let key = p.key(id).await?;
                Ok(Arc::from(key))
            }))
            .build()?;
        Ok(Self {
            refreshes: refreshes(instance, provider)?,
            tokens,
            blacklist,
            introspections,
            sessions,
            metadata,
            keys,
            database: database.clone(),
        })
    }

    /// Exchanges a refresh token: once in the whole fleet for all callers that come with it within 5 s. A
    /// failure is not shared: the next caller tries again.
    pub(crate) async fn refresh(&self, token: &str) -> Result<Lookup<Arc<Tokens>>, Error> {
        self.refreshes.lookup(token).await
    }

    /// Whether a request with this token may pass.
    pub(crate) async fn allowed(&self, token: &str) -> Result<bool, Error> {
        Ok(self.blacklist.get(token).await? == Some(false))
    }

    /// Revokes a token, at once here; the others hear of it, even if this process dies.
    pub(crate) async fn revoke(&self, token: &str) -> Result<Notified, BoxError> {
        let commit = self.database.revoke(token.to_owned());
        match self.blacklist.write(token, commit).await {
            Ok(()) => Ok(Notified::All),
            Err(WriteError::Unconfirmed { .. }) => Ok(Notified::Later),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a token is genuine. Checking the signature is expensive, and its outcome lasts as long as
    /// the token does.
    pub(crate) async fn genuine(&self, token: &str, key: &str) -> Result<bool, Error> {
        let (keys, key, text) = (self.keys.clone(), key.to_owned(), token.to_owned());
        let check = async move {
            let key = keys.get(&key).await?;
            let genuine = key.is_some() && text.starts_with("access-");
            Ok(Loaded::new(genuine).ttl(300 * SECOND))
        };
        Ok(self.tokens.get_with(token, check).await? == Some(true))
    }

    pub(crate) async fn introspect(&self, token: &str) -> Result<Option<Introspection>, Error> {
        self.introspections.get(token).await
    }

    pub(crate) async fn session(&self, id: &str) -> Result<Option<Session>, Error> {
        self.sessions.get(id).await
    }

    /// Logs a user in.
    pub(crate) async fn begin(&self, session: Session) -> Result<(), BoxError> {
        let id = session.id.clone();
        Ok(self.sessions.write(&id, self.database.put(session)).await?)
    }

    pub(crate) async fn metadata(&self, issuer: &str) -> Result<Option<Metadata>, Error> {
        self.metadata.get(issuer).await
    }
}

/// One exchange for the whole fleet, whose outcome lasts as long as a caller may come with the old token.
fn refreshes(
    instance: &Instance,
    provider: &Provider,
) -> Result<Cache<String, Arc<Tokens>>, Error> {
    let shared = SharedTier::projection(|tokens: &Arc<Tokens>| (**tokens).clone(), Arc::new);
    instance
        .cache("refreshes")
        .capacity(10_000)
        .ttl(REFRESHED)
        .ttl_jitter(0.0)
        .error_ttl(Duration::ZERO) // a token may be tried again at once
        .tier(shared.fleet_single_flight(REFRESH_WAIT))
        .loader(with(provider, |provider, token: String| async move {
            Ok(Arc::new(provider.refresh(&token).await?))
        }))
        .build()
}

/// A cache whose values are in Redis as well: what one gateway asks, the others need not.
fn fleet_wide<V>(instance: &Instance, name: &str) -> unstale::CacheBuilder<String, V>
where
    V: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    let shared = SharedTier::new().fleet_single_flight(ANSWER_WAIT);
    instance.cache(name).tier(shared)
}

/// A loader that asks this source.
fn with<S, F>(
    source: &S,
    ask: impl Fn(S, String) -> F + Send + Sync + 'static,
) -> impl Fn(String) -> F + Send + Sync + 'static
where
    S: Clone + Send + Sync + 'static,
    F: Future,
{
    let source = source.clone();
    move |key| ask(source.clone(), key)
}
