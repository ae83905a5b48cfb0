//! What the scenarios stand on: a Redis of their own, its counters, and the programs themselves.

#![allow(
    dead_code,
    unused_imports,
    reason = "not every fixture is used by every test"
)]

// Included one by one: a file that is included by path looks for its own modules beside itself.
#[path = "../it/support/leaks.rs"]
pub(crate) mod leaks;
#[path = "../it/support/redis.rs"]
pub(crate) mod redis;
#[path = "../it/support/resp.rs"]
pub(crate) mod resp;

pub(crate) mod example;
pub(crate) mod fleet;
