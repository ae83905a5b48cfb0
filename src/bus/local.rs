//! The bus inside a process: what Redis does, without Redis.

mod client;
mod conditions;
mod delivery;
#[cfg(any(test, feature = "test-util"))]
pub(crate) mod faults;
mod gather;
mod history;
mod hub;
pub(crate) mod lane;
mod marks;
mod members;
mod network;
pub(crate) mod server;
mod tier;
#[cfg(any(test, feature = "test-util"))]
pub(crate) mod timeline;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use self::client::Client;
use self::delivery::Delivery;
use self::hub::{Hub, pump};
use super::{Bus, BusConfig, BusEvent};

/// The bus of instances that share one process.
///
/// Clones are the same bus: instances that were started on it hear each other's invalidations, as they would
/// over Redis, and no server is involved. It is for tests, demonstrations and programs of a single process.
/// Instances of different namespaces do not hear each other.
///
/// It keeps the whole protocol, journal, members and intents included, so that what is tested on it
/// is what runs over Redis. With the feature `test-util` its connections can be cut, slowed down and
/// made to lose messages: see the module `testing`.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use unstale::{Cache, Error, Instance, LocalBus, Settings};
///
/// async fn start(bus: &LocalBus) -> Result<Cache<String, u64>, Error> {
///     let instance = Instance::start_on(bus, Settings::default()).await?;
///     let price = |sku: String| async move { Ok(sku.len() as u64) };
///     instance.cache("prices").loader(price).build()
/// }
///
/// let bus = LocalBus::default();
/// let (here, there) = (start(&bus).await?, start(&bus).await?);
/// let mut invalidations = there.invalidations();
/// here.invalidate("sku-1").await?;
/// assert!(invalidations.next().await.is_some_and(|next| next.concerns("sku-1", &[])));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct LocalBus(Arc<Hub>);

impl LocalBus {
    /// Connects an instance; the first event is [`BusEvent::Subscribed`].
    ///
    /// Must be called within a runtime.
    pub(crate) fn attach(&self, config: BusConfig) -> (Arc<dyn Bus>, mpsc::Receiver<BusEvent>) {
        let mut state = self.0.lock();
        state.started.get_or_insert_with(Instant::now);
        let number = state.attached;
        state.attached += 1;
        let (mut connection, receiver) = Delivery::new(&config);
        if std::mem::take(&mut state.silent_next) {
            // Found out when the silence ends, as after a connection that broke.
            connection.conditions.silent = true;
            connection.conditions.broken = true;
        } else {
            connection.subscribed();
        }
        let wake = connection.wake();
        state.connections.insert(number, connection);
        drop(state);
        drop(tokio::spawn(pump(Arc::downgrade(&self.0), number, wake)));
        (
            Arc::new(Client::new(Arc::clone(&self.0), number, config)),
            receiver,
        )
    }
}

impl fmt::Debug for LocalBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("LocalBus")
            .field("attached", &state.connections.len())
            .finish_non_exhaustive()
    }
}
