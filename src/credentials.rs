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
    /// Returns credentials with the password of the user that `redis_url` names, or of the user `default` if it
    /// names none.
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::Credentials;
    ///
    /// let credentials = Credentials::new("a-signed-token");
    /// assert!(!format!("{credentials:?}").contains("signed"));
    /// ```
    #[must_use]
    pub fn new(password: impl Into<String>) -> Self {
        Self {
            user: None,
            password: password.into(),
            expires_in: None,
        }
    }

    /// Sets the user, in place of the one that `redis_url` names.
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::Credentials;
    ///
    /// let credentials = Credentials::new("a-signed-token").user("app");
    /// assert!(format!("{credentials:?}").contains("app"));
    /// ```
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the time after which the password expires. The provider is called again after four fifths of that
    /// time, and open connections log in with what it returns.
    ///
    /// Without it, the provider is called at each connect, and open connections keep their login.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use unstale::Credentials;
    ///
    /// // The provider is asked again after 12 minutes:
    /// let credentials = Credentials::new("a-signed-token").expires_in(Duration::from_secs(15 * 60));
    /// ```
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

/// A callback that returns the current [`Credentials`]: IAM or Entra tokens, leased secrets. It is for
/// [`Settings::credentials`](crate::Settings::credentials).
///
/// It is called at each connect, at most once a second, and again before what it returned expires. It has ten
/// seconds to answer. While it fails, the credentials that it returned last are used.
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
    /// Returns a provider that awaits. A callback that blocks its thread needs [`blocking`](Self::blocking).
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::{BoxError, Credentials, CredentialsProvider};
    ///
    /// async fn lease() -> Result<Credentials, BoxError> {
    ///     let password = "leased"; // from a store of secrets
    ///     Ok(Credentials::new(password).user("app"))
    /// }
    ///
    /// let provider = CredentialsProvider::new(lease);
    /// ```
    pub fn new<F, Fut>(ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Credentials, BoxError>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(ask())))
    }

    /// Returns a provider that may block its thread: it runs on one of tokio's threads for blocking work.
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::{Credentials, CredentialsProvider};
    ///
    /// let provider = CredentialsProvider::blocking(|| {
    ///     let password = std::fs::read_to_string("/run/secrets/redis")?;
    ///     Ok(Credentials::new(password.trim_end()))
    /// });
    /// ```
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
