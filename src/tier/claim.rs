//! One load for the whole fleet: the claim to it, and the wait for another instance's value.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

use crate::bus::tier::{Claim, ClaimId, Name};
use crate::tier::pool::Pool;

/// The first pause of a load that waits for another instance's value; each further pause is twice as long.
const POLL: Duration = Duration::from_millis(4);

/// The longest pause: a waiter is late by half of it on average, and costs Redis 20 calls a second.
const MAX_POLL: Duration = Duration::from_millis(50);

/// The request of a load that wants to be the only one of the fleet: the right to load, and until when it
/// waits for another instance that has that right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) claim: Claim,
    until: Instant,
}

impl Request {
    pub(crate) fn new(pool: &Pool, wait: Duration) -> Self {
        let claim = Claim {
            id: pool.claim(),
            millis: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1),
        };
        Self {
            claim,
            until: Instant::now() + wait,
        }
    }
}

/// A wait for another instance's load.
#[derive(Debug)]
pub(crate) struct Waiting {
    request: Request,
    pause: Duration,
    /// A place in the queue.
    _place: OwnedSemaphorePermit,
}

impl Waiting {
    pub(crate) fn new(request: Request, place: OwnedSemaphorePermit) -> Self {
        Self {
            request,
            pause: POLL,
            _place: place,
        }
    }

    /// Waits before the next question. Returns the claim to ask for, or `None` if the wait is over: the
    /// last question is asked after it, and whatever the answer, it is the last.
    pub(crate) async fn pause(&mut self) -> Option<Claim> {
        let left = || self.request.until.saturating_duration_since(Instant::now());
        let jitter = 0.5 + fastrand::f64();
        sleep(self.pause.mul_f64(jitter).min(left())).await;
        self.pause = (self.pause * 2).min(MAX_POLL);
        Some(self.request.claim).filter(|_| !left().is_zero())
    }
}

/// The right to load for the fleet. It is given up however the load ends.
pub(crate) struct Held {
    pool: Arc<Pool>,
    lane: u32,
    name: Name,
    pub(crate) id: ClaimId,
    /// The store of the value has given it up already.
    pub(crate) released: bool,
}

impl Held {
    pub(crate) fn new(pool: Arc<Pool>, lane: u32, name: Name, id: ClaimId) -> Self {
        Self {
            pool,
            lane,
            name,
            id,
            released: false,
        }
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.released {
            self.pool.release(self.lane, self.name, self.id);
        }
    }
}
