//! Access tokens of third parties: each is kept until shortly before it ends, and asked for once,
//! however many callers want it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use unstale::{BoxError, Cache, Error, Instance, Key, KeyEncoder, Loaded, SharedTier};

/// A token that is asked for all the time is replaced so long before its end. Of a token that lives
/// shorter than twice as long it is half of its life; nothing ever keeps one longer than it lives.
pub(crate) const MARGIN: Duration = Duration::from_secs(300);

/// While Redis is away no instance hears that a token was rejected, so each is asked for again so often.
/// Seconds, as is the default, would be too often: issuers count.
const UNHEARD: Duration = Duration::from_secs(60);

/// An issuer that does not answer for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The application that asks, by which a token is kept. Both parts count: one corporation has several applications,
/// each with a secret of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) corp: String,
    pub(crate) secret: Secret,
}

/// The two parts are hashed, and only the hash leaves the process: events name 64 bits of it, and
/// values in Redis lie under a keyed hash.
impl Key for Credentials {
    fn encode(&self, out: &mut KeyEncoder) {
        self.corp.encode(out);
        self.secret.0.encode(out);
    }
}

/// Shown to the issuer only.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What requests to the third party carry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// What an issuer answers: `{"access_token": "...", "expires_in": 7200}`, or `"7200"`.
#[derive(Clone, Deserialize)]
pub(crate) struct Grant {
    access_token: String,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<Duration>,
}

impl Grant {
    /// The TTL comes with the value. There is no least life either: a token that lives 120 s is kept
    /// for 120 s, counted from before it was asked for.
    fn loaded(self) -> Loaded<Token> {
        // A token without a known life is given to the callers that wait for it, and not kept.
        let lives = self.expires_in.unwrap_or(Duration::ZERO);
        Loaded::new(Token(self.access_token)).ttl(lives)
    }
}

/// Some issuers write a number, some a text.
fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
        Other(IgnoredAny),
    }
    Ok(match Written::deserialize(from)? {
        Written::Number(seconds) => Some(Duration::from_secs(seconds)),
        Written::Text(text) => text.trim().parse().ok().map(Duration::from_secs),
        Written::Other(_) => None,
    })
}

/// A third party that issues tokens.
pub(crate) trait Issuer: Send + Sync + 'static {
    /// A new token; `None` where these credentials are not accepted.
    fn issue(
        &self,
        credentials: Credentials,
    ) -> impl Future<Output = Result<Option<Grant>, BoxError>> + Send;
}

/// Which instances share a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shares {
    /// Each instance asks for its own.
    Instance,
    /// One instance asks, the others find what it got in Redis. The token (never the secret) lies
    /// there as it is: a user who may read this Redis may use it.
    Fleet,
}

/// The tokens of all applications.
#[derive(Clone)]
pub(crate) struct Tokens(Cache<Credentials, Token>);

impl Tokens {
    pub(crate) fn build(
        instance: &Instance,
        issuer: Arc<impl Issuer>,
        shares: Shares,
    ) -> Result<Self, Error> {
        let cache = instance
            .cache::<Credentials, Token>("tokens")
            .refresh_ahead(MARGIN)
            .max_staleness(UNHEARD)
            .load_timeout(PATIENCE)
            .loader(move |credentials| {
                let issuer = issuer.clone();
                async move {
                    let grant = issuer.issue(credentials).await?;
                    // Credentials that are not accepted are remembered, too: for `negative_ttl`.
                    Ok(grant.map_or_else(|| Loaded::new(None), Grant::loaded))
                }
            });
        let cache = match shares {
            Shares::Instance => cache,
            Shares::Fleet => cache.tier(SharedTier::new().fleet_single_flight(PATIENCE)),
        };
        Ok(Self(cache.build()?))
    }

    /// A token for these credentials; `None` where the issuer does not accept them.
    pub(crate) async fn get(&self, credentials: &Credentials) -> Result<Option<Token>, Error> {
        self.0.get(credentials).await
    }

    /// The third party did not accept a token before its end: every instance asks for another one.
    pub(crate) async fn reject(&self, credentials: &Credentials) -> Result<(), Error> {
        self.0.invalidate(credentials).await?;
        Ok(())
    }

    /// The cache itself, for what it counts.
    pub(crate) fn cache(&self) -> &Cache<Credentials, Token> {
        &self.0
    }
}
