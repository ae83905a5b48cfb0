//! The server of one namespace: its lanes, and the life it is in.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::gather::Gather;
use super::history::Signs;
use super::lane::{Beat, Lane, Moment, OtherLanes, Published};
use super::marks::LaneMarks;
use super::tier::{Tier, millis};
use crate::bus::tier::{ClaimId, Fetch, Fetched, Name, Put, Stored};
use crate::bus::{Intent, IntentId, Journal, Mark, Marked, StillOpen, Verified};
use crate::mutants::{Mechanism, without};

/// Epochs have this many bits, as over Redis, whose scripts count exactly to 2^53.
const EPOCH_BITS: u32 = 52;

/// What one Redis is for one namespace, without I/O: every call is given the time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server {
    lanes: BTreeMap<u32, Lane>,
    /// Each lane's part of the shared tier. What happens to a lane is noted there in the same step.
    tiers: BTreeMap<u32, Tier>,
    /// What waits to be delivered in each lane.
    gathers: BTreeMap<u32, Gather>,
    /// What relays have marked in each lane.
    marks: BTreeMap<u32, LaneMarks>,
    /// Which life of the server this is; stands for Redis' run id.
    run: u64,
    /// Epochs drawn so far.
    epochs: u64,
}

impl Server {
    /// Gives an event its sequence, journals it and clears the intents.
    pub(crate) fn publish(
        &mut self,
        now: Duration,
        lane: u32,
        journal: u32,
        payload: Bytes,
        clears: &[IntentId],
    ) -> Published {
        let moment = self.moment(now);
        let published = self.lane(lane).publish(&moment, journal, payload, clears);
        self.tier(lane)
            .remember(published.position, &published.payload);
        published
    }

    /// A member's beat; what it published for dead members goes to `published`. One that `shares`
    /// uses the shared tier, and says whether events are signed.
    pub(crate) fn verify(
        &mut self,
        now: Duration,
        lane: u32,
        beat: &Beat,
        (shares, sources): (Option<Signs>, &[String]),
        published: &mut Vec<Published>,
    ) -> Result<Verified, OtherLanes> {
        let moment = self.moment(now);
        let head = self.lane(lane).head();
        if shares.is_some() && self.tier(lane).is_beyond(head) {
            self.lane(lane).doubt();
        }
        let epoch = self.lane(lane).head().epoch;
        let verified = self.lane(lane).verify(&moment, beat, published)?;
        if verified.head.epoch != epoch {
            self.gather(lane).discard();
        }
        let tier = self.tier(lane);
        for Published {
            position, payload, ..
        } in published
        {
            tier.remember(*position, payload);
        }
        if let Some(signs) = shares {
            tier.begin(verified.head, signs);
        }
        let counted = self.marks(lane).count(now, verified.head.epoch, sources);
        Ok(Verified {
            counted,
            ..verified
        })
    }

    /// Sets a relay's mark.
    pub(crate) fn mark(&mut self, now: Duration, lane: u32, mark: Mark) -> Marked {
        let head = self.lane(lane).head();
        self.marks(lane).mark(now, head, mark)
    }

    /// At most a page of the events after `after`.
    pub(crate) fn journal(&mut self, lane: u32, after: u64) -> Journal {
        let run = self.run;
        self.lane(lane).journal(run, after)
    }

    /// Announces intents. Returns whether the instance was a member before.
    pub(crate) fn announce(
        &mut self,
        now: Duration,
        lane: u32,
        instance: u64,
        timeout: Duration,
        intents: Vec<Intent>,
    ) -> bool {
        self.lane(lane).announce(now, instance, timeout, intents)
    }

    /// Clears the instance's intents in a lane whose writes have ended.
    pub(crate) fn reconcile(&mut self, lane: u32, instance: u64, open: &StillOpen) {
        self.lane(lane).reconcile(instance, open);
    }

