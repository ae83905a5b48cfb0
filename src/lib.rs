//! Coherent in-memory caches for fleets of instances.

mod batch;
mod bus;
mod cache;
mod core;
mod error;
mod event;
mod flight;
mod follower;
mod instance;
mod key;
mod link;
mod loader;
mod log;
pub mod metrics;
mod outbox;
mod settings;
mod store;
#[cfg(any(test, feature = "test-util"))]
pub mod testing;
mod time;
mod writes;

pub use batch::Batch;
pub use bus::local::LocalBus;
pub use cache::{Cache, CacheBuilder, Lookup, Outcome, Stats};
pub use error::{BoxError, Error, ErrorKind, WriteError};
pub use instance::{Health, Instance, State};
pub use key::{Key, KeyRef, KeyWriter, MAX_KEY_BYTES};
pub use loader::{Loaded, MAX_TAGS};
pub use settings::{CacheSettings, Setting, Settings, WritePolicy};
