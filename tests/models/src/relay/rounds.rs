//! The steps of a relay, as `src/relay/rounds.rs` and `src/relay/publisher.rs` take them.

use super::Relaying;
use super::bounds::RelaySeen;
use super::state::{OF_KEY, Phase, Relay, State};
use crate::bus::Reached;
use crate::mutants::{Mechanism, without};

/// Each says whether it could be taken.
impl Relaying {
    /// The log is opened. What has the log's place but is not seen yet, the source waits for.
    pub(super) fn open(&self, state: &mut State, r: usize) -> Option<()> {
        let early = self.bounds.drops_early;
        let relay = &mut state.relays[r];
        if relay.up || state.seen < state.logged || (early && !relay.has_dropped) {
            return None;
        }
        relay.up = true;
        relay.upto = state.logged;
        relay.complete.resize(self.bounds.lanes, None);
        if without(Mechanism::DropsAfterOpening) {
            // Otherwise the first round would drop everything, as in a lane in another epoch.
            relay.complete = state.lanes.iter().map(|it| Some(it.epochs)).collect();
        } else if !early {
            relay.renewing = (0..self.bounds.lanes).collect();
        }
        self.note(RelaySeen::Opened);
        Some(())
    }

    /// Every cache of the rules is dropped in a lane.
    pub(super) fn renew(
        &self,
        state: &mut State,
        r: usize,
        lane: usize,
        demoted: bool,
        lost: bool,
    ) -> Option<()> {
        let relay = &mut state.relays[r];
        let early = self.bounds.drops_early && !relay.up && !relay.has_dropped;
        let at = relay.renewing.iter().position(|it| *it == lane);
        if at.is_none() && !early {
            return None;
        }
        let published = state.lanes[lane].publish(demoted, false)?;
        let epoch = self.acknowledged(&mut state.left.losses, published, demoted, lost)?;
        let Some(epoch) = epoch else {
            return Some(());
        };
        if let Some(at) = at {
            relay.renewing.remove(at);
        }
        relay.complete.resize(self.bounds.lanes, None);
        relay.complete[lane] = Some(epoch);
        relay.has_dropped = early;
        Some(())
    }

    /// The next commit of the log is published, until that is acknowledged.
    pub(super) fn publish(
        &self,
        state: &mut State,
        r: usize,
        demoted: bool,
        lost: bool,
    ) -> Option<()> {
        let relay = &mut state.relays[r];
        let reads = matches!(relay.phase, Phase::Idle | Phase::Publishing);
        let upto = if self.bounds.waits_for_sight {
            state.seen
        } else {
            state.logged
        };
        if !relay.up || !reads || !relay.renewing.is_empty() || relay.upto >= upto {
            return None;
        }
        let published = state.lanes[OF_KEY].publish(demoted, false)?;
        let epoch = self.acknowledged(&mut state.left.losses, published, demoted, lost)?;
        let Some(epoch) = epoch else {
            return Some(());
        };
        relay.upto += 1;
        let complete = &mut relay.complete[OF_KEY];
        *complete = complete.filter(|of| *of == epoch);
        self.finish(relay);
        Some(())
    }

    /// In which epoch the relay knows the event to be.
    fn acknowledged(
        &self,
        losses: &mut u8,
        (position, again): (crate::bus::Position, bool),
        demoted: bool,
        lost: bool,
    ) -> Option<Option<u64>> {
        if demoted {
            self.note(RelaySeen::PublishedToDemoted);
        }
        if again {
            self.note(RelaySeen::PlaceTwice);
        }
        if lost {
            *losses = losses.checked_sub(1)?;
            self.note(RelaySeen::PublishedTwice);
            return Some(None);
        }
        Some(Some(position.epoch))
    }

    /// A round begins.
    pub(super) fn begin(&self, state: &mut State, r: usize) -> Option<()> {
        let relay = &mut state.relays[r];
        if !relay.up || relay.phase != Phase::Idle || !relay.renewing.is_empty() {
            return None;
        }
        state.left.rounds = state.left.rounds.checked_sub(1)?;
        relay.phase = Phase::Asking;
        relay.at = vec![None; self.bounds.lanes];
        relay.end = without(Mechanism::NumbersBeforeTheEnd).then_some(state.logged);
        Some(())
    }

