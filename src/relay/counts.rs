//! What the reader of a log counts.

use crate::metrics::{RelayCollapse, RelayMetrics};

/// What was read since the last time, in plain numbers: a row costs no more than an addition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) commits: u64,
    pub(crate) rows: u64,
    /// Rows of tables that no rule maps.
    pub(crate) unmapped: u64,
    /// Caches that are dropped whole, for they had too many names.
    pub(crate) collapsed: u64,
    pub(crate) truncated: u64,
    pub(crate) altered: u64,
    pub(crate) large: u64,
    /// Values that a rule needs and the log did not have.
    pub(crate) missing: u64,
    pub(crate) garbled: u64,
}

impl Counts {
    pub(crate) fn add_to(self, metrics: &RelayMetrics) {
        metrics.commits.add(self.commits);
        metrics.rows.add(self.rows);
        metrics.unmapped_rows.add(self.unmapped);
        for (cause, times) in [
            (RelayCollapse::Names, self.collapsed),
            (RelayCollapse::Truncate, self.truncated),
            (RelayCollapse::Altered, self.altered),
            (RelayCollapse::Large, self.large),
            (RelayCollapse::Missing, self.missing),
            (RelayCollapse::Garbled, self.garbled),
        ] {
            metrics.collapses[cause].add(times);
        }
    }
}
