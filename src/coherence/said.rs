//! What the log has said of an instance's state so far.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// What was said last.
pub(super) const NOTHING: u8 = 0;
pub(super) const COHERENT: u8 = 1;
pub(super) const DEGRADED: u8 = 2;
pub(super) const CLOSED: u8 = 3;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct StateLog {
    pub(super) said: AtomicU8,
    /// It has said which instance has joined what.
    pub(super) joined: AtomicBool,
    /// When the next "degraded" may be said.
    pub(super) next: AtomicU64,
    /// Other members of the fleet when this instance entered it.
    pub(super) others: AtomicU32,
}

impl StateLog {
    pub(crate) fn set_others(&self, others: u32) {
        self.others.store(others, Relaxed);
    }
}
