//! Numbers that tell instances, writes and claims apart.
//!
//! They come from the operating system. A generator inside the process is copied with the process: by
//! a fork, by a snapshot of a virtual machine, by a function that is resumed from an image. Its
//! copies would draw the same numbers, and each would take the other for itself.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::time::Clock;
use crate::{Error, ErrorKind};

/// The id of an instance: a new random number at each start.
///
/// `Display` writes its first 8 hex digits: the one form in which the log, the metrics (label `id` of
/// `unstale_settings_info`) and `unstale status` and `tail` name an instance.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use unstale::{Instance, LocalBus, Settings};
///
/// let instance = Instance::start_on(&LocalBus::default(), Settings::default()).await?;
/// assert_eq!(instance.id().to_string().len(), 8);
/// assert_eq!(instance.health().id, instance.id());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(u64);

impl InstanceId {
    pub(crate) fn new(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:08x}", self.0 >> 32))
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({self})")
    }
}

/// The id of an instance; never 0, which says that a writer has none.
pub(crate) fn instance(clock: Clock) -> Result<u64, Error> {
    #[cfg(any(test, feature = "test-util"))]
    if matches!(clock, Clock::Tokio(_)) && seeded::next().is_some() {
        return Ok(fastrand::u64(1..));
    }
    let _ = clock;
    loop {
        match getrandom::u64() {
            Ok(0) => {}
            Ok(id) => return Ok(id),
            Err(error) => {
                let message = format!("the operating system provides no random numbers: {error}");
                return Err(Error::new(ErrorKind::Settings, message));
            }
        }
    }
}

/// A number that neither this process nor a copy of it has used. If the operating system provides
/// none, it is unique in this process only; no instance starts without one.
pub(crate) fn unique() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    #[cfg(any(test, feature = "test-util"))]
    if let Some(number) = seeded::next() {
        return number;
    }
    getrandom::u64().unwrap_or_else(|_| LAST.fetch_add(1, Relaxed))
}

/// For simulations, which go alike with the same seed: what is unique is counted.
#[cfg(any(test, feature = "test-util"))]
pub(crate) mod seeded {
    use std::cell::Cell;

    std::thread_local! {
        static NEXT: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// From now on this thread counts.
    pub(crate) fn begin() {
        NEXT.set(Some(1));
    }

    pub(super) fn next() -> Option<u64> {
        let number = NEXT.get()?;
        NEXT.set(Some(number + 1));
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_in_the_same_state_gives_no_instance_the_same_id() {
        let ids = [(); 2].map(|()| {
            fastrand::seed(7);
            instance(Clock::Kernel).unwrap()
        });
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn an_id_is_shown_by_its_first_eight_digits_everywhere() {
        let id = InstanceId::new(0x0123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "01234567");
        assert_eq!(
            format!("{id:?} {id:>10}"),
            "InstanceId(01234567)   01234567"
        );
        assert_eq!(InstanceId::new(7).to_string(), "00000000");
    }

    #[test]
    fn what_a_seed_makes_goes_alike_on_a_paused_clock_only() {
        let simulated = Clock::Tokio(tokio::time::Instant::now());
        let run = || {
            fastrand::seed(7);
            seeded::begin();
            [instance(simulated).unwrap(), unique(), unique()]
        };
        let first = run();
        assert_eq!(first, run());
        assert_ne!(first[1], first[2]);
        fastrand::seed(7);
        assert_ne!(instance(Clock::Kernel).unwrap(), first[0]);
    }
}
