//! Where a bus counts its bytes.

use std::sync::Arc;

use super::cells::Family;
use super::labels::Kind;

/// Bytes sent and received, by kind, protocol framing included.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(super) sent: Arc<Family<Kind>>,
    pub(super) received: Arc<Family<Kind>>,
}

impl Traffic {
    pub(crate) fn sent(&self, kind: Kind, bytes: usize) {
        self.sent[kind].add(bytes as u64);
    }

    pub(crate) fn received(&self, kind: Kind, bytes: usize) {
        self.received[kind].add(bytes as u64);
    }

    /// Bytes sent and received so far, of all kinds.
    #[cfg(test)]
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.sent.total(), self.received.total())
    }
}
