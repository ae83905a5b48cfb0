//! Notices that the monotonic clock stood still while the world went on, and lets it catch up; and that the
//! coarse clock, which hits read, lags behind it.
//!
//! What always holds, whatever happens to the clocks: **an age is never smaller than the time that has passed**, except
//! for what cannot be seen yet: a tick, and differences that are together below [`JUMP`].
//!
//! - `CLOCK_MONOTONIC` does not count the time a machine is suspended. `CLOCK_BOOTTIME` does, and the wall
//!   clock is set right after a virtual machine is resumed. Where one of the two goes further than the
//!   monotonic clock, that much time has passed unseen.
//! - It is added to what [`Clock`](super::Clock) says. So everything gets older at once: verifications, TTLs,
//!   loads under way. What is older than its bound then is not served, and nothing else changes.
//! - A wall clock that is set forward looks the same, and is taken for the same: an age too large costs a
//!   verification, an age too small serves what is stale.
//! - A wall clock that is set back proves nothing. It says nothing of the time that has passed, so it takes
//!   nothing back, and it is no credit from which a later difference could be paid.
//! - A machine that is frozen from outside may hide the gap from all clocks; nothing inside can see that.
//!
//! Differences are summed up: pauses that are short, each for itself, make a hit as stale together as one
//! that is long.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::time::ClockId;

use super::{Nanos, UNSEEN, nanos, read};
use crate::lock::Lock;

/// How often the watchdog looks; after a machine was suspended, hits may be stale for as long.
pub(crate) const WATCHDOG_TICK: Duration = Duration::from_millis(100);

/// A difference between two clocks that grows by more than this is time that passed unseen. The readings are
/// taken microseconds apart; a process that is stopped between two of them sees a difference that the next
/// look takes back.
const JUMP: Duration = Duration::from_millis(250);

/// What NTP may slew a clock by, as a part of the time that passes: 500 ppm. So much of a difference is
/// forgotten again.
const SLEWED: i64 = 2_000;

/// One for all instances of the process: each of them would add the same time again.
static WATCHDOG: Lock<Option<Watchdog>> = Lock::new(None);

/// What a look at the clocks has shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// The time that has passed unseen, all in all. An instance compares it with what it was at its own last
    /// look: another instance may have found out first.
    pub(crate) unseen: Nanos,
    /// How far the coarse clock is behind.
    pub(crate) lag: Nanos,
}

/// Compares the clocks, and lets [`Clock`](super::Clock) catch up.
pub(crate) fn look() -> Look {
    let mut watchdog = WATCHDOG.lock();
    // Under the lock: readings come in order.
    let now = Reading::take();
    let watchdog = watchdog.get_or_insert_with(|| Watchdog::new(now));
    if let Some(unseen) = watchdog.look(now) {
        UNSEEN.fetch_add(nanos(unseen), Relaxed);
    }
    Look {
        unseen: UNSEEN.load(Relaxed),
        lag: now.monotonic.saturating_sub(now.coarse),
    }
}

/// See the module's documentation.
#[derive(Debug)]
struct Watchdog {
    last: Reading,
    /// How far the boot clock and the wall clock are ahead of the monotonic one since time was last added.
    boot: i64,
    wall: i64,
}

/// The four clocks at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    monotonic: Nanos,
    boot: Nanos,
    wall: Nanos,
    coarse: Nanos,
}

impl Reading {
    fn take() -> Self {
        Self {
            monotonic: read(ClockId::Monotonic),
            #[cfg(target_os = "linux")]
            boot: read(ClockId::Boottime),
            #[cfg(not(target_os = "linux"))]
            boot: read(ClockId::Monotonic),
            wall: read(ClockId::Realtime),
            // The last one: what passes in between makes its lag smaller, never larger.
            coarse: read(ClockId::MonotonicCoarse),
        }
    }
}

impl Watchdog {
    fn new(now: Reading) -> Self {
        Self {
            last: now,
            boot: 0,
            wall: 0,
        }
    }

