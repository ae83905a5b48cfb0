//! How the two connections are, for whoever waits for them and for the log.

use tokio::sync::watch;

use super::fault;
use super::node::Node;
use crate::time::Clock;
use crate::{Error, ErrorKind};

/// How a connection is.
#[derive(Clone, Debug, Default)]
pub(super) enum Status {
    /// The first attempt has not ended.
    #[default]
    Starting,
    /// It works; a subscription has been proven.
    Up,
    /// It does not, and this is why; attempts go on.
    Down(Error),
}

impl Status {
    pub(super) fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }

    /// What a caller is told who needs the connection now.
    pub(super) fn error(&self) -> Error {
        match self {
            Self::Down(error) => error.clone(),
            Self::Starting | Self::Up => Error::new(ErrorKind::Bus, "Redis did not answer in time"),
        }
    }

    /// The error that no waiting mends.
    pub(super) fn permanent(&self) -> Option<Error> {
        match self {
            Self::Down(error) if fault::is_permanent(error) => Some(error.clone()),
            _ => None,
        }
    }
}

impl Node {
    /// Notes that a connection ended, or could not be made.
    pub(super) fn lost(&self, connection: &str, status: &watch::Sender<Status>, error: Error) {
        if fault::is_permanent(&error) {
            if self.common.refusals.opens() {
                tracing::error!(connection, server = %self.place, %error, "Redis refuses this instance; caches reload until it is let in");
            }
        } else if let Some(suppressed) = self.common.config.outages.allow(Clock::Kernel.now()) {
            tracing::warn!(
                connection, server = %self.place, suppressed, %error,
                "no connection to Redis; trying again for ever. Once max_staleness has passed, entries \
                 are loaded again instead of served"
            );
        }
        status.send_replace(Status::Down(error));
        self.common.changes.send_replace(());
        // Another may have taken its place.
        self.common.doubt.notify_one();
    }

    /// Notes that a connection works.
    pub(super) fn restored(&self, connection: &str, status: &watch::Sender<Status>) {
        if matches!(status.send_replace(Status::Up), Status::Down(_)) {
            tracing::info!(connection, server = %self.place, "connected to Redis again");
        }
        self.common.changes.send_replace(());
    }
}
