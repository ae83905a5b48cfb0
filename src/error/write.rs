//! Why a write did not end well.

use std::error::Error as StdError;
use std::fmt;

use super::{Error, with_sources};

/// Why a [`write`](crate::Cache::write) did not end well.
///
/// [`Unconfirmed`](Self::Unconfirmed) is a write that **is committed**: do not report it as a failure, and do
/// not repeat it. If the caller has nothing else to do about it, [`committed`](Self::committed) turns it back
/// into the value:
///
/// ```
/// # async fn example(prices: unstale::Cache<u64, u64>) -> Result<(), Box<dyn std::error::Error>> {
/// # use unstale::WriteError;
/// # async fn save() -> Result<u64, std::io::Error> { Ok(1) }
/// let rows = prices.write(&7, save()).await.or_else(WriteError::committed)?;
/// # let _ = rows;
/// # Ok(())
/// # }
/// ```
///
/// | variant | committed | HTTP status |
/// |---|---|---|
/// | `Refused` | no | 503; 400 where its kind is `Key` |
/// | `Commit` | as the error says | 500, or what the error says |
/// | `Abandoned` | unknown | 504 |
/// | `Unconfirmed` | yes | 200, or 202: peers follow within the bound |
///
/// `?` turns it into a `Box<dyn Error>` if the error of the commit is an error type itself, such as
/// `std::io::Error` or that of a database. [`BoxError`](crate::BoxError) is none: match the variants then, or
/// give the commit an error type of your own.
///
/// `Display` prints the message with the error it is about. `Debug` prints the same, and then each
/// source that it does not name already.
///
/// # Examples
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
    /// The commit returned this error. Its outcome counts as unknown, so that the keys are invalidated at once,
    /// and again at the write's deadline.
    Commit(E),
    /// The commit did not finish within `write_timeout` and was abandoned. Its outcome is unknown, so that the
    /// keys are invalidated at once, and again a little later.
    Abandoned(Error),
    /// The write is committed, but Redis has not acknowledged its invalidation in time. The invalidation is
    /// retried; the other instances follow within the bound for a writer that crashed.
    Unconfirmed {
        /// What the commit returned.
        value: T,
        /// Why the acknowledgement is missing.
        error: Error,
    },
}

impl<T, E> WriteError<T, E> {
    /// Returns the value of a write that is committed, though not confirmed to peers yet.
    ///
    /// It is for `result.or_else(WriteError::committed)`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// # let names = instance
    /// #     .cache::<u64, String>("account_names")
    /// #     .loader(|id: u64| async move { Ok(format!("account {id}")) })
    /// #     .build()?;
    /// use unstale::WriteError;
    ///
    /// let commit = async { Ok::<_, std::io::Error>(1) }; // UPDATE accounts SET name = $1 WHERE id = 7
    /// let rows = names.write(&7, commit).await.or_else(WriteError::committed)?;
    /// assert_eq!(rows, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The error itself, unless it is `Unconfirmed`.
    pub fn committed(self) -> Result<T, Self> {
        match self {
            Self::Unconfirmed { value, .. } => Ok(value),
            Self::Refused(_) | Self::Commit(_) | Self::Abandoned(_) => Err(self),
        }
    }

    /// Returns whether the write is known to be committed. For `Abandoned` that is unknown, and this returns
    /// false.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// # let names = instance
    /// #     .cache::<u64, String>("account_names")
    /// #     .loader(|id: u64| async move { Ok(format!("account {id}")) })
    /// #     .build()?;
    /// let commit = async { Err::<(), _>(std::io::Error::other("the row is locked")) };
    /// let written = names.write(&7, commit).await;
    /// let retry = written.is_err_and(|error| !error.is_committed()); // it may have to be done again
    /// assert!(retry);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_committed(&self) -> bool {
        matches!(self, Self::Unconfirmed { .. })
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

impl<T, E: fmt::Display> fmt::Debug for WriteError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self {
            Self::Refused(error) | Self::Abandoned(error) | Self::Unconfirmed { error, .. } => {
                error.source()
            }
            Self::Commit(_) => None,
        };
        f.write_str(&with_sources(self.to_string(), source))
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
