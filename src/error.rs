//! What can go wrong, and what to do about it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Any error a loader or a commit may return, boxed.
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
/// ```
/// # use unstale::{Error, ErrorKind};
/// fn is_worth_retrying(error: &Error) -> bool {
///     matches!(error.kind(), ErrorKind::Overloaded | ErrorKind::LoadTimeout | ErrorKind::Bus)
/// }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Repr>);

struct Repr {
    kind: ErrorKind,
    message: String,
    source: Option<BoxError>,
}

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting or an option of a builder is not valid; the message lists every one that is wrong.
    Settings,
    /// A key cannot be used: its canonical bytes are over the limit.
    Key,
    /// The loader returned an error, which is the `source()`.
    Load,
    /// The loader did not finish within `load_timeout`.
    LoadTimeout,
    /// The loader panicked.
    LoadPanic,
    /// The cache has no loader (and the call brought none).
    NoLoader,
    /// Too many loads or writes are under way, and none ended in time; or the key is unknown, and
    /// [`unknown_loads`](crate::CacheBuilder::unknown_loads) lets no more of those be looked for.
    Overloaded,
    /// Redis did not acknowledge in time; what was to be published is kept and retried.
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
            message: message.into(),
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
            message: message.into(),
            source: Some(source.into()),
        }))
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the instance was shut down")
    }

    /// What failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind)
            .field("message", &self.0.message);
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Why a [`write`](crate::Cache::write) did not end well.
///
/// ```
/// # use unstale::WriteError;
/// # use std::io;
/// fn http_status<T>(error: &WriteError<T, io::Error>) -> u16 {
///     match error {
///         WriteError::Refused(_) => 503,            // nothing was committed
///         WriteError::Commit(_) => 500,             // the database said no
///         WriteError::Abandoned(_) => 504,          // unknown
///         WriteError::Unconfirmed { .. } => 202,    // committed; peers follow within the bound
///     }
/// }
/// ```
pub enum WriteError<T, E> {
    /// Nothing was committed: the write could not be announced to Redis first (policy `strict`),
    /// or the instance is closed or overloaded.
    Refused(Error),
    /// The commit returned this error. Its outcome counts as unknown, so the keys are invalidated
    /// at once and again at the write's deadline.
    Commit(E),
    /// The commit did not finish within `write_timeout` and was abandoned.
    /// Its outcome is unknown, so the keys are invalidated at once and again a little later.
    Abandoned(Error),
    /// Committed, but Redis has not acknowledged the invalidation in time.
    /// It is retried; peers follow within the bound for a writer that crashed.
    Unconfirmed {
        /// What the commit returned.
        value: T,
        /// Why the acknowledgement is missing.
        error: Error,
    },
}

impl<T, E: fmt::Debug> fmt::Debug for WriteError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => f.debug_tuple("Refused").field(error).finish(),
            Self::Commit(error) => f.debug_tuple("Commit").field(error).finish(),
            Self::Abandoned(error) => f.debug_tuple("Abandoned").field(error).finish(),
            Self::Unconfirmed { error, .. } => f
                .debug_struct("Unconfirmed")
                .field("error", error)
                .finish_non_exhaustive(),
        }
    }
}

impl<T, E: fmt::Display> fmt::Display for WriteError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "refused before the commit: {error}"),
            Self::Commit(error) => write!(f, "the commit failed: {error}"),
            Self::Abandoned(error) => write!(f, "the commit was abandoned: {error}"),
            Self::Unconfirmed { error, .. } => {
                write!(
                    f,
                    "committed, but the invalidation is not acknowledged yet: {error}"
                )
            }
        }
    }
}

impl<T, E: StdError + 'static> StdError for WriteError<T, E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Commit(error) => Some(error),
            Self::Refused(error) | Self::Abandoned(error) | Self::Unconfirmed { error, .. } => {
                Some(error)
            }
        }
    }
}
