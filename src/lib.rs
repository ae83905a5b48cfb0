//! Coherent in-memory caches for services that run as many instances.
//!
//! Each instance keeps a cache in its own memory. A write on one instance publishes an invalidation
//! event over Redis pub/sub, and every other instance drops what the event names. Pub/sub can lose
//! any message. So each event has a sequence, a journal in Redis keeps the latest events, and each
//! instance verifies twice a second that it has applied all of them.
//!
//! **Once an invalidation is published, no instance serves the old value for longer than
//! `max_staleness` (2 s by default), whatever happens to Redis, the network or another instance.**
//! [The promise](guide::promise) has the bound for each fault.
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
//! prices.write("sku-1", commit).await?; // here and on every other instance, "sku-1" is gone
//! instance.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # A tour
//!
//! 1. **Start.** [`Instance::start`] joins a fleet, once in a process. [`Settings`] say where Redis
//!    is; [the settings](guide::settings) are variables of the environment. Without a URL the
//!    instance is a fleet of one, and the log warns of it.
//! 2. **Build caches.** [`Instance::cache`] builds a [`Cache`] for each kind of value, with a loader.
//!    A loader returns a value, `None` for "does not exist", or [`Loaded`] for a value with its own
//!    TTL or tags. Keys are numbers, strings, tuples, or types of your own that derive [`Key`].
//! 3. **Read.** [`Cache::get`] returns a value from memory, or loads it: one load for all readers of
//!    a key. [`Cache::lookup`] also says how it was answered. There is no `insert`: only a loader
//!    lets the cache know whether a value was invalidated while it was loading.
//! 4. **Write.** [`Cache::write`] commits and invalidates, even if the process dies between the two.
//!    [`Cache::invalidate`] drops what was committed already. [`Instance::batch`] drops keys, tags
//!    and whole caches with one event. [`WriteError`] says what was committed if a write fails;
//!    [crash-safe writes](guide::crash_safe_writes) compares them.
//! 5. **Read your own writes.** [`Cache::write_with_token`] returns a [`Token`], and
//!    [`Cache::get_after`] on any instance returns at least that write.
//! 6. **Understand.** [`Cache::explain`] says why a read hits or loads, [`Instance::invalidations`]
//!    streams what is applied, [`Instance::health`] says whether the promise holds now, and
//!    [`metrics`] lists every series.
//! 7. **Share.** `SharedTier` (feature `shared`) keeps expensive values in Redis as well:
//!    [the shared tier](guide::shared_tier).
//! 8. **Test.** `unstale::testing` (feature `test-util`) loses messages and cuts connections on a
//!    paused clock: [testing your service](guide::testing_your_service).
//!
//! [The guide](guide) has a page for each concept; [production](guide::production) has the list to
//! go through before you go live.
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `redis` | yes | events over Redis; without it they stay in the process |
//! | `tls` | yes | `rediss://` by rustls and ring |
//! | `prometheus` | yes | a Prometheus recorder and listener |
//! | `shared` | no | the shared tier: expensive values in Redis as well |
//! | `derive` | no | `#[derive(Key)]` |
//! | `uuid` | no | UUIDs as keys |
//! | `test-util` | no | `unstale::testing`: faults and a paused clock for your tests |
//! | `cli` | no | [the program `unstale`](guide::cli) |
//! | `relay` | no | `unstale relay`: [invalidations from PostgreSQL's log](guide::relay) |

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
#[cfg(any(doc, doctest))]
pub mod guide;
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
