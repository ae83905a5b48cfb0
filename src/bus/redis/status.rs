//! The state of a connection, as callers and the log see it.

use super::error;
use crate::{Error, ErrorKind};

/// The state of a connection.
#[derive(Clone, Debug, Default)]
pub(super) enum Status {
    /// The first attempt has not ended.
    #[default]
    Starting,
    /// It works; a subscription has been proven.
    Up,
    /// It does not work, for this reason; attempts go on.
    Down(Error),
}

impl Status {
    pub(super) fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }

    /// Returns the error for a caller that needs the connection now.
    pub(super) fn error(&self) -> Error {
        match self {
            Self::Down(error) => error.clone(),
            Self::Starting | Self::Up => Error::new(ErrorKind::Bus, "Redis did not answer in time"),
        }
    }

    /// Returns the error that no waiting removes.
    pub(super) fn permanent(&self) -> Option<Error> {
        match self {
            Self::Down(error) if error::is_permanent(error) => Some(error.clone()),
            _ => None,
        }
    }
}
