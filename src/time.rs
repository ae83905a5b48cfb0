//! The clocks: one that nothing in this process can stop, and one that notices a stopped machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_getres, clock_gettime};

/// Nanoseconds of a monotonic clock; only differences mean anything, and 0 means "never".
pub(crate) type Nanos = u64;

/// Where the time comes from.
///
/// Reads go to the kernel on every hit: a time kept by a task would stand still when the runtime
/// stalls or the process is stopped, and hits would be served on it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Clock {
    /// `CLOCK_MONOTONIC_COARSE`: about 5 ns a reading, in steps of 1 to 10 ms (4 ms usually).
    #[default]
    Kernel,
    /// tokio's clock, which tests pause and advance.
    #[cfg(any(test, feature = "test-util"))]
    Tokio(tokio::time::Instant),
}

impl Clock {
    /// The time, at most one coarse step in the past.
    #[inline]
    pub(crate) fn now(self) -> Nanos {
        match self {
            Self::Kernel => read(ClockId::MonotonicCoarse),
            #[cfg(any(test, feature = "test-util"))]
            Self::Tokio(start) => since(start),
        }
    }

    /// How far [`now`](Self::now) may lag behind the time: one coarse step.
    pub(crate) fn step(self) -> Nanos {
        match self {
            Self::Kernel => {
                let step = clock_getres(ClockId::MonotonicCoarse);
                (step.tv_sec as u64 * 1_000_000_000).saturating_add(step.tv_nsec as u64)
            }
            #[cfg(any(test, feature = "test-util"))]
            Self::Tokio(_) => 0,
        }
    }

    /// The time to the nanosecond, for measuring delays; costs more than [`now`](Self::now).
    pub(crate) fn precise(self) -> Nanos {
        match self {
            Self::Kernel => read(ClockId::Monotonic),
            #[cfg(any(test, feature = "test-util"))]
            Self::Tokio(start) => since(start),
        }
    }
}

/// Starts an hour after "never", so that ages never underflow in tests.
#[cfg(any(test, feature = "test-util"))]
fn since(start: tokio::time::Instant) -> Nanos {
    nanos(Duration::from_secs(3600) + start.elapsed())
}

/// Looks at the kernel's clock until it has moved: two are enough where it counts nanoseconds. A clock
/// that has not moved by then tells nothing.
const LOOKS: usize = 1_000_000;

/// Returns whether tokio's clock is paused. One that runs moves whenever the kernel's does.
pub(crate) fn tokio_stands_still() -> bool {
    let tokio = tokio::time::Instant::now();
    let kernel = std::time::Instant::now();
    let moved = (0..LOOKS).any(|_| !kernel.elapsed().is_zero());
    moved && tokio.elapsed().is_zero()
}

#[inline]
fn read(id: ClockId) -> Nanos {
    let time = clock_gettime(id);
    (time.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec as u64)
}

/// A duration as nanoseconds, at most 292 years.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos())
        .unwrap_or(u64::MAX / 2)
        .min(u64::MAX / 2)
}

/// How often the [`Watchdog`] looks; after a machine was suspended, hits may be stale for as long.
pub(crate) const WATCHDOG_TICK: Duration = Duration::from_millis(100);

/// A difference between two clocks that grows by more than this is a jump. The readings are taken
/// microseconds apart; a process that is stopped between two of them sees a difference that the next
/// look takes back.
const JUMP: Duration = Duration::from_millis(250);

/// What NTP may slew a clock by, as a part of the time that passes: 500 ppm. So much of a difference is
/// forgotten again.
const SLEWED: i64 = 2_000;

/// Notices that the monotonic clock stood still while the world went on, and that the coarse clock,
/// which hits read, lags behind it.
///
/// `CLOCK_MONOTONIC` does not count the time a machine is suspended; `CLOCK_BOOTTIME` does, and the
/// wall clock is set right after a virtual machine is resumed. A machine frozen from outside may
/// hide the gap from all three; nothing inside can see that.
///
/// Differences are summed up: pauses that are short, each for itself, make a hit as stale together as
/// one that is long.
#[derive(Debug)]
pub(crate) struct Watchdog {
    last: Reading,
    /// How far the boot clock and the wall clock have come away from the monotonic one.
    boot: i64,
    wall: i64,
    /// How far the coarse clock may lag behind.
    step: Nanos,
}

/// Why nothing that is held may be served any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The clocks have come apart by so much.
    Apart(Duration),
    /// The coarse clock lags by so much: ages are larger than hits believe.
    Lags(Duration),
}

/// The four clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) monotonic: Nanos,
    pub(crate) boot: Nanos,
    pub(crate) wall: Nanos,
    pub(crate) coarse: Nanos,
}

