//! A relay, a PostgreSQL, a Redis and three instances: rows are changed by SQL alone, and every read is judged.
//!
//! What is judged under load are processes, seen over HTTP; one change at a time is looked at from inside.
//!
//! The clock is the real one, so nothing is concluded from a pause: tests wait for conditions, with a deadline. The
//! bound on what is served is a promise, and holds on every machine.

// What uses the crate cannot be in `testkit`, which its unit tests use, too.
#[path = "../support/mod.rs"]
mod support;

mod changes;
mod database;
mod failover;
mod faults;
mod fleet;
mod judge;
mod keys;
mod large;
mod logins;
mod messages;
mod metrics;
mod program;
mod remains;
mod replicas;
mod report;
mod rig;
mod rules;
mod schema;
mod servers;
mod service;
mod setup;
mod slot;
mod tables;
mod tls;
mod trial;

use std::time::Duration;

use crate::support::nodes::ms;

/// The bound of every cache that is judged, counted from the commit.
const MAX_STALENESS: Duration = ms(2_000);

/// What the judge's own way may add.
const ALLOWANCE: Duration = ms(250);

const VERIFY_INTERVAL: Duration = ms(200);

/// A relay's lease is as long.
const MEMBER_TIMEOUT: Duration = ms(1_000);
