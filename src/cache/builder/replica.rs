//! Loaders that read from a replica, and the one that reads from the primary after an invalidation.

use std::future::Future;
use std::time::Duration;

use crate::cache::builder::CacheBuilder;
use crate::loader::{Loaded, plain};
use crate::{BoxError, Error, ErrorKind, Key};

impl<K, V> CacheBuilder<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Sets a second loader, which reads from the primary while the [`loader`](Self::loader) reads from a
    /// replica: for `window` after an invalidation that may concern a key, `load` is called in place of the
    /// loader. Defaults to none.
    ///
    /// It is correct only if the replica lags by less than `window`, and nothing checks that. A loader that
    /// knows how far its replica is returns [`Loaded::as_of`], which has no such condition. An invalidation of
    /// the key, of any tag in the cache or of the whole cache counts, and so does a lane that was not verified
    /// in time. For the first `window` of an instance nothing is known, and `load` loads everything.
    ///
    /// It needs a `loader`, cannot be combined with a `batch_loader`, and `window` must be longer than zero.
    /// Otherwise [`build`](Self::build) fails.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use std::time::Duration;
    ///
    /// let names = instance
    ///     .cache::<u64, String>("names")
    ///     .loader(|id: u64| async move { Ok(format!("{id}, as a replica has it")) })
    ///     .primary_for(Duration::from_secs(5), |id: u64| async move {
    ///         Ok(format!("{id}, as the primary has it"))
    ///     })
    ///     .build()?;
    /// assert_eq!(names.get(&7).await?.as_deref(), Some("7, as the primary has it"));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "replica")]
    pub fn primary_for<L, F, R>(mut self, window: Duration, load: L) -> Self
    where
        L: Fn(K) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, BoxError>> + Send + 'static,
        R: Into<Loaded<V>>,
    {
        self.primary = Some((window, plain(load)));
        self
    }

    /// What is wrong with the loader of the primary, if there is one.
    pub(super) fn check_primary(&self) -> Result<(), Error> {
        let Some((window, _)) = &self.primary else {
            return Ok(());
        };
        let wrong = if window.is_zero() {
            "is zero: give it longer than the replica lags, as in Duration::from_secs(5)"
        } else if self.loader.is_none() {
            "needs a loader: add `.loader(...)`, which may read from a replica"
        } else if self.batch_loader.is_some() {
            "cannot be combined with a batch_loader: let that read from the primary, or return `Loaded::as_of`"
        } else {
            return Ok(());
        };
        let message = format!("cache {:?}: primary_for {wrong}", self.name);
        Err(Error::new(ErrorKind::Settings, message))
    }
}
