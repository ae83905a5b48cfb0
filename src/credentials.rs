//! Credentials that change while the program runs: what a callback returns.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::BoxError;

/// A user and a password for Redis, as a [`CredentialsProvider`] returns them.
///
/// `Debug` hides the password.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use unstale::Credentials;
///
/// let token = Credentials::new("a-signed-token")
///     .user("app")
///     .expires_in(Duration::from_secs(900));
/// assert!(!format!("{token:?}").contains("signed"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(crate) user: Option<String>,
    pub(crate) password: String,
    pub(crate) expires_in: Option<Duration>,
}

impl Credentials {
    /// The password of the user that `redis_url` names, or else of the user `default`.
    #[must_use]
    pub fn new(password: impl Into<String>) -> Self {
        Self {
            user: None,
            password: password.into(),
            expires_in: None,
        }
    }

    /// Sets the user, in place of the one that `redis_url` names.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Says when the password lapses. The provider is asked again after four fifths of that time, and
    /// open connections log in with what it returns then.
    ///
    /// Without it, the provider is asked at each connect, and open connections keep their login.
    #[must_use]
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires_in = Some(time);
        self
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("password", &format_args!("(set)"))
            .field("expires_in", &self.expires_in)
            .finish()
    }
}

/// A callback that returns the [`Credentials`] of the moment: IAM or Entra tokens, leased secrets.
/// For [`Settings::credentials`](crate::Settings::credentials).
///
/// It is asked at each connect, at most once a second, and again before what it returned lapses.
/// It has ten seconds to answer. While it fails, what it returned last is used.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use unstale::{Credentials, CredentialsProvider, Settings};
///
/// # async fn sign() -> Result<String, std::io::Error> { Ok(String::new()) }
/// let mut settings = Settings::default();
/// settings.redis_url = Some("rediss://cache.example".into());
/// settings.credentials = Some(CredentialsProvider::new(|| async {
///     let token = sign().await?;
///     let lifetime = Duration::from_secs(900);
///     Ok(Credentials::new(token).user("app").expires_in(lifetime))
/// }));
/// ```
#[derive(Clone)]
pub struct CredentialsProvider(Arc<Ask>);

type Answer = Pin<Box<dyn Future<Output = Result<Credentials, BoxError>> + Send>>;
type Ask = dyn Fn() -> Answer + Send + Sync;

impl CredentialsProvider {
    /// A provider that awaits. What blocks the thread belongs into [`blocking`](Self::blocking).
    pub fn new<F, Fut>(ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Credentials, BoxError>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(ask())))
    }

    /// A provider that blocks its thread: it runs on one of tokio's threads for blocking work.
    pub fn blocking<F>(ask: F) -> Self
    where
        F: Fn() -> Result<Credentials, BoxError> + Send + Sync + 'static,
    {
        let ask = Arc::new(ask);
        Self::new(move || {
            let ask = Arc::clone(&ask);
            async move {
                match tokio::task::spawn_blocking(move || ask()).await {
                    Ok(answer) => answer,
                    Err(_) => Err("the callback has panicked".into()),
                }
            }
        })
    }

    #[cfg_attr(
        not(feature = "redis"),
        expect(dead_code, reason = "only the bus over Redis logs in")
    )]
    pub(crate) fn ask(&self) -> Answer {
        (self.0)()
    }
}

impl fmt::Debug for CredentialsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsProvider")
    }
}
