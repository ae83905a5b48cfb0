//! Instances of the crate, in the forms in which several programs of tests want them.

#![allow(dead_code, reason = "not every program of tests uses everything")]

pub(crate) mod logged;
pub(crate) mod nodes;
pub(crate) mod over_redis;
pub(crate) mod sharing;
