//! The task that empties a lane's outbox.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::core::{Core, Phase};
use crate::event::Event;
use crate::outbox::Group;
use crate::{Error, ErrorKind};

/// The first pause after a failure; each further one doubles it.
const BACKOFF: Duration = Duration::from_millis(50);

/// The longest pause: what a fleet waits for at most once Redis is back.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Publishes what one lane's outbox holds, one message at a time, for as long as the instance runs.
pub(crate) struct Publisher {
    pub(crate) core: Arc<Core>,
    pub(crate) lane: u32,
}

impl Publisher {
    pub(crate) async fn run(self) {
        let mut phase = self.core.phase.subscribe();
        let out = &self.core.lanes[self.lane as usize];
        let mut failures = 0_u32;
        loop {
            let Some(group) = self.take() else {
                tokio::select! {
                    biased;
                    _ = phase.wait_for(|phase| *phase == Phase::Closed) => return,
                    () = out.work.notified() => continue,
                }
            };
            match self.publish(group).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.note(error, failures);
                    tokio::select! {
                        biased;
                        _ = phase.wait_for(|phase| *phase == Phase::Closed) => return,
                        () = tokio::time::sleep(backoff(failures)) => {}
                    }
                }
            }
        }
    }

    fn take(&self) -> Option<Group> {
        let out = &self.core.lanes[self.lane as usize];
        let mut outbox = out.outbox();
        let group = outbox.take();
        // Under the lock, so that nobody finds it in neither place.
        out.in_flight.store(group.is_some(), Relaxed);
        group
    }

    /// An event that fails, or whose acknowledgement is lost, goes back: published twice is
    /// harmless, published never is not.
    async fn publish(&self, group: Group) -> Result<(), Error> {
        let core = &*self.core;
        let out = &core.lanes[self.lane as usize];
        let event = Event {
            origin: core.id,
            sent: out.own.stamp(core.clock.precise(), core.settings.journal),
            ops: group.ops,
        };
        let payload = core.seal.encode(self.lane, &event);
        let clears = group.clears.clone();
        let group = Group {
            ops: event.ops,
            ..group
        };
        let published = match core.agreed().await {
            Ok(()) => core.bus.publish(self.lane, payload, clears).await,
            Err(error) => Err(error),
        };
        match published {
            Ok(position) => {
                core.metrics.published.inc();
                let now = core.clock.now();
                let took = core.clock.precise().saturating_sub(group.since);
                core.metrics.publish.observe(Duration::from_nanos(took));
                core.writes.cleared(self.lane, &group.clears);
                core.apply_own(self.lane, Some(position), &group.ops);
                let waiting = out.outbox().sent(group, position, now);
                waiting.answer(&Ok(()));
                out.set_trouble(None);
                Ok(())
            }
            Err(error) => {
                let collapsed = out.outbox().restore(group);
                core.note_collapse(self.lane, collapsed);
                Err(error)
            }
        }
    }

    fn note(&self, error: Error, failures: u32) {
        let core = &*self.core;
        core.metrics.publish_failures.inc();
        if let Some(suppressed) = core.outages.allow(core.clock.now()) {
            let advice = match error.kind() {
                ErrorKind::Auth => "grant the Redis user the rights in deploy/redis/users.acl",
                ErrorKind::Lanes => "set UNSTALE_LANES to what the fleet uses",
                _ => "it is kept and retried; check Redis and the network",
            };
            tracing::warn!(lane = self.lane, failures, suppressed, %error, "cannot publish: {advice}");
        }
        core.lanes[self.lane as usize].set_trouble(Some(error));
    }
}

/// Half of it is random, so that a fleet does not come back in step.
fn backoff(failures: u32) -> Duration {
    let full = BACKOFF
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(MAX_BACKOFF);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}
