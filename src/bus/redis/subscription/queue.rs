//! The queue from a subscription to the one task that consumes it: bounded in number and in bytes.

use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::bus::{BusEvent, EVENT_BYTES, GapCause, Position};
use crate::event::MAX_PAYLOAD;

/// What a message takes in the queue beyond its payload.
const PLACE: usize = 64;

/// A payload, and the room that it takes in the queue until its consumer is done with it.
struct Queued {
    payload: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Queued {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

/// One connection's end of the queue.
///
/// It never waits, so that a consumer that is stuck does not keep the connection from being read. Where
/// it has no place, the event is dropped, and the next one that finds a place reports it.
pub(super) struct Queue<'a> {
    events: &'a mpsc::Sender<BusEvent>,
    room: &'a Arc<Semaphore>,
    /// Events were dropped because the queue was full; what its next event is to say.
    lost: Option<GapCause>,
}

impl<'a> Queue<'a> {
    pub(super) fn new(events: &'a mpsc::Sender<BusEvent>, room: &'a Arc<Semaphore>) -> Self {
        Self {
            events,
            room,
            lost: None,
        }
    }

    /// Passes on what a lane's channel has said; `None` is what no instance of this crate says.
    pub(super) fn heard(&mut self, lane: u32, message: Option<Vec<(Position, Bytes)>>) {
        let Some(events) = message else {
            return self.pass(BusEvent::Garbled { lane });
        };
        for (position, payload) in events {
            self.message(lane, position, payload);
        }
    }

    /// Passes a message on, if the queue has room for its bytes.
    fn message(&mut self, lane: u32, position: Position, payload: Bytes) {
        let takes = u32::try_from(payload.len() + PLACE).unwrap_or(u32::MAX);
        match Arc::clone(self.room).try_acquire_many_owned(takes) {
            Ok(room) => {
                let queued = Queued {
                    payload,
                    _room: room,
                };
                self.pass(BusEvent::Message {
                    lane,
                    position,
                    payload: Bytes::from_owner(queued),
                });
            }
            Err(_) => self.lose(GapCause::Lagged),
        }
    }

    /// Passes an event on.
    pub(super) fn pass(&mut self, event: BusEvent) {
        // 1: an event is dropped; 2: a place is free; 3: another event comes, which must not pass for
        // the next one after those before 1.
        if let Some(cause) = self.lost.take()
            && let Err(TrySendError::Full(_)) = self.events.try_send(BusEvent::Gap(cause))
        {
            self.lost = Some(cause);
        }
        let cause = match &event {
            BusEvent::Gap(cause) => *cause,
            BusEvent::Subscribed | BusEvent::Message { .. } | BusEvent::Garbled { .. } => {
                GapCause::Lagged
            }
        };
        // An error of the other kind means that the receiver of the events is gone, which the task
        // of the subscription sees.
        if self.lost.is_some() || matches!(self.events.try_send(event), Err(TrySendError::Full(_)))
        {
            self.lose(cause);
        }
    }

    /// The more serious cause stays.
    fn lose(&mut self, cause: GapCause) {
        if self.lost != Some(GapCause::Disconnected) {
            self.lost = Some(cause);
        }
    }

    /// Returns whether the consumer is behind.
    pub(super) fn is_half_full(&self) -> bool {
        self.events.capacity() < self.events.max_capacity() / 2
            || self.room.available_permits() < EVENT_BYTES / 2
    }

    /// Returns whether a dropped event is to be reported.
    pub(super) fn owes_a_gap(&self) -> bool {
        self.lost.is_some()
    }

    /// Reports a dropped event, if there was one.
    pub(super) fn report_gap(&mut self) {
        if let Some(cause) = self.lost.take() {
            self.pass(BusEvent::Gap(cause));
        }
    }
}

/// Waits until the queue has room for another message. Cancel safe.
pub(super) async fn vacancy(events: &mpsc::Sender<BusEvent>, room: &Semaphore) {
    let largest = (MAX_PAYLOAD + PLACE) as u32;
    let room = room.acquire_many(largest).await;
    let place = events.reserve().await;
    // Neither is closed before the task of the subscription has seen it.
    if room.is_err() || place.is_err() {
        pending().await
    }
}
