//! What the tests stand on: servers, faults, processes, and a judge that sees only HTTP.
//!
//! A fixture panics where it cannot do its work, so that its test fails and is never skipped.

pub mod cluster;
pub mod leaks;
pub mod redis;
pub mod resp;
pub mod sentinel;
pub mod tls;

#[cfg(feature = "processes")]
pub mod built;
#[cfg(feature = "processes")]
pub mod example;
#[cfg(feature = "processes")]
pub mod fleet;
#[cfg(feature = "processes")]
pub mod judge;
#[cfg(feature = "processes")]
pub mod postgres;
#[cfg(feature = "processes")]
pub mod program;
#[cfg(feature = "processes")]
pub mod prometheus;
#[cfg(feature = "processes")]
pub mod proxy;
#[cfg(feature = "processes")]
pub mod python;
#[cfg(feature = "processes")]
pub mod service;
#[cfg(feature = "processes")]
pub mod shell;

#[cfg(test)]
mod tests;
