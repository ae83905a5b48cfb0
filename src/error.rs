//! What can go wrong, and what to do about it.

pub(crate) mod write;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Write};
use std::sync::Arc;

use crate::foreign;

/// The error of a loader, boxed. `?` converts any error into it.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// use unstale::BoxError;
///
/// async fn price(sku: String) -> Result<u64, BoxError> {
///     let text = format!("{}00", sku.len()); // of an upstream
///     Ok(text.parse()?) // `?` makes a `BoxError` of the `ParseIntError`
/// }
///
/// let prices = instance.cache::<String, u64>("prices").loader(price).build()?;
/// assert_eq!(prices.get("sku-1").await?, Some(500));
/// # Ok(())
/// # }
/// ```
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a call failed.
///
/// Cheap to clone, so that every caller waiting for one load gets the same error.
///
/// # Design
///
/// One opaque type with a [`kind`](Error::kind) to match on.
/// An error that user code returned (a loader's, say) is never rewritten: it is the
/// [`source`](StdError::source), ready for `downcast_ref`.
///
/// `Display` prints the message. `Debug`, and `{:#}`, print the message and then each source that it
/// does not name already, so that a `main` that returns an error shows all of it.
///
/// # Examples
///
/// | kind | HTTP status | |
/// |---|---|---|
/// | `Settings` | 500 | at start or at build: fix the configuration |
/// | `Key` | 400 | the caller sent too long a key |
/// | `Load` | 502 | or what its source says |
/// | `LoadTimeout` | 504 | |
/// | `LoadPanic` | 500 | a bug of the loader |
/// | `NoLoader` | 500 | a bug of the caller |
/// | `Recursion` | 500 | a bug of the loader |
/// | `Limited` | 429 | not 401: the key may be a new one whose event is on its way |
/// | `Overloaded` | 503 | |
/// | `Bus` | 503 | |
/// | `Auth` | 500 | fix the credentials |
/// | `Lanes` | 500 | fix the configuration |
/// | `Closed` | 503 | the process is about to end |
///
/// ```
/// # use unstale::{Error, ErrorKind};
/// fn http_status(error: &Error) -> u16 {
///     match error.kind() {
///         ErrorKind::Key => 400,
///         ErrorKind::Limited => 429,
///         ErrorKind::Load => 502,
///         ErrorKind::LoadTimeout => 504,
///         ErrorKind::Overloaded | ErrorKind::Bus | ErrorKind::Closed => 503,
///         _ => 500,
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Repr>);

struct Repr {
    kind: ErrorKind,
    message: String,
    source: Option<BoxError>,
}

/// What kind of failure an [`Error`] is; its documentation has an HTTP status for each.
///
/// # Examples
///
/// ```
/// use unstale::{Cache, Error, ErrorKind};
///
/// /// The status of a request with an API key, and the tenant that it belongs to.
/// async fn authenticate(keys: &Cache<String, u64>, key: &str) -> (u16, Option<u64>) {
///     match keys.get(key).await {
///         Ok(Some(tenant)) => (200, Some(tenant)),
///         Ok(None) => (401, None),
///         Err(error) => match error.kind() {
///             ErrorKind::Key => (401, None), // too long to be a key of ours
///             ErrorKind::Limited => (429, None), // too many guesses: not looked for
///             _ => (503, None),
///         },
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting or an option of a builder is not valid; the message lists all that are wrong.
    Settings,
    /// A key cannot be used: its canonical bytes are over the limit.
    Key,
    /// The loader returned an error, which is the `source()`, or tags that cannot be used.
    Load,
    /// The loader did not finish within `load_timeout`.
    LoadTimeout,
    /// The loader panicked.
    LoadPanic,
    /// The cache has no loader (and the call brought none).
    NoLoader,
    /// A loader reads the key that it loads, directly or through the loaders of other keys, and would wait for
    /// itself.
    Recursion,
    /// The key is unknown, and [`unknown_loads`](crate::CacheBuilder::unknown_loads) allows no further load of
    /// such a key at the moment. The source is not asked.
    Limited,
    /// Too many loads or writes are under way, and none ended in time: the source is slow.
    Overloaded,
    /// Redis did not acknowledge in time; the event is kept, and publishing it is retried.
    Bus,
    /// Redis refused the credentials, or the right to run a command.
    Auth,
    /// The fleet was set up with another number of lanes.
    Lanes,
    /// The instance was shut down.
    Closed,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Repr {
            kind,
            message: harmless(message.into()),
            source: None,
        }))
    }

    pub(crate) fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<BoxError>,
    ) -> Self {
        Self(Arc::new(Repr {
            kind,
            message: harmless(message.into()),
            source: Some(source.into()),
        }))
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the instance was shut down")
    }

    /// Returns what failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether the same call may succeed a moment later with nothing changed: `LoadTimeout`,
    /// `Limited`, `Overloaded` and `Bus`.
    ///
    /// For `Load` it returns false: only the error's source knows whether that is transient.
    ///
    /// ```
    /// # async fn read(prices: unstale::Cache<u64, u64>) -> Result<Option<u64>, unstale::Error> {
    /// match prices.get(&7).await {
    ///     Err(error) if error.is_transient() => prices.get(&7).await, // once more
    ///     answer => answer,
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.kind() {
            ErrorKind::LoadTimeout
            | ErrorKind::Limited
            | ErrorKind::Overloaded
            | ErrorKind::Bus => true,
            ErrorKind::Settings
            | ErrorKind::Key
            | ErrorKind::Load
            | ErrorKind::LoadPanic
            | ErrorKind::NoLoader
            | ErrorKind::Recursion
            | ErrorKind::Auth
            | ErrorKind::Lanes
            | ErrorKind::Closed => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return f.write_str(&with_sources(self.0.message.clone(), self.source()));
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#}")
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// A message may quote what others wrote.
fn harmless(message: String) -> String {
    match foreign::escaped(&message) {
        Cow::Borrowed(_) => message,
        Cow::Owned(escaped) => escaped,
    }
}

/// A message, and after it each source that it does not name already.
fn with_sources(mut text: String, mut source: Option<&(dyn StdError + 'static)>) -> String {
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            write!(text, ": {cause}").expect("a string takes all that is written to it");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
