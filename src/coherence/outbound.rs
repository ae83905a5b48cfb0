//! The task that empties a lane's outbox.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tracing::Instrument;

use crate::backoff;
use crate::coherence::member::{Member, Phase};
use crate::coherence::outbox::Group;
use crate::event::Event;
use crate::spans;
use crate::{Error, ErrorKind};

/// The first pause after a failure; each further one doubles it.
const BACKOFF: Duration = Duration::from_millis(50);

/// The longest pause: what a fleet waits for at most once Redis is back.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Publishes what one lane's outbox holds, one message at a time, for as long as the instance runs.
pub(crate) struct Publisher {
    pub(crate) member: Arc<Member>,
    pub(crate) lane: u32,
}

impl Publisher {
    pub(crate) async fn run(self) {
        let mut phase = self.member.phase.subscribe();
        let out = &self.member.lanes[self.lane as usize];
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
                        () = tokio::time::sleep(backoff::jittered(BACKOFF, MAX_BACKOFF, failures)) => {}
                    }
                }
            }
        }
    }

    fn take(&self) -> Option<Group> {
        let out = &self.member.lanes[self.lane as usize];
        let mut outbox = out.outbox();
        let group = outbox.take();
        // Under the lock, so that every reader finds it in one of the two places.
        out.in_flight.store(group.is_some(), Relaxed);
        group
    }

    /// An event that fails, or whose acknowledgement is lost, goes back: to publish twice is
    /// harmless, to publish never is not.
    async fn publish(&self, mut group: Group) -> Result<(), Error> {
        let member = &*self.member;
        let out = &member.lanes[self.lane as usize];
        let stamp = member.clock.precise();
        let event = Event {
            origin: member.id,
            sent: out.own.stamp(stamp, member.settings.journal),
            ops: std::mem::take(&mut group.ops),
        };
        let payload = member.seal.encode(self.lane, &event);
        let span = spans::publication(self.lane, event.ops.len());
        let clears = group.clears.clone();
        group.ops = event.ops;
        let published = match member
            .agreement
            .agreed(member.settings.command_timeout)
            .await
        {
            Ok(()) => {
                let publishing = member.bus.publish(self.lane, payload, clears);
                publishing.instrument(span.clone()).await
            }
            Err(error) => Err(error),
        };
        match published {
            Ok(position) => {
                spans::published(&span, Ok(position));
                member.metrics.published.inc();
                // To the nanosecond, as a verification is sent: by a clock that lags, one that was sent before this
                // acknowledgement would look later, and its head would have the event published again.
                let now = member.clock.precise();
                let took = now.saturating_sub(group.since);
                member.metrics.publish.observe(Duration::from_nanos(took));
                member.writes.cleared(self.lane, &group.clears);
                member.apply_own(self.lane, Some(position), &group.ops);
                let waiting = out.outbox().sent(group, position, now);
                waiting.answer(&Ok(position));
                out.set_last_error(None);
                Ok(())
            }
            Err(error) => {
                spans::published(&span, Err(&error));
                let collapsed = out.outbox().restore(group);
                member.note_collapse(self.lane, collapsed);
                Err(error)
            }
        }
    }

    fn note(&self, error: Error, failures: u32) {
        let member = &*self.member;
        member.metrics.publish_failures.inc();
        if let Some(suppressed) = member.outages.allow(member.clock.now()) {
            let advice = match error.kind() {
                ErrorKind::Auth => "grant the Redis user the rights in deploy/redis/users.acl",
                ErrorKind::Lanes => "set UNSTALE_LANES to what the fleet uses",
                _ => "it is kept and retried; check Redis and the network",
            };
            tracing::warn!(
                instance = %member.name(), lane = self.lane, failures, suppressed, %error,
                "cannot publish: {advice}"
            );
        }
        member.lanes[self.lane as usize].set_last_error(Some(error));
    }
}
