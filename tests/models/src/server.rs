//! A server of one lane: the crate's own, and what can happen to it.

use std::time::Duration;

use bytes::Bytes;

use crate::bus::local::lane::{Beat, Lane, Moment, Published};
use crate::bus::{Intent, IntentId, Journal, Known, Position, Verified};
use crate::mutants::{Mechanism, without};
use crate::state::{MEMBER_TIMEOUT, Tick};

/// A timeout that never passes.
const NEVER: Duration = Duration::from_secs(1_000_000);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    lane: Lane,
    /// Which life of the server this is; stands for Redis' run id.
    pub(crate) run: u64,
    /// Epochs drawn so far. The crate draws one for every call; one that is not used is drawn
    /// again here, so that equal states are equal.
    epochs: u64,
    pub(crate) now: Tick,
    journal: u32,
}

impl Server {
    pub(crate) fn new(journal: u32) -> Self {
        Self {
            lane: Lane::new(0),
            run: 0,
            epochs: 0,
            now: 0,
            journal,
        }
    }

    pub(crate) fn publish(&mut self, payload: Bytes, clears: &[IntentId]) -> Published {
        let moment = self.moment();
        let published = self.lane.publish(&moment, self.journal, payload, clears);
        self.note_epoch();
        published
    }

    /// A beat of an instance, and what it published for dead members.
    pub(crate) fn verify(&mut self, instance: u64) -> (Verified, Vec<Published>) {
        let timeout = if without(Mechanism::IntentRecovery) {
            NEVER
        } else {
            seconds(MEMBER_TIMEOUT)
        };
        let beat = Beat {
            instance,
            member_timeout: timeout,
            lanes: 1,
            journal: self.journal,
            known: Known,
        };
        let mut published = Vec::new();
        let moment = self.moment();
        let verified = self
            .lane
            .verify(&moment, &beat, &mut published)
            .expect("all agree on one lane");
        self.note_epoch();
        (verified, published)
    }

    pub(crate) fn journal(&self, after: u64) -> Journal {
        self.lane.journal(self.run, after)
    }

    /// Records an intent. Returns whether the instance was a member before.
    pub(crate) fn record(
        &mut self,
        instance: u64,
        id: IntentId,
        left: Tick,
        payload: Bytes,
    ) -> bool {
        let intent = Intent {
            id,
            deadline: seconds(left),
            payload,
        };
        let now = seconds(self.now);
        self.lane
            .announce(now, instance, seconds(MEMBER_TIMEOUT), vec![intent])
    }

    pub(crate) fn flush(&mut self) {
        self.lane = Lane::new(0);
    }

    /// Another life of the server, without its last events: a failover, or a restart from disk.
    pub(crate) fn restart_losing(&mut self, events: u64) {
        self.lane.forget(events);
        self.run += 1;
    }

    pub(crate) fn drop_counter(&mut self) {
        self.lane.drop_counter();
    }

    pub(crate) fn drop_journal(&mut self) {
        self.lane.drop_journal();
    }

    pub(crate) fn head(&self) -> Position {
        self.lane.head()
    }

    fn moment(&self) -> Moment {
        let fresh_epoch = if without(Mechanism::Epochs) {
            1
        } else {
            self.epochs + 1
        };
        Moment {
            now: seconds(self.now),
            run: self.run,
            fresh_epoch,
        }
    }

    fn note_epoch(&mut self) {
        self.epochs = self.epochs.max(self.head().epoch);
    }
}

fn seconds(ticks: Tick) -> Duration {
    Duration::from_secs(u64::from(ticks))
}