    /// Returns how much time has passed unseen since it last returned some, if that is more than a jump.
    fn look(&mut self, now: Reading) -> Option<Duration> {
        let since = |now: Nanos, last: Nanos| now.wrapping_sub(last) as i64;
        let elapsed = since(now.monotonic, self.last.monotonic);
        let slewed = elapsed.max(0) / SLEWED;
        let ahead = |before: i64, passed: i64| {
            let unseen = passed.saturating_sub(elapsed).saturating_sub(slewed);
            before.saturating_add(unseen).max(0)
        };
        self.boot = ahead(self.boot, since(now.boot, self.last.boot));
        self.wall = ahead(self.wall, since(now.wall, self.last.wall));
        self.last = now;
        // The same pause shows in both.
        let unseen = Duration::from_nanos(self.boot.max(self.wall).unsigned_abs());
        if unseen <= JUMP {
            return None;
        }
        (self.boot, self.wall) = (0, 0);
        Some(unseen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Clock;

    const MS: u64 = 1_000_000;

    fn at(monotonic: u64, boot: u64, wall: u64) -> Reading {
        Reading {
            monotonic: monotonic * MS,
            boot: boot * MS,
            wall: wall * MS,
            coarse: monotonic * MS,
        }
    }

    /// In milliseconds; what NTP may have slewed is a part of one.
    fn look(dog: &mut Watchdog, now: Reading) -> Option<u128> {
        dog.look(now)
            .map(|unseen| (unseen.as_micros() + 500) / 1_000)
    }

    #[test]
    fn a_machine_that_was_suspended_or_frozen_has_missed_that_much_time() {
        let mut dog = Watchdog::new(at(1_000, 5_000, 90_000));
        assert_eq!(look(&mut dog, at(1_100, 5_100, 90_100)), None);
        // Suspended for 60 s: the boot clock and the wall clock went on.
        assert_eq!(look(&mut dog, at(1_200, 65_200, 150_200)), Some(60_000));
        assert_eq!(look(&mut dog, at(1_300, 65_300, 150_300)), None);
        // Frozen by a hypervisor: only the wall clock tells, once it is set.
        assert_eq!(look(&mut dog, at(1_400, 65_400, 155_400)), Some(5_000));
        // A stall of the process is no jump: all clocks went on together.
        assert_eq!(look(&mut dog, at(31_400, 95_400, 185_400)), None);
    }

    #[test]
    fn a_wall_clock_that_is_set_back_proves_nothing_and_hides_nothing() {
        let mut dog = Watchdog::new(at(1_000, 5_000, 90_000));
        assert_eq!(look(&mut dog, at(1_100, 5_100, 85_100)), None);
        assert_eq!(look(&mut dog, at(1_200, 5_200, 85_200)), None);
        // The step back is no credit: the machine was frozen for 4 s.
        assert_eq!(look(&mut dog, at(1_300, 5_300, 89_300)), Some(4_000));
        // Set back again and again.
        for step in 0..1_000 {
            let (now, wall) = (1_400 + step * 15_000, 89_400 + step * 14_600);
            assert_eq!(look(&mut dog, at(now, now + 4_000, wall)), None, "{step}");
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_forward_makes_ages_older_by_as_much() {
        let mut dog = Watchdog::new(at(1_000, 5_000, 90_000));
        for step in 1..1_000 {
            let mut seen = Vec::new();
            for tick in 0..150 {
                let now = 1_000 + (step * 150 + tick) * 100;
                seen.extend(look(
                    &mut dog,
                    at(now, now + 4_000, now + 89_000 + step * 400),
                ));
            }
            assert!(
                seen.len() == 1 && (350..=400).contains(&seen[0]),
                "{seen:?}"
            );
        }
    }

    /// A day of suspensions, freezes, steps and slewing: what was added is never less than what has passed
    /// unseen, except for what is too little to be distinguished from a reading that was interrupted.
    #[test]
    fn no_age_is_too_small_whatever_happens_to_the_clocks() {
        for seed in 0..200 {
            let mut dice = fastrand::Rng::with_seed(seed);
            let mut now = at(1_000, 5_000, 90_000_000);
            let mut dog = Watchdog::new(now);
            let (mut missed, mut added) = (0, Duration::ZERO);
            for _ in 0..2_000 {
                let tick = 100 * MS;
                now.monotonic += tick;
                now.boot += tick;
                now.wall += tick;
                let pause = dice.u64(1..9_000) * MS;
                match dice.u32(0..20) {
                    // Suspended; frozen; the wall clock is set back, or forward.
                    0 => {
                        now.boot += pause;
                        now.wall += pause;
                        missed += pause;
                    }
                    1 => {
                        now.wall += pause;
                        missed += pause;
                    }
                    2 => now.wall -= pause,
                    3 => now.wall += pause,
                    _ => {}
                }
                added += dog.look(now).unwrap_or_default();
                assert!(added + JUMP >= Duration::from_nanos(missed), "seed {seed}");
            }
            assert!(added > Duration::ZERO);
        }
    }

    /// Ten minutes of looks, each of which finds that the machine stood still for so much of 100 ms.
    fn stood_still(microseconds: u64) -> Vec<Duration> {
        let mut now = at(1_000, 5_000, 90_000);
        let mut dog = Watchdog::new(now);
        let looks = (0..6_000).filter_map(|_| {
            now.monotonic += 100 * MS - microseconds * 1_000;
            now.boot += 100 * MS;
            now.wall += 100 * MS;
            dog.look(now)
        });
        looks.collect()
    }

    #[test]
    fn pauses_too_short_to_be_seen_are_seen_together() {
        // What NTP slews is none.
        assert_eq!(stood_still(0), []);
        assert_eq!(stood_still(49), []);
        // 20 ms of each 100: two minutes of ten.
        let seen: Duration = stood_still(20_000).into_iter().sum();
        assert!((119..=120).contains(&seen.as_secs()), "{seen:?}");
    }

    #[test]
    fn a_reading_that_was_interrupted_adds_up_to_nothing() {
        let mut dog = Watchdog::new(at(1_000, 5_000, 90_000));
        for look in 0..1_000_u64 {
            let mut now = at(1_100 + look * 100, 5_100 + look * 100, 90_100 + look * 100);
            // Every other one was stopped after it had read the first clock.
            now.boot += (look % 2) * 200 * MS;
            assert_eq!(dog.look(now), None, "look {look}");
        }
    }

    #[test]
    fn the_clock_catches_up_with_what_was_missed() {
        let before = (
            look_at_the_clocks(),
            Clock::Kernel.now(),
            Clock::Kernel.precise(),
        );
        super::super::miss(Duration::from_secs(3));
        let after = (
            look_at_the_clocks(),
            Clock::Kernel.now(),
            Clock::Kernel.precise(),
        );
        let missed = 3_000 * MS;
        assert!(after.0 >= before.0 + missed);
        assert!(after.1 >= before.1 + missed && after.2 >= before.2 + missed);
    }

    fn look_at_the_clocks() -> Nanos {
        super::look().unseen
    }
}
