//! A stand-in for an identity provider that rotates refresh tokens: each is good for one use, and a
//! second use of it is refused. Put your HTTP client in its place.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

/// A cheap handle.
#[derive(Clone)]
pub(crate) struct Provider(Arc<State>);

struct State {
    latency: Duration,
    /// By refresh token: its owner. A token that is missing was used, or never issued.
    live: Mutex<HashMap<String, String>>,
    issued: AtomicU64,
    /// Calls that will fail.
    failures: AtomicU32,
    calls: Mutex<BTreeMap<&'static str, u64>>,
}

/// What a refresh token is exchanged for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    /// The next one; the one that was used is no longer valid.
    pub(crate) refresh: String,
    pub(crate) expires_in: u64,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

/// What the provider says about an access token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Introspection {
    pub(crate) active: bool,
    pub(crate) scope: String,
}

/// Where the provider's endpoints are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) issuer: String,
    pub(crate) token_endpoint: String,
}

/// Why there is no answer, or a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `invalid_grant`: the refresh token was used before, or never issued.
    InvalidGrant,
    /// The provider is in trouble; the refresh token is as good as before.
    Unavailable,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidGrant => "invalid_grant",
            Self::Unavailable => "the provider is unavailable",
        })
    }
}

impl std::error::Error for Refusal {}

impl Provider {
    pub(crate) fn new(latency: Duration) -> Self {
        Self(Arc::new(State {
            latency,
            live: Mutex::default(),
            issued: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            calls: Mutex::default(),
        }))
    }

    /// Logs a user in: returns the first refresh token of a session.
    pub(crate) fn login(&self, subject: &str) -> String {
        let number = self.0.issued.fetch_add(1, Relaxed);
        let token = format!("refresh-{number}-{subject}");
        lock(&self.0.live).insert(token.clone(), subject.to_owned());
        token
    }

    /// Exchanges a refresh token, once.
    pub(crate) async fn refresh(&self, token: &str) -> Result<Tokens, Refusal> {
        self.call("refresh").await?;
        let subject = lock(&self.0.live).remove(token);
        let subject = subject.ok_or(Refusal::InvalidGrant)?;
        Ok(Tokens {
            access: format!("access-for-{subject}"),
            refresh: self.login(&subject),
            expires_in: 300,
        })
    }

    pub(crate) async fn introspect(&self, token: &str) -> Result<Introspection, Refusal> {
        self.call("introspect").await?;
        Ok(Introspection {
            active: token.starts_with("access-"),
            scope: "openid profile".to_owned(),
        })
    }

    pub(crate) async fn metadata(&self, issuer: String) -> Result<Metadata, Refusal> {
        self.call("metadata").await?;
        let token_endpoint = format!("{issuer}/token");
        Ok(Metadata {
            issuer,
            token_endpoint,
        })
    }

    /// The key with this id, which signs tokens.
    pub(crate) async fn key(&self, id: String) -> Result<Vec<u8>, Refusal> {
        self.call("key").await?;
        Ok(id.into_bytes())
    }

    /// The next call fails.
    pub(crate) fn fail_next(&self) {
        self.0.failures.store(1, Relaxed);
    }

    /// How often it has been asked for this.
    pub(crate) fn calls(&self, endpoint: &str) -> u64 {
        lock(&self.0.calls).get(endpoint).copied().unwrap_or(0)
    }

    async fn call(&self, endpoint: &'static str) -> Result<(), Refusal> {
        *lock(&self.0.calls).entry(endpoint).or_default() += 1;
        if !self.0.latency.is_zero() {
            sleep(self.0.latency).await;
        }
        match self.0.failures.swap(0, Relaxed) {
            0 => Ok(()),
            _ => Err(Refusal::Unavailable),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
