//! What the scenarios stand on: a Redis of their own, its counters, and the programs themselves.

#![allow(
    dead_code,
    unused_imports,
    reason = "not every fixture is used by every test"
)]

pub(crate) mod fleet;
