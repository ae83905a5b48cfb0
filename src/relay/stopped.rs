//! Why a relay ends its work.

use crate::Error;

/// Why a relay stops.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The log cannot be read any further: it is opened again, and everything is dropped.
    Log(Error),
    /// Redis refuses what a relay does; an operator must act.
    Bus(Error),
    /// Another relay has the lease.
    Other,
}
