//! Faults of schedules, by their kinds.

use crate::generate::{Kind, Random};
use crate::mind::{Act, Spot};
use crate::schedule::*;

/// One fault of a kind, and its end.
pub(crate) fn fault(
    random: &mut Random,
    kind: Kind,
    at: u64,
    all: &[NodeSettings],
    steps: &mut Vec<Step>,
) {
    let nodes = all.len();
    let node = random.below(nodes as u64) as usize;
    let lasts = random.of(&[10, 60, 150, 400, 1_200]);
    match kind {
        Kind::Refresh => {
            let unverified = at + all[node].max_staleness + random.of(&[20, 60, 100, 180]);
            waits_for_the_lane(random, (at, unverified), node, lasts, steps);
        }
        Kind::Delivery(kind) => delivery(random, kind, at, node, lasts, steps),
        Kind::Other(kind) => other(random, kind, at, node, nodes, lasts, steps),
        Kind::Panics | Kind::Calls | Kind::Drops => steps.push(Step {
            at,
            what: user(random, kind, node),
        }),
        _ => hole(random, kind, at, node, lasts, steps),
    }
}

/// What an operator or a host does to Redis' keys and clock, and what else a hole was found in.
fn hole(random: &mut Random, kind: Kind, at: u64, node: usize, lasts: u64, steps: &mut Vec<Step>) {
    let few = 1 + random.below(4);
    let key = random.below(2);
    let mut add = |at: u64, what: What| steps.push(Step { at, what });
    match kind {
        Kind::Refuse => {
            let to = |fault| What::Fault { node, fault };
            add(at, to(LinkFault::Refuse));
            add(
                at + lasts / 2,
                What::ReadOften {
                    node,
                    key,
                    reads: random.of(&[20, 120]),
                },
            );
            add(at + lasts, to(LinkFault::EndAll));
        }
        Kind::SetBack => add(at, What::Server(ServerFault::SetBack { events: few })),
        Kind::Restore => {
            add(at.saturating_sub(lasts), What::Server(ServerFault::Copy));
            add(at, What::Server(ServerFault::Restore));
        }
        Kind::ClockSteps => {
            let ms = random.of(&[-5_000, -400, 300, 5_000]);
            let mut at = at;
            if random.one_in(2) {
                // Its last beat is in the future then.
                at = random.below(90) + dying_writer(random, at, node, key, steps);
            }
            steps.push(Step {
                at,
                what: What::Server(ServerFault::StepClock { ms }),
            });
        }
        Kind::LostIntents => {
            let losing = random.below(3);
            let fault = ServerFault::FailOverWithoutIntents { losing };
            add(at, What::Server(fault));
            if random.one_in(2) {
                dying_writer(random, at, node, key, steps);
            }
        }
        Kind::Evictions => {
            let fault = random.of(&[
                ServerFault::DropIntents,
                ServerFault::DropShared,
                ServerFault::DropSharedRecord,
                ServerFault::DropSharedValues,
            ]);
            add(at, What::Server(fault));
        }
        Kind::Hangs => {
            add(at, What::LoaderHangs(true));
            let reads = random.of(&[5, 60]);
            add(at + lasts / 3, What::ReadOften { node, key, reads });
            add(at + lasts, What::LoaderHangs(false));
        }
        Kind::SilentStarts => {
            add(at, What::Crash { node });
            add(at + 1, What::StartSilent { node, lasts });
        }
        Kind::AtLanding => at_landing(random, at, node, lasts, steps),
        _ => {}
    }
}

