//! Schedules from seeds.

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
const KINDS: u64 = 12;

/// The schedule of a seed.
pub(crate) fn schedule(seed: u64) -> Schedule {
    let mut random = Random::new(seed.wrapping_mul(0xD6E8_FEB8_6659_FD93));
    let nodes: Vec<_> = (0..2 + random.below(3))
        .map(|_| node(&mut random))
        .collect();
    let lanes = random.of(&[1, 1, 2]);
    let length = random.of(&[1_500, 2_500, 4_000]);
    let kinds: Vec<u64> = (0..1 + random.below(3))
        .map(|_| random.below(KINDS))
        .collect();
    let mut steps = Vec::new();
    if random.one_in(2) {
        let (before, after) = (random.of(&[0, 0, 30]), random.of(&[0, 20, 150, 600]));
        steps.push(Step {
            at: 0,
            what: What::Loader { before, after },
        });
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
        fault(&mut random, kind, at, nodes.len(), &mut steps);
    }
    steps.sort_by_key(|step| step.at);
    Schedule {
        seed,
        lanes,
        nodes,
        steps,
    }
}

fn node(random: &mut Random) -> NodeSettings {
    let verify_interval = random.of(&[50, 100, 100, 200]);
    NodeSettings {
        verify_interval,
        max_staleness: verify_interval * random.of(&[2, 3, 5]),
        ttl: random.of(&[60_000, 60_000, 60_000, 900]),
        journal: random.of(&[64, 64, 64, 3, 0]),
        available: random.one_in(8),
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
    match random.below(20) {
        0..=8 => What::Read { node, key },
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

/// One fault of a kind, and its end.
fn fault(random: &mut Random, kind: u64, at: u64, nodes: usize, steps: &mut Vec<Step>) {
    let node = random.below(nodes as u64) as usize;
    let lasts = random.of(&[10, 60, 150, 400, 1_200]);
    if kind < 5 {
        delivery(random, kind, at, node, lasts, steps);
    } else {
        other(random, kind, at, node, nodes, lasts, steps);
    }
}

/// Faults of what one instance is delivered.
fn delivery(
    random: &mut Random,
    kind: u64,
    at: u64,
    node: usize,
    lasts: u64,
    steps: &mut Vec<Step>,
) {
    let few = 1 + random.below(4) as u32;
    let mut add = |at: u64, what: What| steps.push(Step { at, what });
    let to = |fault: LinkFault| What::Fault { node, fault };
    match kind {
        0 => {
            let fault = random.of(&[
                LinkFault::Lose(few),
                LinkFault::Lose(1),
                LinkFault::Duplicate(few),
                LinkFault::Garble,
            ]);
            add(at, to(fault));
        }
        1 => {
            add(at, to(random.of(&[LinkFault::Cut, LinkFault::Silence])));
            add(at + lasts, to(LinkFault::Heal));
        }
        2 => {
            let one_way = [
                LinkFault::Deafen,
                LinkFault::Mute,
                LinkFault::LoseReplies,
                LinkFault::Unsubscribe,
            ];
            add(at, to(random.of(&one_way)));
            add(at + lasts, to(LinkFault::EndAll));
        }
        3 => {
            // A ramp: every message arrives, and each a little later than the one before.
            let step = random.of(&[5, 20, 80]);
            for n in 0..10 {
                add(at + n * 50, to(LinkFault::Delay(n * step)));
            }
            add(at + 500 + lasts, to(LinkFault::Delay(0)));
        }
        _ => {
            add(at, to(LinkFault::Hold));
            add(
                at + lasts,
                to(random.of(&[LinkFault::Release, LinkFault::ReleaseReversed])),
            );
        }
    }
}

/// Faults of what an instance says, of the server, and of whole instances.
fn other(
    random: &mut Random,
    kind: u64,
    at: u64,
    node: usize,
    nodes: usize,
    lasts: u64,
    steps: &mut Vec<Step>,
) {
    let few = 1 + random.below(4) as u32;
    let mut add = |at: u64, what: What| steps.push(Step { at, what });
    let to = |fault: LinkFault| What::Fault { node, fault };
    match kind {
        5 => {
            let fault = random.of(&[
                LinkFault::FailPublish(few),
                LinkFault::LoseAck(few),
                LinkFault::PausePublish,
            ]);
            add(at, to(fault));
            if fault == LinkFault::PausePublish {
                if random.one_in(2) {
                    add(at + 1, What::Flood { node, keys: 1_100 });
                }
                add(at + lasts, to(LinkFault::ResumePublish));
            }
        }
        6 => {
            add(at, What::Crash { node });
            add(at + lasts, What::Start { node });
        }
        7 => {
            let losing = random.below(4);
            let server = random.of(&[
                ServerFault::Restart { losing },
                ServerFault::RestartEmpty,
                ServerFault::FailOver { losing },
                ServerFault::Flush,
                ServerFault::DropJournal,
                ServerFault::DropCounter,
                ServerFault::DropMembers,
                ServerFault::Garbage,
            ]);
            add(at, What::Server(server));
        }
        8 => {
            let (losing, isolated) = (random.below(3), 1 + random.below((1 << nodes) - 1) as u32);
            add(at, What::Server(ServerFault::Split { losing, isolated }));
            add(at + lasts, What::Server(ServerFault::Unsplit));
        }
        9 => {
            if random.one_in(3) {
                return add(at, What::Freeze { time: lasts });
            }
            add(at, to(LinkFault::Stall));
            add(at + lasts, to(LinkFault::Release));
        }
        10 => {
            let (request, reply) = (random.of(&[0, 5, 90, 400]), random.of(&[0, 5, 90, 400]));
            add(at, to(LinkFault::Slow(request, reply)));
            add(at + lasts, to(LinkFault::EndAll));
        }
        _ => {
            if random.one_in(2) {
                add(at, What::LoaderFails(true));
                return add(at + lasts, What::LoaderFails(false));
            }
            add(at, What::Shutdown { node });
            add(at + lasts, What::Start { node });
        }
    }
}
