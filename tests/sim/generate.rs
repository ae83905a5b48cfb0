//! Schedules from seeds.

use std::sync::OnceLock;

use crate::draw;
use crate::faults::fault;
use crate::options::CacheOptions;
use crate::schedule::*;

/// A small generator of our own: no library's release changes what a seed means.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One time in `n`.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Kinds of faults, of which a schedule has a few: a fleet in which everything fails at once shows
/// little of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A fault of what one instance is delivered.
    Delivery(u64),
    /// A fault of what it sends, of the server, or of whole instances.
    Other(u64),
    /// No fault, but an option: reloads ahead.
    Refresh,
    /// Two instances have one id.
    Clones,
    /// Counters step back within their epochs.
    SetBack,
    /// An older state of the server is put back.
    Restore,
    /// One instance has another number of lanes, and starts while the server is silent.
    OtherLanes,
    /// Another thread runs just before a load leaves the table of flights.
    AtLanding,
    /// A promoted replica lacks the intents.
    LostIntents,
    /// The end of a key or a value panics or calls the cache.
    Drops,
    /// The server refuses every command at once.
    Refuse,
    /// The server's clock steps.
    ClockSteps,
    /// Other code of the user panics.
    Panics,
    /// Other code of the user calls the cache, or takes its time.
    Calls,
    /// Parts of the server's keys are evicted.
    Evictions,
    /// An instance starts while the server is silent.
    SilentStarts,
    /// The source does not answer.
    Hangs,
}

/// Each as likely as the others.
const KINDS: [Kind; 27] = [
    Kind::Delivery(0),
    Kind::Delivery(1),
    Kind::Delivery(2),
    Kind::Delivery(3),
    Kind::Delivery(4),
    Kind::Other(5),
    Kind::Other(6),
    Kind::Other(7),
    Kind::Other(8),
    Kind::Other(9),
    Kind::Other(10),
    Kind::Other(11),
    Kind::Refresh,
    Kind::Clones,
    Kind::SetBack,
    Kind::Restore,
    Kind::OtherLanes,
    Kind::AtLanding,
    Kind::LostIntents,
    Kind::Drops,
    Kind::Refuse,
    Kind::ClockSteps,
    Kind::Panics,
    Kind::Calls,
    Kind::Evictions,
    Kind::SilentStarts,
    Kind::Hangs,
];

/// Kinds that are left out of the seeds' schedules until the holes that they show are fixed; `SIM_HOLES`
/// names some that are left in, or `all`.
const OPEN_HOLES: &[Kind] = &[];

/// The kinds of faults of a seed's schedule.
fn kinds(seed: u64) -> Vec<Kind> {
    let mut random = Random::new(seed.wrapping_mul(0xA076_1D64_78BD_642F));
    (0..1 + random.below(3))
        .map(|_| random.of(&KINDS))
        .collect()
}

/// How long the deliveries of a seed's schedule wait.
fn pause(seed: u64) -> u64 {
    let mut random = Random::new(seed.wrapping_mul(0xE703_7ED1_A0B4_28DB));
    random.of(&[0, 0, 3, 20, 50])
}

/// How late the relay of a seed's schedule reads, if it has one.
fn relay(seed: u64) -> Option<u64> {
    let mut random = Random::new(seed.wrapping_mul(0x8EBC_6AF0_9C88_C6E3));
    let late = random.of(&[0, 0, 1, 5, 40]);
    random.one_in(3).then_some(late)
}

/// How late the replica is that the loaders of a seed with a relay read, if they read one.
fn replica(seed: u64) -> Option<u64> {
    let mut random = Random::new(seed.wrapping_mul(0xA24B_AED4_963E_E407));
    let late = random.of(&[0, 10, 80, 300, 2_000]);
    random.one_in(3).then_some(late)
}

/// Which of the lookups of a seed's schedule are given the token of the last write, if some are: one in so many.
fn after(seed: u64) -> Option<usize> {
    let mut random = Random::new(seed.wrapping_mul(0x9FB2_1C65_1E98_DF25));
    let part = random.of(&[1, 2, 3]);
    random.one_in(3).then_some(part)
}

