//! Handles what the subscription delivers.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use crate::bus::{BusEvent, GapCause, Position};
use crate::coherence::Coherence;
use crate::coherence::follower::Heard;
use crate::coherence::passed::Place;
use crate::coherence::recent::Sender;
use crate::coherence::replies::ask_journal;
use crate::event::{DecodeError, Event, Mac, NO_ORIGIN};
use crate::metrics::{Dropped, Fence, Gap};
use crate::mutants::{Mechanism, without};

/// Messages of a lane that wait while its gap is repaired. Beyond it they are dropped, which is
/// one more gap.
const STASH: usize = 4_096;

/// Bytes of the payloads that wait in all lanes together: 2,048 of our own largest messages.
const STASH_BYTES: usize = 16 << 20;

impl Coherence {
    pub(super) fn on_event(&mut self, event: BusEvent) {
        match event {
            BusEvent::Subscribed => self.interrupt(None),
            BusEvent::Gap(cause) => self.interrupt(Some(cause)),
            BusEvent::Garbled { lane } => {
                self.member.metrics.gaps[Gap::Garbled].inc();
                let reason = "a message that no instance of this crate has sent";
                if self.member.seal.is_keyed() {
                    self.member.metrics.dropped[Dropped::Refused].inc();
                    self.refuse(lane, reason);
                } else {
                    self.member.metrics.dropped[Dropped::Undecodable].inc();
                    self.fence_undecodable(lane, reason);
                }
            }
            BusEvent::Message {
                lane,
                position,
                payload,
            } => {
                self.member.metrics.received.inc();
                if self.member.seal.is_keyed() {
                    self.hint(lane, position, &payload);
                    return;
                }
                let state = &mut self.lanes[lane as usize];
                if !state.follower.repairing() {
                    self.hear(lane, position, &payload);
                } else if state.stash.len() < STASH && self.stashed + payload.len() <= STASH_BYTES {
                    self.stashed += payload.len();
                    // The payload may be a slice of a large read buffer: keep only itself.
                    state
                        .stash
                        .push_back((position, Bytes::copy_from_slice(&payload)));
                } else {
                    self.member.metrics.dropped[Dropped::Overflow].inc();
                }
            }
        }
    }

    /// Messages may have been lost: verify at once, and take what is missing from the journal.
    fn interrupt(&mut self, cause: Option<GapCause>) {
        match cause {
            Some(GapCause::Disconnected) => self.member.metrics.gaps[Gap::Disconnected].inc(),
            Some(GapCause::Lagged) => self.member.metrics.gaps[Gap::Lagged].inc(),
            None => {}
        }
        let now = Instant::now();
        for state in &mut self.lanes {
            state.interrupted = true;
            if cause == Some(GapCause::Disconnected) {
                state.follower.disconnected(self.round);
                state.marks.disconnected();
                state.lost = true;
            }
            match cause {
                None => state.pace.reconnected(now),
                Some(_) => state.pace.hurry(now),
            }
        }
        for lane in 0..self.member.lane_count() {
            self.announce_reached(lane);
        }
    }

    fn hear(&mut self, lane: u32, position: Position, payload: &[u8]) {
        let event = self.decode(lane, payload).map(|(event, _)| event);
        let state = &mut self.lanes[lane as usize];
        if state.has_left(position.epoch) {
            // Late; or the server is back in that epoch, which a verification ends.
            self.member.metrics.dropped[Dropped::OtherEpoch].inc();
            self.verify_soon(lane);
            return;
        }
        let (heard, gap) = match &event {
            Ok(_) => (state.follower.hear(position, self.round), Gap::Sequence),
            Err(_) => (
                state.follower.hear_nonsense(position, self.round),
                Gap::Garbled,
            ),
        };
        let dropped = match heard {
            Heard::Next => {
                state.passed.add(position.sequence, xxh3_64(payload));
                self.announce_applied(lane);
                self.apply(lane, Some(position), event, true);
                self.verify_if_proven(lane);
                return;
            }
            Heard::Gap => {
                self.member.metrics.gaps[gap].inc();
                // Stays in the journal, from where it is applied after those before it. After a repair
                // that failed the next verification asks for it.
                if state
                    .repair_after
                    .is_some_and(|after| Instant::now() < after)
                {
                    return;
                }
                if let Some(repair) = state.follower.repair(position.sequence) {
                    ask_journal(&mut self.replies, &self.member, lane, repair);
                }
                return;
            }
            Heard::OtherEpoch => {
                self.member.metrics.gaps[Gap::Epoch].inc();
                self.verify_soon(lane);
                Dropped::OtherEpoch
            }
            Heard::Duplicate => {
                self.hear_again(lane, position, payload, event);
                return;
            }
            Heard::NotAdopted => Dropped::NotAdopted,
        };
        self.member.metrics.dropped[dropped].inc();
    }

