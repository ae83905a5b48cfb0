//! What the tests stand on: servers, faults, processes, and a judge that sees only HTTP.

#![allow(dead_code, reason = "not every fixture is used by every test")]

pub(crate) mod cluster;
pub(crate) mod exposure;
pub(crate) mod fleet;
pub(crate) mod judge;
pub(crate) mod nodes;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod python;
pub(crate) mod redis;
pub(crate) mod resp;
pub(crate) mod sentinel;
pub(crate) mod service;
#[cfg(feature = "cli")]
pub(crate) mod shell;
pub(crate) mod tls;

mod tests;
