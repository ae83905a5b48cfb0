//! What the caches of one instance share: the secret, the bound on calls, the breakers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::Error;
use crate::bus::BoxFuture;
use crate::bus::shared::{Claim, ClaimId};
use crate::core::Core;
use crate::identity;
use crate::settings::Settings;
use crate::shared::breaker::Breaker;
use crate::shared::names::Secret;
use crate::shared::queue::{PATIENCE, Queue};
use crate::shared::wait::WAITERS;

/// Calls under way at once. With answers in 1 ms that is 32,000 a second, and values of 10 KB keep
/// the events that wait behind them on the connection for some milliseconds only.
const CALLS: usize = 32;

/// How long a call may wait for its turn, and then for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    turn: Duration,
    answer: Duration,
}

/// Somebody waits for what is read. A healthy Redis answers in a tenth of this, and a value that is
/// dear to load may cost a read so much more when Redis is slow; as long as it answers at all,
/// thousands get their turn.
const READ: Patience = Patience {
    turn: PATIENCE,
    answer: Duration::from_millis(100),
};

/// The longest wait for an answer of somebody who would load alone for the whole fleet. What is loaded
/// twice costs more there than a moment: a token that may be exchanged once, say.
const CLAIM_ANSWER: Duration = Duration::from_millis(500);

/// As [`READ`], for somebody who would wait so long for another instance's load.
pub(crate) fn patience(claim: Option<Claim>) -> Patience {
    let Some(claim) = claim else { return READ };
    let answer = Duration::from_millis(claim.millis).min(CLAIM_ANSWER);
    Patience {
        answer: answer.max(READ.answer),
        ..READ
    }
}

/// Nobody waits for what is stored.
pub(crate) const STORE: Patience = Patience {
    turn: Duration::from_secs(5),
    answer: Duration::from_secs(1),
};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) secret: Secret,
    turns: Semaphore,
    /// Reads that nobody asks for yet.
    pub(crate) queue: Arc<Queue>,
    /// Places for those who wait for another instance's load.
    pub(crate) waiters: Arc<Semaphore>,
    breakers: Box<[Breaker]>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Nobody was asked: the bus is away, or the breaker is open.
    Skipped,
    /// Too many others were asking.
    Busy,
    /// An error, or silence.
    Failed,
}

impl Calls {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            secret: Secret::new(settings),
            turns: Semaphore::new(CALLS),
            queue: Arc::new(Queue::new(CALLS)),
            waiters: Arc::new(Semaphore::new(WAITERS)),
            breakers: (0..settings.lanes).map(|_| Breaker::default()).collect(),
        }
    }

    /// A claim that no instance has, nor a copy of this one.
    pub(crate) fn claim(instance: u64) -> ClaimId {
        let number = identity::unique();
        (u128::from(instance) << 64 | u128::from(number)).to_be_bytes()
    }

    /// Whether a lane's breaker is open.
    pub(crate) fn broken(&self) -> bool {
        self.breakers.iter().any(Breaker::is_open)
    }

    /// Asks Redis, unless that would be in vain. Ends when the patience does.
    pub(crate) async fn ask<'a, T>(
        &self,
        core: &Core,
        lane: u32,
        patience: Patience,
        call: impl FnOnce() -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<T, NoAnswer> {
        if !core.bus.connected() {
            return Err(NoAnswer::Skipped);
        }
        let Ok(turn) = timeout(patience.turn, self.turns.acquire()).await else {
            return Err(NoAnswer::Busy);
        };
        // Only now: those before may have found that Redis is silent.
        let breaker = &self.breakers[lane as usize];
        let Some(admission) = breaker.admit(core.clock.now()) else {
            return Err(NoAnswer::Skipped);
        };
        let answer = timeout(patience.answer, call()).await;
        drop(turn);
        let error = match answer {
            Ok(Ok(answer)) => {
                if breaker.succeeded() {
                    tracing::info!(lane, "the shared tier answers again");
                }
                return Ok(answer);
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        if breaker.failed(admission, core.clock.now()) {
            core.metrics.shared_trips.inc();
        }
        if let Some(suppressed) = core.outages.allow(core.clock.now()) {
            let reason = error.map_or_else(|| "no answer in time".to_owned(), |e| e.to_string());
            tracing::warn!(
                lane,
                suppressed,
                reason,
                "the shared tier fails; entries are loaded instead. Check Redis, and its user's \
                 rights in deploy/redis/users.acl"
            );
        }
        Err(NoAnswer::Failed)
    }
}
