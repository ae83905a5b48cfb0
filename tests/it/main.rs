//! What `unstale` promises, one file per promise.

mod support;

mod audit;
#[cfg(feature = "cli")]
mod cli;
mod coherence;
mod contained;
mod copies;
mod crashes;
mod dashboards;
#[cfg(feature = "cli")]
mod demo;
mod deploy;
mod documents;
mod examples;
mod expiry;
mod faults;
#[cfg(feature = "shared")]
#[allow(
    clippy::duplicate_mod,
    reason = "the same faults with the shared tier on"
)]
#[path = "faults.rs"]
mod faults_with_the_shared_tier;
mod fleet;
mod flights;
mod halted;
mod hangs;
mod health;
mod lanes;
mod latest;
mod lifecycle;
mod limits;
mod many;
mod outages;
#[cfg(feature = "shared")]
#[allow(
    clippy::duplicate_mod,
    reason = "the same faults with the shared tier on"
)]
#[path = "outages.rs"]
mod outages_with_the_shared_tier;
mod python;
mod race;
#[cfg(feature = "cli")]
mod readme;
mod recorder;
mod redis;
#[cfg(feature = "shared")]
mod shared;
mod soak;
mod stack;
mod stand_in;
mod store;
#[cfg(feature = "shared")]
mod stress;
#[cfg(feature = "cli")]
mod ttl;
mod unknown_keys;
mod writes;
