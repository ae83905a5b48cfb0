//! What `unstale` promises, one file per promise: in process, under tokio's paused clock where time
//! matters.

// What uses the crate cannot be in `testkit`, which its unit tests use, too.
#[path = "../support/mod.rs"]
mod support;

mod after;
mod audit;
mod callers;
mod causes;
mod clocks;
mod coherence;
mod contained;
mod crashes;
mod eager;
mod expiry;
mod exposure;
mod faults;
#[allow(
    clippy::duplicate_mod,
    reason = "the same faults with the shared tier on"
)]
#[path = "faults.rs"]
mod faults_with_the_shared_tier;
mod flights;
mod hangs;
mod health;
mod hooks;
mod keys;
mod lanes;
mod latest;
mod lifecycle;
mod limits;
mod loaders;
mod many;
mod operation;
mod outages;
#[allow(
    clippy::duplicate_mod,
    reason = "the same faults with the shared tier on"
)]
#[path = "outages.rs"]
mod outages_with_the_shared_tier;
mod race;
mod recorder;
mod replicas;
mod shared;
mod sources;
mod spans;
mod stale_if_error;
mod store;
mod types;
mod unknown_keys;
mod writes;
