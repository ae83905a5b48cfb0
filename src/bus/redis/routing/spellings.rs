//! Servers that sentinels name in several ways: one announces a host's name, another its address.
//!
//! What counts is the address, because it says which server it is: a name may lead elsewhere by the
//! time of the next connection. A name that was found to be an address is looked up again whenever it is
//! elected.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::time::Instant;

use super::poll::Poll;
use crate::Error;
use crate::bus::redis::dial::Door;
use crate::bus::redis::error::unknown_place;
use crate::bus::redis::target::Target;
use crate::lock::Lock;
use crate::url::Place;

/// Names that are remembered: of the servers of one service, far fewer than that.
const MOST_NAMES: usize = 64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Spellings {
    /// How names are looked up: one at a time each.
    doors: Lock<BTreeMap<Place, Arc<Door>>>,
    /// By a name, the address that others call the same server by.
    addresses: Lock<BTreeMap<Place, Place>>,
}

impl Spellings {
    /// Counts the votes for a name as votes for an address that is named, too, if it leads there.
    pub(super) async fn unite(&self, poll: &mut Poll, target: &Target, deadline: Instant) {
        let named = poll.named();
        let (addresses, names): (BTreeSet<Place>, BTreeSet<Place>) = named
            .into_iter()
            .partition(|place| address(place).is_some());
        for name in names {
            let found = self
                .look_up(&name, target, deadline)
                .await
                .unwrap_or_default();
            let same = |place: &&Place| address(place).is_some_and(|at| found.contains(&at));
            let Some(place) = addresses.iter().find(same) else {
                continue;
            };
            poll.count_as(&name, place);
            let announced = {
                let mut known = self.addresses.lock();
                if known.len() >= MOST_NAMES {
                    known.clear();
                }
                known.insert(name, place.clone());
                let pairs = known.iter();
                pairs
                    .map(|(name, place)| (place.clone(), name.host.clone()))
                    .collect()
            };
            target.announce(announced);
        }
    }

    /// Returns the place that was elected, by its address if others name it by that.
    ///
    /// # Errors
    ///
    /// Whether it is that address cannot be found out now.
    pub(super) async fn known(
        &self,
        elected: &Place,
        target: &Target,
        deadline: Instant,
    ) -> Result<Place, Error> {
        let known = self.addresses.lock().get(elected).cloned();
        let Some(place) = known else {
            return Ok(elected.clone());
        };
        let found = self.look_up(elected, target, deadline).await;
        let found = found.map_err(unknown_place)?;
        if address(&place).is_some_and(|at| found.contains(&at)) {
            return Ok(place);
        }
        self.addresses.lock().remove(elected);
        Ok(elected.clone())
    }

    async fn look_up(
        &self,
        name: &Place,
        target: &Target,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, String> {
        let door = {
            let mut doors = self.doors.lock();
            if doors.len() >= MOST_NAMES {
                doors.clear();
            }
            let door = doors.entry(name.clone());
            Arc::clone(door.or_insert_with(|| Arc::new(target.door_to(name))))
        };
        door.addresses(deadline).await
    }
}

fn address(place: &Place) -> Option<SocketAddr> {
    let host: IpAddr = place.host.parse().ok()?;
    Some(SocketAddr::new(host, place.port))
}
