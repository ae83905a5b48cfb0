//! What the source, the relays and the instance are at one moment.

use super::bounds::RelayBounds;
use super::lane::{Answer, Lane, Message};
use crate::bus::Position;
use crate::marks::{Marks, Sent};
use crate::store::source::Proof;
use crate::time::Nanos;

/// Versions of the one key that is cached, counted from 0: as many commits there were.
pub(super) type Version = u8;

/// The lane of the key.
pub(super) const OF_KEY: usize = 0;

/// Where a relay's round has got to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Between two rounds.
    #[default]
    Idle,
    /// The numbers of the lanes are being read.
    Asking,
    /// The end of the log is to be read.
    Ending,
    /// Everything up to the end is to be published.
    Publishing,
    /// The marks are being set.
    Marking,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Relay {
    pub(super) up: bool,
    /// Everything up to here was read, published and acknowledged, or was committed before the log was opened.
    pub(super) upto: Version,
    /// Lanes that are to get everything.
    pub(super) renewing: Vec<usize>,
    /// By lane: the epoch in which everything is published.
    pub(super) complete: Vec<Option<u64>>,
    pub(super) phase: Phase,
    /// By lane: what is to be marked.
    pub(super) at: Vec<Option<(u64, u64)>>,
    pub(super) end: Option<Version>,
    /// Where the log ended, once it is to be marked; 0 where no load reads a replica.
    pub(super) place: u64,
    /// Lanes that are to be marked.
    pub(super) marking: Vec<usize>,
    pub(super) has_dropped: bool,
}

/// A verification under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) sent: Sent,
    pub(super) answer: Option<Answer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Instance {
    pub(super) applied: Position,
    /// Epochs it was in.
    pub(super) left: Vec<u64>,
    /// The life of the server that its subscription leads to.
    pub(super) life: u8,
    pub(super) asked: Vec<Asked>,
    pub(super) entry: Option<Version>,
    /// What a load has read that is not stored yet. One that was invalidated is none.
    pub(super) load: Option<Version>,
    /// The load reads a replica.
    pub(super) of_replica: bool,
    /// How often the key was dropped; 0 where no load reads a replica, and then there are no proofs.
    pub(super) clock: u64,
    /// The proofs of the source, latest last.
    pub(super) proofs: Vec<Proof>,
    pub(super) marks: Marks,
    /// Up to when the source is proven.
    pub(super) proven: Nanos,
    /// Own commits that have not returned yet, and those whose event is to be published.
    pub(super) committing: u8,
    pub(super) owes: u8,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Commits in the source's log.
    pub(super) logged: Version,
    /// Commits that loads see.
    pub(super) seen: Version,
    pub(super) lanes: Vec<Lane>,
    pub(super) relays: Vec<Relay>,
    pub(super) instance: Instance,
    pub(super) left: Left,
}

/// How often it may still happen; the fields of [`RelayBounds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) commits: u8,
    pub(super) own: u8,
    pub(super) loads: u8,
    pub(super) verifications: u8,
    pub(super) beats: u8,
    pub(super) rounds: u8,
    pub(super) deaths: u8,
    pub(super) losses: u8,
    pub(super) flushes: u8,
    pub(super) failovers: u8,
}

impl State {
    /// The instance has adopted its lane and holds an entry.
    pub(super) fn new(bounds: &RelayBounds) -> Self {
        let mut lanes = vec![Lane::new(); bounds.lanes];
        let answers = lanes.iter_mut().map(|lane| lane.verify(false));
        let first = answers.flatten().next().expect("a lane answers");
        let mut marks = Marks::default();
        marks.learn(Sent { at: 0, token: 0 }, first.head, &first.counted);
        if bounds.failovers > 0 && bounds.loses {
            for lane in &mut lanes {
                lane.replica = Some(lane.primary.clone());
            }
        }
        let epochs = lanes.iter().map(|lane| Some(lane.epochs)).collect();
        let relay = Relay {
            up: true,
            complete: epochs,
            ..Relay::default()
        };
        let relay = if bounds.running {
            relay
        } else {
            Relay::default()
        };
        Self {
            logged: 0,
            seen: 0,
            lanes,
            relays: vec![relay; bounds.relays],
            instance: Instance {
                applied: first.head,
                left: Vec::new(),
                life: 0,
                asked: Vec::new(),
                entry: Some(0),
                load: None,
                of_replica: false,
                clock: 0,
                proofs: Vec::new(),
                marks,
                proven: 0,
                committing: 0,
                owes: 0,
            },
            left: Left {
                commits: bounds.commits,
                own: bounds.own,
                loads: bounds.loads,
                verifications: bounds.verifications,
                beats: bounds.beats,
                rounds: bounds.rounds,
                deaths: bounds.deaths,
                losses: bounds.losses,
                flushes: bounds.flushes,
                failovers: bounds.failovers,
            },
        }
    }

    /// Forgets what no longer matters, so that equal states are equal.
    pub(super) fn settle(&mut self) {
        let Instance { applied, left, .. } = &self.instance;
        self.lanes[OF_KEY].log.retain(|Message { position, .. }| {
            let passed = position.epoch == applied.epoch && position.sequence <= applied.sequence;
            !passed && !left.contains(&position.epoch)
        });
        for lane in self.lanes.iter_mut().skip(1) {
            lane.log.clear();
        }
        if self.left.failovers == 0 {
            self.lanes.iter_mut().for_each(|lane| lane.replica = None);
        }
    }
}