    /// An event in a place that was passed. Only the very event that was applied there is left out, if
    /// its bytes were published once: an instance puts its id and its clock into each.
    ///
    /// Another one says that the lane's counter went back, and that what was lost of the numbers given
    /// out again looks like what is applied: the lane's life is doubted.
    fn hear_again(
        &mut self,
        lane: u32,
        position: Position,
        payload: &[u8],
        event: Result<Event, DecodeError>,
    ) {
        let state = &mut self.lanes[lane as usize];
        let place = state.passed.place(position.sequence, xxh3_64(payload));
        let unique = event.as_ref().is_ok_and(|event| event.origin != NO_ORIGIN);
        if (place == Place::Same && unique) || without(Mechanism::BackwardPositions) {
            self.member.metrics.dropped[Dropped::Duplicate].inc();
            return;
        }
        if place == Place::Taken {
            state.follower.distrust(self.round);
            state.taken = true;
            self.announce_reached(lane);
            self.member.metrics.gaps[Gap::Sequence].inc();
            self.verify_soon(lane);
        }
        self.apply(lane, None, event, true);
    }

    /// With a key, what the channel says is applied if it is genuine and news, at any place that it claims:
    /// a drop too many is harmless. Only the journal makes it count; see [`Follower::hint`].
    ///
    /// [`Follower::hint`]: crate::coherence::follower::Follower::hint
    fn hint(&mut self, lane: u32, position: Position, payload: &[u8]) {
        let (event, mac) = match self.decode(lane, payload) {
            Ok(genuine) => genuine,
            Err(error) => {
                self.member.metrics.gaps[Gap::Garbled].inc();
                self.member.metrics.dropped[Dropped::Refused].inc();
                // The subscription works: a writer without the key is no reason to renew it.
                self.lanes[lane as usize].follower.delivered(position);
                self.refuse(lane, &error.to_string());
                return;
            }
        };
        let state = &mut self.lanes[lane as usize];
        let unique = (event.origin != NO_ORIGIN).then_some(mac);
        if unique.is_some() && !state.origins.is_news(event.origin, event.sent) {
            state.follower.delivered(position);
            let again = state.follower.expects(position.sequence, mac)
                || state.passed.place(position.sequence, xxh3_64(payload)) == Place::Same;
            let why = if again {
                Dropped::Duplicate
            } else {
                Dropped::Replayed
            };
            self.member.metrics.dropped[why].inc();
            return;
        }
        match state.follower.hint(position, unique) {
            Heard::Duplicate => self.hear_again_signed(lane, position, payload, event),
            Heard::OtherEpoch => {
                // The next verification finds another epoch by itself.
                self.member.metrics.gaps[Gap::Epoch].inc();
                self.apply(lane, None, Ok(event), true);
            }
            Heard::Next | Heard::Gap | Heard::NotAdopted => self.apply(lane, None, Ok(event), true),
        }
    }

    /// As [`hear_again`](Self::hear_again), with a key: the place that the event claims is not proven,
    /// so it raises no doubt. A counter that went back is found by the next verification.
    fn hear_again_signed(&mut self, lane: u32, position: Position, payload: &[u8], event: Event) {
        let state = &self.lanes[lane as usize];
        let confirmed = state.follower.applied();
        let passed = confirmed.is_some_and(|applied| position.sequence <= applied.sequence);
        let same = state.passed.place(position.sequence, xxh3_64(payload)) == Place::Same;
        if !passed || (same && event.origin != NO_ORIGIN) || without(Mechanism::BackwardPositions) {
            self.member.metrics.dropped[Dropped::Duplicate].inc();
            return;
        }
        self.apply(lane, None, Ok(event), true);
    }

    /// Applies a page of the journal, without what the subscription has delivered in the same
    /// places already. Returns how many events it has not.
    pub(super) fn apply_journal(
        &mut self,
        lane: u32,
        epoch: u64,
        events: &[(u64, Bytes)],
    ) -> usize {
        let mut missed = 0;
        for (sequence, payload) in events {
            let read = self.decode(lane, payload);
            let state = &mut self.lanes[lane as usize];
            state.passed.add(*sequence, xxh3_64(payload));
            let mac = read.as_ref().ok().map(|(_, mac)| *mac);
            if self.member.seal.is_keyed()
                && let Ok((event, _)) = &read
            {
                state.origins.is_news(event.origin, event.sent);
            }
            if self.member.seal.is_keyed() && state.follower.confirm(*sequence, mac) {
                continue;
            }
            missed += 1;
            let position = Position {
                epoch,
                sequence: *sequence,
            };
            let event = read.map(|(event, _)| event);
            self.apply(lane, Some(position), event, false);
        }
        missed
    }

