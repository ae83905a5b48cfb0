//! What happens to the fleet, and when: a function of the seed alone.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::support::nodes::ms;
use testkit::fleet::Fleet;
use testkit::proxy::{Cut, Direction, Door, Fate, Mode, Proxy};

/// How long events are on their way before they are lost; two writes or so of an instance's.
const UNDER_WAY: Duration = ms(400);

/// One fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    RedisKilled(Duration),
    RedisStopped(Duration),
    Flushed,
    /// One of the lane's keys, as if evicted.
    KeyLost(&'static str),
    /// Connections of this type ended by Redis.
    ClientsKilled(&'static str),
    On(usize, Trouble),
    /// Two instances at once.
    OnTwo([(usize, Trouble); 2]),
}

/// What happens to one instance.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    Killed(Duration),
    Stopped(Duration),
    /// With writes under way whose events get lost: peers must finish them.
    KilledInWrites(Duration),
    StoppedInWrites(Duration),
    Cut(Cut),
    Refused(Duration),
    /// In these directions.
    Blackhole(&'static [Direction], Duration),
    Stalled(Duration),
    Slow {
        by: Duration,
        length: Duration,
    },
    /// Messages lost, doubled and swapped, as this seed says.
    Messages(u64, Duration),
    /// Every message lost, on a connection that is healthy otherwise.
    Deaf(Duration),
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

    fn trouble(&mut self) -> Trouble {
        const BOTH: &[Direction] = &[Direction::ToServer, Direction::ToClient];
        match self.rng.u8(..12) {
            0 => Trouble::Killed(self.time(0, 2_000)),
            1 => Trouble::KilledInWrites(self.time(0, 2_000)),
            2 => Trouble::Stopped(self.time(500, 4_000)),
            // Longer than its peers may take to find it dead and finish its writes.
            3 => Trouble::StoppedInWrites(self.time(8_000, 9_000)),
            4 => Trouble::Cut([Cut::Fin, Cut::Rst][self.rng.usize(..2)]),
            5 => Trouble::Refused(self.time(500, 3_000)),
            6 => {
                let directions = [BOTH, &BOTH[..1], &BOTH[1..]];
                let directions = directions[self.rng.usize(..3)];
                Trouble::Blackhole(directions, self.time(500, 4_000))
            }
            7 => Trouble::Stalled(self.time(500, 3_000)),
            8 => Trouble::Slow {
                by: self.time(20, 400),
                length: self.time(500, 3_000),
            },
            9 => Trouble::Messages(self.rng.u64(..), self.time(1_000, 3_000)),
            _ => Trouble::Deaf(self.time(500, 3_000)),
        }
    }

    fn fault(&mut self) -> Fault {
        let instance = self.rng.usize(..self.instances);
        match self.rng.u8(..16) {
            0 => Fault::RedisKilled(self.time(0, 3_000)),
            1 => Fault::RedisStopped(self.time(200, 3_000)),
            2 => Fault::Flushed,
            3 => Fault::KeyLost(["s", "j", "m", "w"][self.rng.usize(..4)]),
            4 => Fault::ClientsKilled(["pubsub", "normal"][self.rng.usize(..2)]),
            5..8 => {
                let other = (instance + self.rng.usize(1..self.instances)) % self.instances;
                Fault::OnTwo([instance, other].map(|at| (at, self.trouble())))
            }
            _ => Fault::On(instance, self.trouble()),
        }
    }
}

impl Iterator for Plan {
    type Item = (Fault, Duration);

    fn next(&mut self) -> Option<Self::Item> {
        let fault = self.fault();
        // After a crash often so long that nothing else repairs what its peers have to.
        let longest = if fault.kills() { 8_000 } else { 1_000 };
        Some((fault, self.time(0, longest)))
    }
}

impl Fault {
    /// Does it and undoes it. Afterwards every process runs and every way is open.
    pub(super) async fn happen(self, fleet: &Fleet) {
        match self {
            Self::RedisKilled(down) => {
                fleet.redis.kill();
                sleep(down).await;
                block_in_place(|| fleet.redis.restart());
            }
            Self::RedisStopped(length) => {
                fleet.redis.stop();
                sleep(length).await;
                fleet.redis.cont();
            }
            Self::Flushed => drop(fleet.admin(&["FLUSHALL"])),
            Self::KeyLost(key) => drop(fleet.admin(&["DEL", &format!("us:{{fleet:0}}{key}")])),
            Self::ClientsKilled(kind) => drop(fleet.admin(&["CLIENT", "KILL", "TYPE", kind])),
            Self::On(instance, trouble) => trouble.befall(fleet, instance).await,
            Self::OnTwo([(one, first), (other, second)]) => {
                let first = first.befall(fleet, one);
                tokio::join!(first, second.befall(fleet, other));
            }
        }
    }

    /// Returns whether it ends a process that may be in the middle of a write.
    pub(super) fn kills(self) -> bool {
        let killed = |trouble| matches!(trouble, Trouble::Killed(_) | Trouble::KilledInWrites(_));
        match self {
            Self::On(_, trouble) => killed(trouble),
            Self::OnTwo(both) => both.into_iter().any(|(_, trouble)| killed(trouble)),
            _ => false,
        }
    }

    /// Returns whether an instance may leave reads unanswered meanwhile: only one that does not run.
    pub(super) fn silences(self, instance: usize) -> bool {
        let silent = |(at, trouble): (usize, Trouble)| at == instance && trouble.halts();
        match self {
            Self::On(at, trouble) => silent((at, trouble)),
            Self::OnTwo(both) => both.into_iter().any(silent),
            _ => false,
        }
    }
}

impl Trouble {
    /// Returns whether the process does not run meanwhile.
    pub(super) fn halts(self) -> bool {
        matches!(
            self,
            Self::Killed(_) | Self::KilledInWrites(_) | Self::Stopped(_) | Self::StoppedInWrites(_)
        )
    }

    async fn befall(self, fleet: &Fleet, instance: usize) {
        let (service, proxy) = (&fleet.services[instance], &fleet.proxies[instance]);
        let held = async |directions: &[Direction], mode, length| {
            for direction in directions {
                proxy.set(*direction, mode);
            }
            sleep(length).await;
            proxy.set_both(Mode::Pass);
        };
        let both = [Direction::ToServer, Direction::ToClient];
        match self {
            Self::Killed(down) => {
                service.kill();
                sleep(down).await;
                service.restart().await;
            }
            Self::Stopped(length) => {
                block_in_place(|| service.stop());
                sleep(length).await;
                service.cont();
            }
            Self::KilledInWrites(down) => {
                lose_events(proxy, async || service.kill()).await;
                sleep(down).await;
                service.restart().await;
            }
            Self::StoppedInWrites(length) => {
                lose_events(proxy, async || block_in_place(|| service.stop())).await;
                sleep(length).await;
                service.cont();
            }
            Self::Cut(how) => proxy.cut(how),
            Self::Refused(length) => {
                proxy.set_door(Door::Refuse).await;
                proxy.cut(Cut::Rst);
                sleep(length).await;
                proxy.set_door(Door::Open).await;
            }
            Self::Blackhole(directions, length) => held(directions, Mode::Blackhole, length).await,
            Self::Stalled(length) => held(&both, Mode::Stall, length).await,
            Self::Slow { by, length } => held(&both, Mode::Delay(by), length).await,
            Self::Messages(seed, length) => {
                let mut rng = Rng::with_seed(seed);
                proxy.filter(move |_| match rng.u8(..6) {
                    0 => Fate::Drop,
                    1 => Fate::Duplicate,
                    2 => Fate::Swap,
                    _ => Fate::Pass,
                });
                sleep(length).await;
                proxy.next_fates([]);
            }
            Self::Deaf(length) => {
                proxy.filter(|_| Fate::Drop);
                sleep(length).await;
                proxy.next_fates([]);
            }
        }
    }
}

/// Halts an instance while what it has sent is still on its way, and loses that: writes whose intents
/// have arrived are committed, and their events have not arrived.
pub(super) async fn lose_events(proxy: &Proxy, halt: impl AsyncFnOnce()) {
    proxy.set(Direction::ToServer, Mode::Delay(UNDER_WAY));
    // Until the intents of some writes have arrived, and these have been committed.
    sleep(2 * UNDER_WAY).await;
    halt().await;
    proxy.cut(Cut::Rst);
    proxy.set_both(Mode::Pass);
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RedisKilled(down) => write!(f, "Redis killed, back after {down:?}"),
            Self::RedisStopped(length) => write!(f, "Redis stopped for {length:?}"),
            Self::Flushed => f.write_str("FLUSHALL"),
            Self::KeyLost(key) => write!(f, "key {key} lost"),
            Self::ClientsKilled(kind) => write!(f, "{kind} connections ended by Redis"),
            Self::On(instance, trouble) => write!(f, "instance {instance}: {trouble}"),
            Self::OnTwo([(one, first), (other, second)]) => {
                write!(f, "instance {one}: {first}; instance {other}: {second}")
            }
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed(down) => write!(f, "killed, back after {down:?}"),
            Self::Stopped(length) => write!(f, "stopped for {length:?}"),
            Self::KilledInWrites(down) => write!(f, "killed in writes, back after {down:?}"),
            Self::StoppedInWrites(length) => write!(f, "stopped in writes for {length:?}"),
            Self::Cut(how) => write!(f, "cut ({how:?})"),
            Self::Refused(length) => write!(f, "refused for {length:?}"),
            Self::Blackhole(directions, length) => {
                write!(f, "black hole {directions:?} for {length:?}")
            }
            Self::Stalled(length) => write!(f, "stalled for {length:?}"),
            Self::Slow { by, length } => write!(f, "slower by {by:?} for {length:?}"),
            Self::Messages(_, length) => {
                write!(f, "messages lost, doubled, swapped for {length:?}")
            }
            Self::Deaf(length) => write!(f, "every message lost for {length:?}"),
        }
    }
}