    /// A lane says its number. After the last one, lanes that may lack something are to get everything.
    pub(super) fn ask(
        &self,
        state: &mut State,
        r: usize,
        lane: usize,
        demoted: bool,
    ) -> Option<()> {
        let relay = &mut state.relays[r];
        if relay.phase != Phase::Asking || relay.at[lane].is_some() {
            return None;
        }
        let marked = state.lanes[lane].server(demoted)?.mark(None);
        relay.at[lane] = Some((marked.epoch, marked.number));
        if relay.at.iter().all(Option::is_some) {
            relay.phase = Phase::Ending;
            let lacks = |lane: &usize| {
                let epoch = relay.at[*lane].map_or(0, |(epoch, _)| epoch);
                epoch != 0 && relay.complete[*lane] != Some(epoch)
            };
            let lacks: Vec<_> = (0..self.bounds.lanes).filter(lacks).collect();
            if !lacks.is_empty() && !without(Mechanism::LanesRenewed) {
                self.note(RelaySeen::Renewed);
                lacks.iter().for_each(|lane| relay.complete[*lane] = None);
                relay.renewing = lacks;
            }
        }
        Some(())
    }

    /// The log says where it ends.
    pub(super) fn end(&self, state: &mut State, r: usize) -> Option<()> {
        let relay = &mut state.relays[r];
        if relay.phase != Phase::Ending || !relay.renewing.is_empty() {
            return None;
        }
        relay.end.get_or_insert(state.logged);
        relay.phase = Phase::Publishing;
        self.finish(relay);
        Some(())
    }

    /// Once everything up to the end is published, the lanes that lack nothing are to be marked.
    fn finish(&self, relay: &mut Relay) {
        let reached = relay.end.is_some_and(|end| relay.upto >= end);
        let early = without(Mechanism::MarksAfterPublishing);
        if relay.phase != Phase::Publishing || !(reached || early) {
            return;
        }
        let sure = |lane: usize, epoch| {
            relay.complete[lane] == Some(epoch) || without(Mechanism::LanesRenewed)
        };
        for (lane, at) in relay.at.iter().enumerate() {
            let Some((epoch, _)) = at.filter(|(_, number)| *number > 0) else {
                continue;
            };
            if sure(lane, epoch) {
                relay.marking.push(lane);
            } else {
                self.note(RelaySeen::NotSure);
            }
        }
        let epochs = relay
            .marking
            .iter()
            .map(|lane| relay.at[*lane].map(|(of, _)| of));
        let mut epochs: Vec<_> = epochs.collect();
        epochs.dedup();
        if epochs.len() > 1 {
            self.note(RelaySeen::MarkedOfTwoEpochs);
        }
        relay.phase = Phase::Marking;
        relay.place = match self.bounds.replica {
            true => relay.end.take().map_or(0, u64::from),
            false => 0,
        };
        relay.end = None;
        if relay.marking.is_empty() {
            relay.rest();
        }
    }

    /// A mark is set.
    pub(super) fn mark(
        &self,
        state: &mut State,
        r: usize,
        lane: usize,
        demoted: bool,
    ) -> Option<()> {
        let relay = &mut state.relays[r];
        let at = relay.marking.iter().position(|it| *it == lane)?;
        let server = state.lanes[lane].server(demoted)?;
        let (mut epoch, number) = relay.at[lane]?;
        if without(Mechanism::MarksOfOneEpoch) {
            epoch = server.head.epoch;
        }
        let place = relay.place;
        let marked = server.mark(Some((epoch, Reached { number, place })));
        if !marked.set {
            self.note(RelaySeen::MarkRefused);
        }
        relay.marking.remove(at);
        if relay.marking.is_empty() {
            relay.rest();
        }
        Some(())
    }

    /// A relay dies, and what it knew with it.
    pub(super) fn die(&self, state: &mut State, r: usize) -> Option<()> {
        if !state.relays[r].up {
            return None;
        }
        state.left.deaths = state.left.deaths.checked_sub(1)?;
        state.relays[r] = Relay::default();
        Some(())
    }
}

impl Relay {
    /// The round is over.
    fn rest(&mut self) {
        self.phase = Phase::Idle;
        self.place = 0;
        self.at.clear();
    }
}
