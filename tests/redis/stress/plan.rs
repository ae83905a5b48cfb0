//! What happens to Redis, to the ways to it and to the source: a function of the seed alone.

use std::fs;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::run::World;
use crate::support::nodes::ms;
use testkit::proxy::{Cut, Direction, Door, Fate, Mode, Proxy};
use testkit::resp::Client;

/// One fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    RedisKilled {
        down: Duration,
        data_lost: bool,
    },
    RedisStopped(Duration),
    Flushed,
    /// Connections of this type ended by Redis.
    ClientsKilled(&'static str),
    /// One of a lane's keys, as if evicted.
    KeyLost(&'static str),
    SourceFails(Duration),
    Cut(usize, Cut),
    Refused(usize, Duration),
    Held(usize, Hold, Duration),
    /// Messages lost, doubled and swapped, as this seed says.
    Messages(usize, u64, Duration),
    /// Nothing goes wrong.
    Calm(Duration),
}

/// How a way is held.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hold {
    Blackhole(&'static [Direction]),
    Stalled,
    Slow(Duration),
}

/// An endless sequence of faults and the pauses after them.
#[derive(Debug)]
pub(super) struct Plan {
    rng: Rng,
    instances: usize,
}

impl Plan {
    pub(super) fn new(seed: u64, instances: usize) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            instances,
        }
    }

    fn time(&mut self, shortest: u64, longest: u64) -> Duration {
        ms(self.rng.u64(shortest..=longest))
    }

    fn hold(&mut self) -> Hold {
        const BOTH: &[Direction] = &[Direction::ToServer, Direction::ToClient];
        match self.rng.u8(..5) {
            0 => Hold::Blackhole(BOTH),
            1 => Hold::Blackhole(&BOTH[..1]),
            2 => Hold::Blackhole(&BOTH[1..]),
            3 => Hold::Stalled,
            _ => Hold::Slow(self.time(20, 300)),
        }
    }
}

impl Iterator for Plan {
    type Item = (Fault, Duration);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.rng.usize(..self.instances);
        let fault = match self.rng.u8(..18) {
            0 | 1 => Fault::RedisKilled {
                down: self.time(0, 2_000),
                data_lost: self.rng.bool(),
            },
            2 => Fault::RedisStopped(self.time(200, 2_500)),
            3 => Fault::Flushed,
            4 => Fault::ClientsKilled(["pubsub", "normal"][self.rng.usize(..2)]),
            5 => Fault::KeyLost(["s", "j", "m", "w", "r"][self.rng.usize(..5)]),
            6 | 7 => Fault::SourceFails(self.time(200, 3_000)),
            8 | 9 => Fault::Cut(at, [Cut::Fin, Cut::Rst][self.rng.usize(..2)]),
            10 => Fault::Refused(at, self.time(300, 2_500)),
            11..=14 => {
                let hold = self.hold();
                Fault::Held(at, hold, self.time(300, 3_000))
            }
            15 | 16 => Fault::Messages(at, self.rng.u64(..), self.time(500, 2_500)),
            _ => Fault::Calm(self.time(1_000, 5_000)),
        };
        Some((fault, self.time(0, 1_500)))
    }
}

impl Fault {
    /// Does it and undoes it. Afterwards Redis runs, and every way is open.
    pub(super) async fn happen(self, world: &World) {
        let admin = |command: &[&str]| {
            block_in_place(|| Client::connect(world.redis.port()).cmd(command));
        };
        match self {
            Self::RedisKilled { down, data_lost } => {
                world.redis.kill();
                if data_lost {
                    let _ = fs::remove_dir_all(world.redis.dir().join("appendonlydir"));
                }
                sleep(down).await;
                block_in_place(|| world.redis.restart());
            }
            Self::RedisStopped(length) => {
                block_in_place(|| world.redis.stop());
                sleep(length).await;
                world.redis.cont();
            }
            Self::Flushed => admin(&["FLUSHALL"]),
            Self::ClientsKilled(kind) => admin(&["CLIENT", "KILL", "TYPE", kind]),
            Self::KeyLost(key) => {
                for lane in 0..2 {
                    admin(&["DEL", &format!("us:{{stress:{lane}}}{key}")]);
                }
            }
            Self::SourceFails(length) => {
                world.truth.fail(true);
                sleep(length).await;
                world.truth.fail(false);
            }
            Self::Cut(at, how) => world.proxies[at].cut(how),
            Self::Refused(at, length) => {
                let proxy = &world.proxies[at];
                proxy.set_door(Door::Refuse).await;
                proxy.cut(Cut::Rst);
                sleep(length).await;
                proxy.set_door(Door::Open).await;
            }
            Self::Held(at, how, length) => {
                let proxy = &world.proxies[at];
                how.begin(proxy);
                sleep(length).await;
                proxy.set_both(Mode::Pass);
            }
            Self::Messages(at, seed, length) => {
                let mut rng = Rng::with_seed(seed);
                world.proxies[at].filter(move |_| match rng.u8(..5) {
                    0 => Fate::Drop,
                    1 => Fate::Duplicate,
                    2 => Fate::Swap,
                    _ => Fate::Pass,
                });
                sleep(length).await;
                world.proxies[at].next_fates([]);
            }
            Self::Calm(length) => sleep(length).await,
        }
    }
}

impl Hold {
    fn begin(self, proxy: &Proxy) {
        match self {
            Self::Blackhole(directions) => {
                for direction in directions {
                    proxy.set(*direction, Mode::Blackhole);
                }
            }
            Self::Stalled => proxy.set_both(Mode::Stall),
            Self::Slow(by) => proxy.set_both(Mode::Delay(by)),
        }
    }
}

#[test]
fn a_seed_repeats_its_faults_and_every_kind_happens() {
    let plan = |seed| {
        let faults = Plan::new(seed, 3).take(300);
        faults.map(|step| format!("{step:?}")).collect::<Vec<_>>()
    };
    assert_eq!(plan(1), plan(1));
    assert_ne!(plan(1), plan(2));
    let all = plan(3).join("\n");
    for kind in [
        "data_lost: true",
        "data_lost: false",
        "RedisStopped",
        "Flushed",
        "ClientsKilled",
        "KeyLost",
        "SourceFails",
        "Cut(",
        "Refused",
        "Blackhole([ToServer])",
        "Blackhole([ToClient])",
        "Blackhole([ToServer, ToClient])",
        "Stalled",
        "Slow",
        "Messages",
        "Calm",
    ] {
        assert!(all.contains(kind), "{kind} never happens");
    }
}
