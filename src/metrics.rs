//! TEMP: replaced by the metrics module.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What bytes on the wire are for; the label values of the byte counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Publishing events (requests and acknowledgements).
    Publish,
    /// Events delivered by the subscription.
    Deliver,
    /// Verifications: the beat that also counts as membership.
    Verify,
    /// Reading the journal.
    Repair,
    /// Recording intents of writes.
    Intent,
    /// Connecting, authenticating, subscribing, loading scripts, goodbye.
    Connect,
}

/// Bytes sent and received, by kind, protocol framing included.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    sent: [AtomicU64; 6],
    received: [AtomicU64; 6],
}

impl Traffic {
    pub(crate) fn sent(&self, kind: Kind, bytes: usize) {
        self.sent[kind as usize].fetch_add(bytes as u64, Relaxed);
    }
    pub(crate) fn received(&self, kind: Kind, bytes: usize) {
        self.received[kind as usize].fetch_add(bytes as u64, Relaxed);
    }
}
