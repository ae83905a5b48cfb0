//! Who is in the fleet now, and how they sign.

use std::time::Duration;

use crate::bus::redis::inspect::Server;
use crate::event::Seal;
use crate::{Error, Settings};

/// Returns how many members sign events with other keys than these settings, or not at all where these do: what
/// one of them publishes, the other does not believe.
///
/// # Errors
///
/// As [`connect`](super::connect).
pub async fn of_other_keys(settings: &Settings, server: &Server) -> Result<usize, Error> {
    let alive = alive(settings, server).await?;
    let keys = Seal::new(settings).prints();
    let notes = server.notes(&alive).await?;
    Ok(notes.values().filter(|note| !note.agrees(&keys)).count())
}

/// Members that were heard of within the `member_timeout` of these settings.
pub(super) async fn alive(settings: &Settings, server: &Server) -> Result<Vec<u64>, Error> {
    let members = server.lane(0).await?.members;
    let now = server.time().await?;
    let heard_of = |beat: &Duration| now.saturating_sub(*beat) <= settings.member_timeout;
    let alive = members.iter().filter(|(_, beat)| heard_of(beat));
    Ok(alive.map(|(member, _)| *member).collect())
}