/// Loads that end while what they loaded is invalidated.
fn at_landing(random: &mut Random, at: u64, node: usize, lasts: u64, steps: &mut Vec<Step>) {
    let mut add = |at: u64, what: What| steps.push(Step { at, what });
    // What the source has is read in time, and then it is slow.
    let all = |steps: &mut dyn FnMut(u64, What), at: u64, apart: u64| {
        for key in 0..FIRST_COLUMN {
            let how = How::Lookup;
            steps(at + key * apart, What::Read { node, key, how });
        }
    };
    let loader = |after| What::Loader { before: 0, after };
    add(at, loader(0));
    all(&mut add, at + 1, 1);
    add(at + 10, loader(600));
    let again = at + 10 + random.of(&[120, 300]);
    all(&mut add, again, 5);
    for n in 0..3 {
        add(again + 101 + n * 6, What::AtLanding { node });
    }
    add(again + lasts, loader(0));
}

/// Reads that wait for a verification, and meanwhile one that need not.
fn waits_for_the_lane(
    random: &mut Random,
    (at, unverified): (u64, u64),
    node: usize,
    lasts: u64,
    steps: &mut Vec<Step>,
) {
    let key = random.below(2);
    let to = |fault| What::Fault { node, fault };
    let mut add = |at: u64, what: What| steps.push(Step { at, what });
    let (how, publish_after) = (How::Lookup, 0);
    add(at, to(LinkFault::Silence));
    add(
        unverified,
        What::Put {
            node,
            key,
            publish_after,
        },
    );
    add(unverified + 1, What::ReadMany { node });
    let meanwhile = unverified + 1 + random.of(&[1, 20, 100]);
    add(meanwhile, What::Read { node, key, how });
    add(unverified + lasts, to(LinkFault::EndAll));
}

/// A write that is announced before `at` and commits later, whose writer is gone then; the others read
/// in between, and again. When it dies.
fn dying_writer(random: &mut Random, at: u64, node: usize, key: u64, steps: &mut Vec<Step>) -> u64 {
    let lands = random.of(&[60, 200, 400]);
    let commit = Commit {
        lands: Some(lands),
        answers: lands + 400,
        fails: false,
        survives: true,
        patience: None,
    };
    let begins = at.saturating_sub(50);
    let dies = begins + lands + random.of(&[0, 20, 200]);
    steps.push(Step {
        at: begins,
        what: What::Write { node, key, commit },
    });
    steps.push(Step {
        at: dies,
        what: What::Crash { node },
    });
    for reads in [at + lands / 2, dies + 1_700, dies + 2_600, dies + 3_200] {
        for other in (0..4).filter(|other| *other != node) {
            steps.push(Step {
                at: reads,
                what: What::Read {
                    node: other,
                    key,
                    how: How::Lookup,
                },
            });
        }
    }
    dies
}

/// Code of the user that panics or calls the cache.
fn user(random: &mut Random, kind: Kind, node: usize) -> What {
    let key = random.below(FIRST_COLUMN);
    let calls = [
        Act::Peek,
        Act::Get(key),
        Act::Invalidate(key),
        Act::Wait(random.of(&[20, 400])),
        Act::Nest(random.below(FIRST_COLUMN)),
    ];
    let (spot, act) = match kind {
        Kind::Panics => {
            let spots = [
                Spot::KeyClone,
                Spot::KeyEq,
                Spot::ValueClone,
                Spot::Loader,
                Spot::BatchLoader,
                Spot::Weigher,
                Spot::ToShared,
                Spot::FromShared,
                Spot::Compare,
            ];
            (random.of(&spots), Act::Panic)
        }
        Kind::Drops => {
            let spot = random.of(&[Spot::ValueDrop, Spot::ValueDrop, Spot::KeyDrop]);
            (spot, random.of(&[Act::Panic, calls[0], calls[1], calls[2]]))
        }
        _ => {
            let spots = [
                Spot::Loader,
                Spot::BatchLoader,
                Spot::Weigher,
                Spot::ToShared,
                Spot::FromShared,
                Spot::Compare,
            ];
            let spot = random.of(&spots);
            let loads = matches!(spot, Spot::Loader | Spot::BatchLoader);
            (spot, random.of(if loads { &calls } else { &calls[..3] }))
        }
    };
    What::Arm { node, spot, act }
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
