//! What is wrong with bytes that cannot be decoded.

use std::fmt;

/// Why bytes are no message of pgoutput. It shows nothing of them: they may be a user's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(super) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message of the log cannot be read: {}", self.0)
    }
}

impl std::error::Error for Malformed {}
