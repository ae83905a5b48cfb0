//! What is wrong with one instance's connection to a local bus.

use std::time::Duration;

use crate::bus::BusEvent;

/// What is wrong with a connection. All of it is set by `unstale::testing` only.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    /// No connection at all: commands fail at once.
    pub(super) cut: bool,
    /// Half-open: nothing arrives in either direction, and neither side notices.
    pub(super) silent: bool,
    /// The connection broke while it was silent; found out when that heals.
    pub(super) broken: bool,
    /// Connected, but the channels are not subscribed.
    pub(super) unsubscribed: bool,
    /// Deliveries are lost although commands work, and no new subscription helps.
    pub(super) deaf: bool,
    /// Commands do not arrive although deliveries do.
    pub(super) mute: bool,
    /// Commands have their effect, but their replies are lost.
    pub(super) replies_lost: bool,
    /// What commands take on their way to the server, and their replies back.
    pub(super) slow: (Duration, Duration),
    /// The instance does not run: its commands wait, and so does what is delivered to it.
    pub(super) stalled: bool,
    /// Verifications of this lane take so long.
    pub(super) slow_lane: Option<(u32, Duration)>,
    /// It speaks to the isolated server that was the primary.
    pub(super) isolated: bool,
    /// The server answers every command with an error.
    pub(super) refused: bool,
    /// Publishes wait for this to end.
    pub(super) publish_paused: bool,
    pub(super) fail_publishes: u32,
    pub(super) lose_acks: u32,
    pub(super) lose: u32,
    pub(super) garble: u32,
    pub(super) duplicate: u32,
    /// Messages are collected here instead of being delivered.
    pub(super) held: Option<Vec<BusEvent>>,
    /// Everything arrives this much later, in order.
    pub(super) delay: Duration,
}

/// Counts one down. Returns whether there was one.
pub(super) fn take_one(left: &mut u32) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}
