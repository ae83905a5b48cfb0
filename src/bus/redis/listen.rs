//! Where the events of the lanes are subscribed to.

use crate::settings::SubscribeAt;
use crate::url::{self, Place};

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// The primary of each lane.
    Primary,
    /// A replica of it, as it knows them.
    Replicas,
    /// One server for all.
    At(Place),
}

impl Listen {
    pub(super) fn of(setting: &SubscribeAt) -> Self {
        match setting {
            SubscribeAt::Primary => Self::Primary,
            SubscribeAt::Replicas => Self::Replicas,
            // A text that names no server was refused with the settings.
            SubscribeAt::Server(server) => url::server(server).map_or(Self::Primary, Self::At),
        }
    }
}