    fn decode(&self, lane: u32, payload: &[u8]) -> Result<(Event, Mac), DecodeError> {
        self.member.seal.decode(lane, payload)
    }

    pub(super) fn unstash(&mut self, lane: u32) {
        while !self.lanes[lane as usize].follower.repairing() {
            let Some((position, payload)) = self.lanes[lane as usize].stash.pop_front() else {
                return;
            };
            self.stashed -= payload.len();
            self.hear(lane, position, &payload);
        }
    }

    /// Says how far the lane is applied; before anything is.
    pub(super) fn announce_applied(&self, lane: u32) {
        let applied = self.lanes[lane as usize].follower.applied();
        self.member.lanes[lane as usize].applies(applied);
    }

    /// Says how far the lane is applied to reads after a token; after everything is.
    ///
    /// Nothing, where numbers may have been given out twice:
    /// 1: a primary gives the number n to an event and is replaced; 2: its replica, without that event, gives n to
    /// another one before anyone has it begin an epoch; 3: this instance hears the other one over its new connection,
    /// and is asked for n by the token of the first.
    pub(super) fn announce_reached(&self, lane: u32) {
        let state = &self.lanes[lane as usize];
        let sure = !state.lost && !state.taken;
        let applied = sure.then(|| state.follower.applied()).flatten();
        self.member.lanes[lane as usize].reached.set(applied);
    }

    /// Applies an event; its position where that is certain. `heard`: the subscription delivered it.
    pub(super) fn apply(
        &self,
        lane: u32,
        position: Option<Position>,
        event: Result<Event, DecodeError>,
        heard: bool,
    ) {
        let member = &self.member;
        match event {
            Ok(event) if event.origin == member.id && self.is_own(lane, &event) => {
                // Dropped here before it was published; see the outbox.
                member.metrics.dropped[Dropped::Own].inc();
                member.apply_own(lane, position, &event.ops);
                if heard {
                    self.measure(&event);
                }
            }
            Ok(event) => {
                if event.origin == member.id {
                    self.note_stranger();
                }
                member.metrics.applied.inc();
                let from = Sender {
                    origin: event.origin,
                    position,
                };
                if let Some(cache) = member.apply(lane, from, &event.ops) {
                    member.metrics.dropped[Dropped::UnknownCache].inc();
                    self.unknown.note(member, cache);
                }
            }
            Err(error) => {
                member.metrics.dropped[Dropped::Undecodable].inc();
                self.fence_undecodable(lane, &error.to_string());
            }
        }
    }

    /// Returns whether this instance has sent an event that has its id. A copy of the process has the id too:
    /// what the copy dropped was not dropped here.
    fn is_own(&self, lane: u32, event: &Event) -> bool {
        self.member.lanes[lane as usize].own.has(event.sent) || without(Mechanism::ForeignEchoes)
    }

    fn note_stranger(&self) {
        let member = &self.member;
        member.metrics.dropped[Dropped::Stranger].inc();
        if let Some(suppressed) = member.strangers.allow(member.clock.now()) {
            tracing::error!(
                instance = %member.name(),
                suppressed,
                "another instance has this instance's id: was this process forked or cloned while \
                 it ran? Its events are applied, but its writes count as this instance's; start \
                 both again"
            );
        }
    }

    /// The delay from publishing to the own echo, on one clock.
    fn measure(&self, event: &Event) {
        let now = self.member.clock.precise();
        if let Some(delay) = now.checked_sub(event.sent) {
            self.member
                .metrics
                .propagation
                .observe(Duration::from_nanos(delay));
        }
    }

    /// With a key, an unsigned message on the channel drops nothing: a genuine event is in the journal
    /// too, where a client that may only publish cannot replace it.
    fn refuse(&self, lane: u32, reason: &str) {
        if let Some(suppressed) = self.log.allow(self.member.clock.now()) {
            tracing::warn!(
                instance = %self.member.name(),
                lane,
                reason,
                suppressed,
                "a message on the lane's channel was ignored: check that all instances and writers have \
                 the same UNSTALE_SIGNING_KEY, and that no other program publishes here"
            );
        }
    }

    /// What cannot be understood may have named anything.
    fn fence_undecodable(&self, lane: u32, reason: &str) {
        self.member.fence(lane, Fence::Undecodable);
        if let Some(suppressed) = self.log.allow(self.member.clock.now()) {
            tracing::warn!(
                instance = %self.member.name(),
                lane,
                reason,
                suppressed,
                "an event could not be decoded, so the lane was fenced: is a newer version, or \
                 something else, publishing on this namespace's channels? Have all instances and \
                 writers the same UNSTALE_SIGNING_KEY?"
            );
        }
    }
}
