//! What the store is built on, in one place: `tests/shuttle` puts its own in place of this, to run
//! the store under every schedule of its threads.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Stripes of key hashes and of tag hashes. Two names that share a stripe are invalidated together:
/// a tagged entry lives about `STRIPES / r` seconds under `r` tag invalidations a second, and a
/// load that takes `d` seconds is discarded needlessly with probability `r * d / STRIPES`.
/// 65,536 take 1 MiB an instance for both.
pub(crate) const STRIPES: usize = 65_536;
