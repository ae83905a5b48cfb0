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

/// A difference between two clocks that grows by more than this between two looks is a jump.
/// NTP slews at most 0.5 ms a second; the readings are taken microseconds apart.
const JUMP: Duration = Duration::from_millis(250);

/// Notices that the monotonic clock stood still while the world went on.
///
/// `CLOCK_MONOTONIC` does not count the time a machine is suspended; `CLOCK_BOOTTIME` does, and the
/// wall clock is set right after a virtual machine is resumed. A machine frozen from outside may
/// hide the gap from all three; nothing inside can see that.
#[derive(Debug)]
pub(crate) struct Watchdog {
    last: Reading,
}

/// The three clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) monotonic: Nanos,
    pub(crate) boot: Nanos,
    pub(crate) wall: Nanos,
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
        }
    }
}

impl Watchdog {
    pub(crate) fn new(now: Reading) -> Self {
        Self { last: now }
    }

    /// How far the clocks have come apart since the last look, if that is a jump.
    ///
    /// A wall clock that an operator sets is a jump too: a fence too many costs some loads, a
    /// fence too few serves what is stale.
    pub(crate) fn look(&mut self, now: Reading) -> Option<Duration> {
        let elapsed = now.monotonic.wrapping_sub(self.last.monotonic) as i64;
        let boot = now.boot.wrapping_sub(self.last.boot) as i64;
        let wall = now.wall.wrapping_sub(self.last.wall) as i64;
        self.last = now;
        let apart = boot.abs_diff(elapsed).max(wall.abs_diff(elapsed));
        (apart > nanos(JUMP)).then(|| Duration::from_nanos(apart))
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
        }
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
        let mut dog = Watchdog::new(at(1_000, 5_000, 90_000));
        assert_eq!(dog.look(at(1_100, 5_100, 90_101)), None);
        // Suspended for 60 s: the boot clock and the wall clock went on.
        assert_eq!(
            dog.look(at(1_200, 65_200, 150_201)),
            Some(Duration::from_secs(60))
        );
        assert_eq!(dog.look(at(1_300, 65_300, 150_301)), None);
        // Frozen by a hypervisor: only the wall clock tells, once it is set.
        assert_eq!(
            dog.look(at(1_400, 65_400, 155_401)),
            Some(Duration::from_secs(5))
        );
        // Set back.
        assert!(dog.look(at(1_500, 65_500, 145_501)).is_some());
        // A stall of the process is no jump: all clocks went on together.
        assert_eq!(dog.look(at(31_500, 95_500, 175_501)), None);
    }
}