impl Reading {
    pub(crate) fn take() -> Self {
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
    pub(crate) fn new(now: Reading, step: Nanos) -> Self {
        let (last, boot, wall) = (now, 0, 0);
        Self {
            last,
            boot,
            wall,
            step,
        }
    }

    /// Whether the clocks have come apart, all in all, by more than a jump; or whether the coarse one
    /// lags by more than its step, which is all that hits allow for, and another one, by which a
    /// machine that is only busy may be late with it.
    ///
    /// A wall clock that an operator sets is a jump too: a fence too many costs some loads, a
    /// fence too few serves what is stale.
    pub(crate) fn look(&mut self, now: Reading) -> Option<Doubt> {
        let elapsed = now.monotonic.wrapping_sub(self.last.monotonic) as i64;
        let boot = now.boot.wrapping_sub(self.last.boot) as i64;
        let wall = now.wall.wrapping_sub(self.last.wall) as i64;
        self.last = now;
        let sum = |apart: i64, passed: i64| {
            let sum = apart.saturating_add(passed.saturating_sub(elapsed));
            sum.signum() * (sum.saturating_abs() - elapsed.max(0) / SLEWED).max(0)
        };
        (self.boot, self.wall) = (sum(self.boot, boot), sum(self.wall, wall));
        let apart = self.boot.unsigned_abs().max(self.wall.unsigned_abs());
        if apart > nanos(JUMP) {
            (self.boot, self.wall) = (0, 0);
            return Some(Doubt::Apart(Duration::from_nanos(apart)));
        }
        let lag = now.monotonic.saturating_sub(now.coarse);
        (lag > 2 * self.step).then(|| Doubt::Lags(Duration::from_nanos(lag)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(monotonic: u64, boot: u64, wall: u64) -> Reading {
        Reading {
            monotonic: monotonic * MS,
            boot: boot * MS,
            wall: wall * MS,
            coarse: monotonic * MS,
        }
    }

    #[tokio::test]
    async fn a_paused_clock_is_seen_and_one_that_runs_is_not() {
        assert!((0..1_000).all(|_| !tokio_stands_still()));
        tokio::time::pause();
        assert!(tokio_stands_still());
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(tokio_stands_still());
        tokio::time::resume();
        assert!((0..1_000).all(|_| !tokio_stands_still()));
    }

    #[test]
    fn the_kernel_clock_moves_and_coarse_is_not_ahead() {
        let coarse = Clock::Kernel.now();
        let precise = Clock::Kernel.precise();
        let step = Clock::Kernel.step();
        assert!(coarse > 0 && coarse <= precise && precise - coarse <= 2 * step);
        assert!(step <= 20_000_000, "{step} ns");
    }

    #[test]
    fn watchdog_sees_suspension_and_wall_jumps_but_not_slewing() {
        let mut dog = Watchdog::new(at(1_000, 5_000, 90_000), 4 * MS);
        assert_eq!(dog.look(at(1_100, 5_100, 90_101)), None);
        // Suspended for 60 s: the boot clock and the wall clock went on.
        let suspended = dog.look(at(1_200, 65_200, 150_201));
        assert!(matches!(suspended, Some(Doubt::Apart(by)) if by.as_secs_f64().round() == 60.0));
        assert_eq!(dog.look(at(1_300, 65_300, 150_301)), None);
        // Frozen by a hypervisor: only the wall clock tells, once it is set.
        let frozen = dog.look(at(1_400, 65_400, 155_401));
        assert!(matches!(frozen, Some(Doubt::Apart(by)) if by.as_secs_f64().round() == 5.0));
        // Set back.
        assert!(dog.look(at(1_500, 65_500, 145_501)).is_some());
        // A stall of the process is no jump: all clocks went on together.
        assert_eq!(dog.look(at(31_500, 95_500, 175_501)), None);
    }
    /// Ten minutes of looks, each of which finds that the machine stood still for so much of 100 ms.
    fn stood_still(microseconds: u64) -> Vec<Doubt> {
        let start = at(1_000, 5_000, 90_000);
        let (mut now, mut dog) = (start, Watchdog::new(start, 4 * MS));
        let looks = (0..6_000).filter_map(|_| {
            let hidden = microseconds * 1_000;
            now.monotonic += 100 * MS - hidden;
            now.coarse = now.monotonic;
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
        // 20 ms of each 100: a second of it is a jump, and so on.
        let seen = stood_still(20_000);
        assert!((400..=500).contains(&seen.len()), "{}", seen.len());
        assert!(seen.iter().all(|doubt| matches!(doubt, Doubt::Apart(_))));
    }

    #[test]
    fn a_reading_that_was_interrupted_adds_up_to_nothing() {
        let mut now = at(1_000, 5_000, 90_000);
        let mut dog = Watchdog::new(now, 4 * MS);
        for look in 0..1_000_u64 {
            now = at(1_100 + look * 100, 5_100 + look * 100, 90_100 + look * 100);
            // Every other one was stopped after it had read the first clock.
            now.boot += (look % 2) * 200 * MS;
            assert_eq!(dog.look(now), None, "look {look}");
        }
    }

    #[test]
    fn a_coarse_clock_that_lags_by_more_than_its_step_is_seen() {
        let mut now = at(1_000, 5_000, 90_000);
        let mut dog = Watchdog::new(now, 4 * MS);
        let mut look = |lag: u64| {
            now = at(
                now.monotonic / MS + 100,
                now.boot / MS + 100,
                now.wall / MS + 100,
            );
            now.coarse = now.monotonic - lag * MS;
            dog.look(now)
        };
        assert_eq!([look(0), look(4), look(8)], [None; 3]);
        let lags = |milliseconds| Some(Doubt::Lags(Duration::from_millis(milliseconds)));
        assert_eq!([look(9), look(60), look(3)], [lags(9), lags(60), None]);
    }
}
