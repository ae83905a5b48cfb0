//! The clocks: one that nothing in this process can stop, and one that notices a stopped machine.

pub(crate) mod watchdog;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_getres, clock_gettime};

/// Nanoseconds of a monotonic clock; only differences mean anything, and 0 means "never".
pub(crate) type Nanos = u64;

/// How much time has passed while the monotonic clock stood still, as far as the other clocks have shown.
/// It is one number for all instances, for they share the clock. Only [`watchdog`] adds to it, and nothing
/// takes from it.
static UNSEEN: AtomicU64 = AtomicU64::new(0);

/// How late a tick may be before the watchdog fences. On two cores with a load of 15 a lag of 23 ms was the
/// longest of five minutes, with steps of 4 ms; a fence for less would drop everything on busy machines.
const LATE_TICK: Nanos = 20_000_000;

/// Where the time comes from.
///
/// Reads go to the kernel on every hit: a time kept by a task would stand still when the runtime
/// stalls or the process is stopped, and hits would be served on it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Clock {
    /// `CLOCK_MONOTONIC_COARSE`: about 5 ns a reading, in steps of 1 to 10 ms (4 ms usually). It lags by up to
    /// two steps, for the kernel adds whole steps and keeps the rest, and by more while a tick is late.
    #[default]
    Kernel,
    /// tokio's clock, which tests pause and advance.
    #[cfg(any(test, feature = "test-util"))]
    Tokio(tokio::time::Instant),
}

impl Clock {
    /// Returns the time, at most [`lag`](Self::lag) in the past, or the watchdog notices.
    #[inline]
    pub(crate) fn now(self) -> Nanos {
        match self {
            Self::Kernel => read(ClockId::MonotonicCoarse).wrapping_add(UNSEEN.load(Relaxed)),
            #[cfg(any(test, feature = "test-util"))]
            Self::Tokio(start) => since(start),
        }
    }

    /// Returns how far [`now`](Self::now) may lag behind the time: two coarse steps and a late tick. What must
    /// not be served too long is served that much shorter.
    pub(crate) fn lag(self) -> Nanos {
        match self {
            Self::Kernel => {
                let step = clock_getres(ClockId::MonotonicCoarse);
                let step = (step.tv_sec as u64 * 1_000_000_000).saturating_add(step.tv_nsec as u64);
                step.saturating_mul(2).saturating_add(LATE_TICK)
            }
            #[cfg(any(test, feature = "test-util"))]
            Self::Tokio(_) => 0,
        }
    }

    /// Returns the time to the nanosecond, for measuring delays; costs more than [`now`](Self::now).
    pub(crate) fn precise(self) -> Nanos {
        match self {
            Self::Kernel => read(ClockId::Monotonic).wrapping_add(UNSEEN.load(Relaxed)),
            #[cfg(any(test, feature = "test-util"))]
            Self::Tokio(start) => since(start),
        }
    }
}

/// Lets the clock miss so much time, as if the machine had been suspended for as long and the watchdog
/// had seen it.
#[cfg(any(test, feature = "test-util"))]
pub(crate) fn miss(time: Duration) {
    UNSEEN.fetch_add(nanos(time), Relaxed);
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

/// Returns a duration as nanoseconds, at most 292 years.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos())
        .unwrap_or(u64::MAX / 2)
        .min(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(coarse > 0 && coarse <= precise);
        // Two steps of 10 ms at most, and a late tick.
        let lag = Clock::Kernel.lag();
        assert!((LATE_TICK..=2 * LATE_TICK).contains(&lag), "{lag} ns");
    }
}
