//! In place of the crate's: shuttle's atomics, and few stripes, because every run makes new ones.

pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(crate) const STRIPES: usize = 16;
