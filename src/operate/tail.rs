//! Listening to every lane without an instance.

use std::fmt;

use super::access::Access;
use crate::bus::redis::inspect::Server;
use crate::bus::{Bus, BusEvent, GapCause, StillOpen};
use crate::event::{DecodeError, Event, Mac, NO_ORIGIN, Op, Seal, What};
use crate::{Error, Settings};

/// Listens to every lane.
pub struct Tail(Access);

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("bus", &self.0.bus).finish()
    }
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// From here on every event is heard.
    Subscribed,
    /// Events may have been missed: the connection was lost, or this side was too slow.
    Gap {
        /// In a word.
        cause: &'static str,
    },
    /// An event.
    Event(Heading, Contents),
    /// Something on a lane's channel that is no message.
    Garbled {
        /// The lane.
        lane: u32,
    },
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heading {
    /// The lane.
    pub lane: u32,
    /// The life of the lane's counter.
    pub epoch: u64,
    /// The event's number in it.
    pub sequence: u64,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Invalidations.
    Drops {
        /// The instance that published; `None` for a dead one's, published by a peer.
        origin: Option<u64>,
        /// One by one.
        drops: Vec<Drops>,
    },
    /// Instances drop the whole lane, since they cannot read it.
    Unreadable {
        /// Why not.
        why: String,
    },
}

/// One invalidation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drops {
    /// The cache's id; 0 for a lane.
    pub cache: u32,
    /// The key format of the sender.
    pub format: u32,
    /// `key`, `tag`, `cache` or `lane`.
    pub kind: &'static str,
    /// The keys' or tags'; none for everything.
    pub hashes: Vec<u64>,
}

impl Tail {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// As [`connect`](super::connect); also `Auth` where the user lacks a right that instances need.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        Ok(Self(Access::open(settings).await?))
    }

    /// Returns how many lanes it listens to.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        self.0.lanes
    }

    /// Waits for what comes next. A lost connection is retried without end.
    ///
    /// # Cancel safety
    ///
    /// No event is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Heard> {
        let mut event = self.0.events.recv().await?;
        // In a cluster one comes for each node.
        while matches!(event, BusEvent::Subscribed) && !self.0.bus.subscribed() {
            event = self.0.events.recv().await?;
        }
        Some(match event {
            BusEvent::Subscribed => Heard::Subscribed,
            BusEvent::Gap(GapCause::Disconnected) => Heard::Gap {
                cause: "disconnected",
            },
            BusEvent::Gap(GapCause::Lagged) => Heard::Gap { cause: "lagged" },
            BusEvent::Garbled { lane } => Heard::Garbled { lane },
            BusEvent::Message {
                lane,
                position,
                payload,
            } => {
                let heading = Heading {
                    lane,
                    epoch: position.epoch,
                    sequence: position.sequence,
                };
                Heard::Event(heading, contents(self.0.seal.decode(lane, &payload)))
            }
        })
    }

    /// Stops listening.
    pub async fn close(self) {
        self.0.bus.close(StillOpen::default()).await;
    }
}

/// Returns what the latest event of lane 0 says, as these settings read it; `None` where there is none.
///
/// # Errors
///
/// As [`connect`](super::connect).
pub async fn last_event(settings: &Settings, server: &Server) -> Result<Option<Contents>, Error> {
    let payload = server.last_event(0).await?;
    let seal = Seal::new(settings);
    Ok(payload.map(|payload| contents(seal.decode(0, &payload))))
}

fn contents(read: Result<(Event, Mac), DecodeError>) -> Contents {
    match read {
        Ok((Event { origin, ops, .. }, _)) => Contents::Drops {
            origin: (origin != NO_ORIGIN).then_some(origin),
            drops: ops.into_iter().map(drops).collect(),
        },
        Err(why) => Contents::Unreadable {
            why: why.to_string(),
        },
    }
}

fn drops(op: Op) -> Drops {
    let (kind, hashes) = match op.what {
        What::Keys(hashes) => ("key", hashes),
        What::Tags(hashes) => ("tag", hashes),
        What::Cache => ("cache", Vec::new()),
        What::Lane => ("lane", Vec::new()),
    };
    Drops {
        cache: op.cache,
        format: op.format,
        kind,
        hashes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_writers_event_has_no_origin_and_noise_is_unreadable() {
        let seal = Seal::new(&Settings::default());
        let event = Event {
            origin: NO_ORIGIN,
            sent: 0,
            ops: vec![Op::lane()],
        };
        let payload = seal.encode(0, &event);
        let Contents::Drops { origin, drops } = contents(seal.decode(0, &payload)) else {
            unreachable!("it decodes");
        };
        assert_eq!((origin, drops[0].kind), (None, "lane"));
        assert!(matches!(
            contents(seal.decode(0, b"\xff")),
            Contents::Unreadable { .. }
        ));
    }
}
