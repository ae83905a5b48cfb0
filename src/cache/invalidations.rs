//! What is invalidated of one cache.

use crate::Key;
use crate::cache::Cache;
use crate::instance::invalidations::Invalidations;

impl<K, V> Cache<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns what this instance invalidates of this cache from now on, whether it or a peer has: keys, tags, the
    /// whole cache, and lanes.
    ///
    /// For what a program keeps beside the cache and must change with it: an index, a compiled rule, the page that
    /// a browser shows.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use unstale::{Instance, KeyHash, Scope, Settings};
    ///
    /// let instance = Instance::start(Settings::default()).await?;
    /// let users = instance.cache::<String, u64>("users").build()?;
    /// let mut invalidations = users.invalidations();
    ///
    /// users.invalidate("ada").await?;
    /// let next = invalidations.next().await.ok_or("the instance was shut down")?;
    /// assert_eq!(Some(next.scope), KeyHash::of("ada").map(Scope::Key));
    /// assert_eq!(next.origin, Some(instance.id()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn invalidations(&self) -> Invalidations {
        Invalidations::new(self.0.member(), Some(self.0.id))
    }
}
