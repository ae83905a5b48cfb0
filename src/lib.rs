//! Coherent in-memory caches for services that run as many instances.
//!
//! Every instance keeps a cache in its own memory. A write on one publishes an invalidation event
//! over Redis pub/sub, and every other drops what it names. Pub/sub may lose any message, so events
//! carry sequences, the latest stay in a journal, and twice a second an instance proves that it has
//! applied everything published before. **A hit is never older than `max_staleness` after its
//! invalidation was published, whatever Redis, the network or a peer does.** It costs 1.5 to 2 times
//! what a bare lookup in memory costs.
//!
//! # Where to begin
//!
//! - [`Instance`]: one per process; [`Settings`] say where Redis is. Without a URL it is a fleet of
//!   one, and says so in the log.
//! - [`Cache`]: one per kind of value, built with a loader. [`Cache::get`] reads,
//!   [`Cache::write`] commits and invalidates even if the process dies in between,
//!   [`Cache::invalidate`] drops what another program has committed. There is no `insert`.
//! - [`Token`]: what an invalidation or a write has published. [`Cache::get_after`] reads one's own write
//!   with it, on any instance.
//! - [`Loaded`]: what a loader returns when a value has its own TTL, or tags.
//! - `SharedTier` (feature `shared`): entries that live in Redis as well.
//! - [`Batch`]: keys, tags and caches of one transaction.
//! - [`Token`]: what a write has published, so that [`Cache::get_after`] on another instance reflects it.
//! - [`Cache::explain`] says why a key is old or was loaded again, [`Instance::invalidations`] what is applied.
//! - [`Key`]: derive it (feature `derive`), or implement it, for keys of your own.
//! - [`Error`] and [`WriteError`]: what can go wrong, and what then holds.
//! - [`metrics`]: every series, for dashboards and for a Prometheus recorder of your own.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use unstale::{Instance, Outcome, Settings};
//!
//! let instance = Instance::start(Settings::from_env()?).await?;
//! let prices = instance
//!     .cache::<String, u64>("prices")
//!     .loader(|sku: String| async move { Ok(sku.len() as u64) })
//!     .build()?;
//!
//! assert_eq!(prices.get("sku-1").await?, Some(5));
//! assert_eq!(prices.lookup("sku-1").await?.outcome, Outcome::Hit);
//!
//! let commit = async { Ok::<_, std::io::Error>(()) }; // your database's transaction
//! prices.write("sku-1", commit).await?; // here and on every peer, "sku-1" is gone
//! instance.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `redis` | yes | the Redis bus; without it instances share events inside one process only |
//! | `tls` | yes | `rediss://` with rustls and ring |
//! | `prometheus` | yes | a Prometheus recorder and listener of the crate's own |
//! | `shared` | no | the shared tier: entries that are expensive to load live in Redis as well |
//! | `derive` | no | `#[derive(Key)]` |
//! | `uuid` | no | UUIDs as keys |
//! | `test-util` | no | `unstale::testing`: a bus that can cut, lose and delay, and tokio's paused clock |
//! | `cli` | no | the program `unstale` |

// On docs.rs every item says which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
mod bus;
mod cache;
mod coherence;
mod contain;
mod credentials;
mod entered;
mod error;
mod event;
mod foreign;
mod identity;
mod instance;
#[cfg(any(test, feature = "test-util"))]
#[doc(hidden)]
pub mod internals;
mod key;
mod loader;
mod lock;
mod log;
pub mod metrics;
mod mutants;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod operate;
#[cfg(test)]
mod protocol;
#[cfg(any(test, feature = "test-util", feature = "relay"))]
mod relay;
mod settings;
mod spans;
mod store;
mod sync;
mod tasks;
#[cfg(any(test, feature = "test-util"))]
pub mod testing;
#[cfg(feature = "shared")]
mod tier;
mod time;
mod token;
mod url;
mod window;

pub use bus::BusKind;
pub use bus::local::LocalBus;
pub use cache::Cache;
pub use cache::builder::CacheBuilder;
pub use cache::explain::{Explanation, HeldEntry, Refusal};
pub use cache::lookup::{Lookup, Outcome, Preload, Stats};
pub use credentials::{Credentials, CredentialsProvider};
pub use error::write::WriteError;
pub use error::{BoxError, Error, ErrorKind};
pub use identity::InstanceId;
pub use instance::batch::Batch;
pub use instance::invalidations::{Invalidation, Invalidations, Scope};
pub use instance::statement::Statement;
pub use instance::{Health, Instance, InstanceState};
pub use key::Key;
pub use key::encoder::{KeyEncoder, MAX_KEY_BYTES};
pub use key::hashes::{KeyHash, TagHash};
pub use key::reference::KeyRef;
pub use loader::{Answer, Loaded};
pub use metrics::labels::MissCause;
pub use settings::{
    CacheSettings, HiddenSetting, RefreshAhead, SettingInfo, SettingScope, Settings, SubscribeAt,
    Switch, WritePolicy,
};
pub use token::Token;
pub use token::parse::InvalidToken;
#[cfg(feature = "derive")]
pub use unstale_derive::Key;

#[cfg(feature = "shared")]
pub use tier::SharedTier;

/// What the code of the derive calls; not part of the API.
#[cfg(feature = "derive")]
#[doc(hidden)]
pub use key::derived as __derived;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

#[cfg(doctest)]
#[doc = include_str!("../docs/relay.md")]
struct RelayExamples;