/// Makes some of the lookups reads after a token.
fn read_after(part: usize, steps: &mut [Step]) {
    let lookups = steps.iter_mut().filter_map(|step| match &mut step.what {
        What::Read { how, .. } if *how == How::Lookup => Some(how),
        _ => None,
    });
    for how in lookups.step_by(part) {
        *how = How::After;
    }
}

/// What a replica had is as old as the last proof of its place: a TTL below that keeps nothing, and the end of a run
/// asks for hits.
fn outlive_replicas(nodes: &[NodeSettings], caches: [&mut CacheOptions; 2]) {
    let between_proofs = nodes.iter().map(|node| node.verify_interval).max();
    for cache in caches {
        let Some(late) = cache.replica else {
            continue;
        };
        // The relay's and the deliveries' time, and a read on its way.
        let least = late + 2 * between_proofs.unwrap_or(0) + 500;
        for ttl in [&mut cache.ttl, &mut cache.own_ttl, &mut cache.negative_ttl] {
            *ttl = ttl.map(|ttl| ttl.max(least));
        }
    }
}

/// Some writers say nothing of what they replace, and some things happen to the relay.
fn relayed(seed: u64, length: u64, steps: &mut Vec<Step>) {
    let mut random = Random::new(seed.wrapping_mul(0x5899_65CC_7537_4CC3));
    for step in steps.iter_mut() {
        if let What::Put { key, .. } = step.what
            && random.one_in(2)
        {
            step.what = What::PutSilently { key };
        }
    }
    for _ in 0..4 {
        let (at, key) = (random.below(length), random.below(KEYS));
        let what = What::PutSilently { key };
        steps.push(Step { at, what });
    }
    let kinds: &[RelayFault] = match random.below(4) {
        0 => &[],
        1 => &[RelayFault::Crash, RelayFault::Start],
        2 => &[RelayFault::Cut, RelayFault::Heal],
        _ => &[
            RelayFault::Crash,
            RelayFault::Start,
            RelayFault::Join,
            RelayFault::Slow(120),
            RelayFault::Cut,
            RelayFault::Heal,
        ],
    };
    for _ in 0..2 * kinds.len() {
        let what = What::Relay(random.of(kinds));
        steps.push(Step {
            at: random.below(length),
            what,
        });
    }
}

/// Returns whether a seed's schedule has a kind that `SIM_HOLES` names; all have one if it names none.
pub(crate) fn is_asked_for(seed: u64) -> bool {
    let named = std::env::var("SIM_HOLES").unwrap_or_else(|_| "all".to_string());
    let is_named = |kind: &Kind| named.split(',').any(|name| name == format!("{kind:?}"));
    named == "all" || kinds(seed).iter().any(is_named)
}

/// Returns whether a kind has a place in the seeds' schedules.
pub(crate) fn takes_place(kind: Kind) -> bool {
    static NAMED: OnceLock<String> = OnceLock::new();
    let named = NAMED.get_or_init(|| std::env::var("SIM_HOLES").unwrap_or_default());
    let is_named = |name: &str| name == "all" || name == format!("{kind:?}");
    !OPEN_HOLES.contains(&kind) || named.split(',').any(is_named)
}