    /// Asks for a value of the shared tier.
    pub(crate) fn fetch(&mut self, now: Duration, lane: u32, fetch: &Fetch) -> Fetched {
        // Another life of the server knows nothing of what was lost with the one before.
        let run = self.run;
        let of = self.lane(lane);
        let (head, sound) = (of.head(), of.is_verified_in(run));
        self.tier(lane).fetch(head, sound, millis(now), fetch)
    }

    /// Stores a value of the shared tier.
    pub(crate) fn put(&mut self, lane: u32, put: Put) -> Stored {
        let head = self.lane(lane).head();
        self.tier(lane).put(head, put)
    }

    /// Gives a claim up.
    pub(crate) fn release(&mut self, lane: u32, name: &Name, claim: ClaimId) {
        self.tier(lane).release(name, claim);
    }

    /// Removes the instance from every lane where it has no open writes.
    pub(crate) fn leave(&mut self, instance: u64, open: &StillOpen) {
        for lane in self.lanes.values_mut() {
            lane.leave(instance, open);
        }
    }

    fn lane(&mut self, number: u32) -> &mut Lane {
        self.lanes
            .entry(number)
            .or_insert_with(|| Lane::new(number))
    }

    /// Returns what waits to be delivered in a lane.
    pub(crate) fn gather(&mut self, lane: u32) -> &mut Gather {
        self.gathers.entry(lane).or_default()
    }

    fn marks(&mut self, lane: u32) -> &mut LaneMarks {
        self.marks.entry(lane).or_default()
    }

    fn tier(&mut self, lane: u32) -> &mut Tier {
        self.tiers.entry(lane).or_default()
    }

    /// Draws an epoch for every call, needed or not: it is the number of the call, scattered so
    /// that nothing can come to rely on the order of epochs. Never 0, which means "no counter".
    fn moment(&mut self, now: Duration) -> Moment {
        self.epochs += 1;
        let scattered = xxh3_64_with_seed(&self.epochs.to_be_bytes(), self.run);
        let fresh_epoch = if without(Mechanism::Epochs) {
            1
        } else {
            (scattered >> (u64::BITS - EPOCH_BITS)).max(1)
        };
        Moment {
            now,
            run: self.run,
            fresh_epoch,
        }
    }
}

/// What can happen to a server.
#[cfg(any(test, feature = "test-util"))]
impl Server {
    /// Another life of the server: the next verification of each lane begins a new epoch.
    pub(crate) fn restart(&mut self) {
        self.run += 1;
    }

    /// The last events of each lane never happened.
    pub(crate) fn forget(&mut self, events: u64) {
        for (number, lane) in &mut self.lanes {
            lane.forget(events);
            if let Some(tier) = self.tiers.get_mut(number) {
                tier.forget(lane.head().sequence);
            }
        }
    }

    /// It holds what it held at another time, in the same life. A server that held nothing is empty.
    pub(crate) fn put_back(&mut self, held: Option<&Self>) {
        self.flush();
        if let Some(held) = held {
            self.lanes.clone_from(&held.lanes);
            self.tiers.clone_from(&held.tiers);
            self.gathers.clone_from(&held.gathers);
            self.marks.clone_from(&held.marks);
        }
    }

    /// Everything is gone.
    pub(crate) fn flush(&mut self) {
        self.lanes.clear();
        self.tiers.clear();
        self.gathers.clear();
        self.marks.clear();
    }

    /// The shared tier's history and values are gone, as when Redis evicts them.
    pub(crate) fn drop_tier(&mut self) {
        self.tiers.clear();
    }

    pub(crate) fn drop_tier_history(&mut self) {
        self.tiers.values_mut().for_each(Tier::drop_history);
    }

    pub(crate) fn drop_tier_values(&mut self) {
        self.tiers.values_mut().for_each(Tier::drop_values);
    }

    pub(crate) fn each_lane(&mut self, change: impl FnMut(&mut Lane)) {
        self.lanes.values_mut().for_each(change);
    }
}
