//! Which loads may begin: how many run at once, how many wait for that, and how many of keys that nothing
//! in memory knows of. It knows nothing of keys and values.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::cache::bucket::{Loan, UnknownLoads, give_back};
use crate::settings::CacheOptions;
use crate::time::Clock;
use crate::{Error, ErrorKind};

/// Loads that may wait for their turn in one cache. Each is a task of about 1 KiB.
const MAX_WAITING: u64 = 65_536;

/// Bytes that the keys of those loads take together, which may be of 64 KiB each.
const MAX_WAITING_BYTES: u64 = 64 << 20;

/// Where a number of loads begins in a count of both; below it are bytes.
const ONE_WAITS: u64 = 1 << 40;

/// See the module's documentation.
pub(crate) struct Admission {
    max_loads: usize,
    /// How long a load waits for its turn.
    patience: Duration,
    running: Semaphore,
    /// Loads that wait for their turn, and the bytes of their keys.
    waiting: AtomicU64,
    /// None unless loads of unknown keys are limited.
    unknown: Option<UnknownLoads>,
}

impl Admission {
    pub(crate) fn new(options: &CacheOptions, clock: Clock) -> Self {
        let unknown = options.unknown_loads;
        Self {
            max_loads: options.max_loads,
            patience: options.load_timeout,
            running: Semaphore::new(options.max_loads),
            waiting: AtomicU64::new(0),
            unknown: unknown.map(|limit| UnknownLoads::new(limit, clock)),
        }
    }

    pub(crate) fn limits_unknown(&self) -> bool {
        self.unknown.is_some()
    }

    /// A place among the loads that run; waits for it at most `load_timeout`. `bytes` is what the keys take.
    pub(crate) async fn permit(
        &self,
        bytes: impl FnOnce() -> usize,
    ) -> Result<SemaphorePermit<'_>, Error> {
        if let Ok(permit) = self.running.try_acquire() {
            return Ok(permit);
        }
        let overloaded = || {
            let message = format!(
                "{} loads are running and none ended in time (max_loads); the source is too slow",
                self.max_loads
            );
            Error::new(ErrorKind::Overloaded, message)
        };
        let place = Place::take(&self.waiting, bytes()).ok_or_else(overloaded)?;
        let permit = timeout(self.patience, self.running.acquire()).await;
        drop(place);
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(overloaded()),
        }
    }

    /// Borrows what the load of unknown keys costs, a batch's too: `None` where they are not limited.
    pub(crate) async fn lend(&self, bytes: usize) -> Result<Option<Loan<'_>>, Error> {
        let Some(limit) = &self.unknown else {
            return Ok(None);
        };
        let place = Place::take(&self.waiting, bytes);
        let loan = match place {
            Some(_) => timeout(self.patience, limit.borrow()).await,
            None => Ok(None),
        };
        loan.ok().flatten().map(Some).ok_or_else(|| {
            let message = format!(
                "more than {} loads a second have found nothing; no unknown key is loaded at the \
                 moment (unknown_loads)",
                limit.limit
            );
            Error::new(ErrorKind::Limited, message)
        })
    }

    /// A batch has landed: each unknown key that it did not find costs as much as a load of its own.
    pub(crate) fn settle(&self, loan: Option<Loan<'_>>, absent: usize) {
        if let (Some(limit), true) = (&self.unknown, loan.is_some()) {
            limit.spend(absent);
        }
        give_back(loan);
    }
}

/// A place among those who wait for a load to begin.
pub(crate) struct Place<'a> {
    waiting: &'a AtomicU64,
    takes: u64,
}

impl<'a> Place<'a> {
    /// For loads of keys that take so many bytes.
    pub(crate) fn take(waiting: &'a AtomicU64, bytes: usize) -> Option<Self> {
        let takes = ONE_WAITS + (bytes as u64).min(MAX_WAITING_BYTES);
        let place = Self { waiting, takes };
        let all = waiting.fetch_add(takes, Relaxed) + takes;
        // Dropped at once, and so given back, when there is none.
        (all / ONE_WAITS <= MAX_WAITING && all % ONE_WAITS <= MAX_WAITING_BYTES).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.takes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_that_wait_are_bounded_by_number_and_by_the_bytes_of_their_keys() {
        let waiting = AtomicU64::new(0);
        let fits = |bytes: usize| {
            let mut places = Vec::new();
            while let Some(place) = Place::take(&waiting, bytes) {
                places.push(place);
            }
            places.len() as u64
        };
        assert_eq!(fits(0), MAX_WAITING);
        assert_eq!(fits(10), MAX_WAITING);
        assert_eq!(fits(65_536), MAX_WAITING_BYTES / 65_536);
        assert_eq!(
            fits(usize::MAX),
            1,
            "a batch whose keys take more than all waits alone"
        );
        assert_eq!(waiting.load(Relaxed), 0, "all places are given back");
    }
}