/// The schedule of a seed.
pub(crate) fn schedule(seed: u64) -> Schedule {
    let mut random = Random::new(seed.wrapping_mul(0xD6E8_FEB8_6659_FD93));
    let mut nodes: Vec<_> = (0..2 + random.below(3))
        .map(|_| draw::node(&mut random))
        .collect();
    let lanes = random.of(&[1, 1, 2]);
    let length = random.of(&[1_500, 2_500, 4_000]);
    let kinds = kinds(seed);
    let (mut rows, mut columns) = (draw::options(&mut random), draw::options(&mut random));
    if kinds.contains(&Kind::Refresh) && takes_place(Kind::Refresh) {
        draw::refresh(&mut random, &mut rows);
        draw::refresh(&mut random, &mut columns);
    }
    let mut steps = Vec::new();
    if random.one_in(2) {
        let (before, after) = (random.of(&[0, 0, 30]), random.of(&[0, 20, 150, 600]));
        steps.push(Step {
            at: 0,
            what: What::Loader { before, after },
        });
    }
    if kinds.contains(&Kind::AtLanding) && takes_place(Kind::AtLanding) {
        draw::stale_fallbacks(&mut random, &mut rows);
    }
    let traffic = 20 + random.below(40);
    for _ in 0..traffic {
        let at = random.below(length);
        let what = traffic_step(&mut random, nodes.len());
        steps.push(Step { at, what });
    }
    for _ in 0..1 + random.below(8) {
        let kind = random.of(&kinds);
        let at = random.below(length);
        let mut more = Vec::new();
        fault(&mut random, kind, at, &nodes, &mut more);
        steps.extend(more.into_iter().filter(|_| takes_place(kind)));
    }
    draw::misfits(&mut random, &kinds, lanes, &mut nodes, &mut steps);
    let relay = relay(seed);
    if relay.is_some() {
        relayed(seed, length, &mut steps);
        rows.source = true;
        columns.source = seed.is_multiple_of(2);
        rows.replica = replica(seed);
        columns.replica = replica(seed).filter(|_| columns.source);
        for node in &mut nodes {
            node.max_staleness = node.max_staleness.max(3 * node.verify_interval);
        }
        outlive_replicas(&nodes, [&mut rows, &mut columns]);
    }
    steps.sort_by_key(|step| step.at);
    if let Some(part) = after(seed) {
        read_after(part, &mut steps);
    }
    Schedule {
        seed,
        lanes,
        pause: pause(seed),
        relay,
        nodes,
        rows,
        columns,
        without: None,
        steps,
    }
}

fn traffic_step(random: &mut Random, nodes: usize) -> What {
    let node = random.below(nodes as u64) as usize;
    // Two keys are hot: races need company.
    let key = if random.one_in(2) {
        random.below(2)
    } else {
        random.below(KEYS)
    };
    match random.below(24) {
        0..=8 => What::Read {
            node,
            key,
            how: random.of(&[
                How::Lookup,
                How::Lookup,
                How::Lookup,
                How::Get,
                How::With,
                How::Latest,
            ]),
        },
        20 => What::ReadOften {
            node,
            key,
            reads: 2 + random.below(20),
        },
        21 => What::Preload { node },
        22 | 23 => What::Peek { node },
        9 => What::ReadMany { node },
        10 => What::ReadCancelled {
            node,
            key,
            after: random.below(30),
        },
        11..=13 => What::Put {
            node,
            key,
            publish_after: random.of(&[0, 0, 5, 40]),
        },
        14 => What::PutTag {
            node,
            column: random.one_in(3),
            odd: random.one_in(2),
        },
        15 if random.one_in(2) => What::PutAll {
            node,
            column: random.one_in(3),
        },
        15 => What::PutBatch {
            node,
            keys: (key, random.below(KEYS)),
        },
        _ => What::Write {
            node,
            key,
            commit: commit(random),
        },
    }
}

fn commit(random: &mut Random) -> Commit {
    let lands = random.of(&[0, 0, 5, 50, 250, 700]);
    match random.below(8) {
        0 => Commit {
            lands: None,
            answers: lands,
            fails: true,
            survives: false,
            patience: None,
        },
        1 => Commit {
            lands: Some(random.of(&[10, 300, 1_300])),
            answers: lands,
            fails: true,
            survives: true,
            patience: None,
        },
        2 | 3 => Commit {
            lands: Some(lands),
            answers: lands + random.of(&[0, 10, 200]),
            fails: false,
            survives: true,
            patience: Some(random.of(&[0, 2, 20, 300])),
        },
        _ => Commit {
            lands: Some(lands),
            answers: lands + random.of(&[0, 0, 5]),
            fails: false,
            survives: random.one_in(2),
            patience: None,
        },
    }
}
