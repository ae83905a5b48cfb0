//! Crash-safe writes: intents, and what becomes of a commit whose outcome is unknown.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{Instrument, Span};

use crate::bus::{Intent, IntentId};
use crate::coherence::intents::MAX_OPEN;
use crate::coherence::member::{Member, Phase};
use crate::coherence::outbox::{Group, Invalidation};
use crate::coherence::reconcile::{doubt, reregister};
use crate::event::{Event, NO_ORIGIN};
use crate::metrics::WriteOutcome;
use crate::mutants::{Mechanism, without};
use crate::settings::WritePolicy;
use crate::spans;
use crate::time::{Nanos, nanos};
use crate::token::Token;
use crate::{Error, ErrorKind, WriteError};

/// Lanes in which one write announces its intent at the same time; further ones wait for these.
/// Most writes concern one lane, a tag concerns all: 64 lanes take one round trip.
const ANNOUNCED_AT_ONCE: usize = 64;

/// How long a write that may go on unannounced waits for a connection that is known to be lost, counted
/// from its loss: a lost connection is usually back by then, and what
/// is committed later is seen later by every instance.
const UNANNOUNCED_AFTER: Duration = Duration::from_millis(250);

/// How often a write is announced again because the announcement took too long.
const ATTEMPTS: usize = 3;

/// Commits, then invalidates; if this process dies in between, a peer invalidates. Returns what the commit did, and what
/// was published.
pub(crate) async fn write<T, E>(
    member: &Arc<Member>,
    items: Vec<Invalidation>,
    commit: impl Future<Output = Result<T, E>>,
) -> Result<(T, Token), WriteError<T, E>> {
    let span = spans::write(items.len());
    let write = write_within(member, items, commit, span.clone());
    write.instrument(span).await
}

async fn write_within<T, E>(
    member: &Arc<Member>,
    items: Vec<Invalidation>,
    commit: impl Future<Output = Result<T, E>>,
    span: Span,
) -> Result<(T, Token), WriteError<T, E>> {
    if member.phase() != Phase::Running {
        return Err(WriteError::Refused(Error::closed()));
    }
    let deadline = member.clock.now() + nanos(member.settings.write_timeout);
    let mut open = OpenWrite {
        member,
        items,
        intent: None,
        deadline,
        began: false,
        failed: false,
        done: false,
        span: span.clone(),
    };
    let policy = member.settings.write_policy;
    let announced = open.announce(policy).instrument(spans::announce()).await;
    match (announced, policy) {
        (Ok(()), _) => {}
        (Err(_), WritePolicy::Available) => {
            member.metrics.writes.note(WriteOutcome::Unannounced, &span);
            open.doubt();
        }
        (Err(error), WritePolicy::Strict) => {
            member.metrics.writes.note(WriteOutcome::Refused, &span);
            return Err(WriteError::Refused(error));
        }
    }
    let left = Duration::from_nanos(deadline.saturating_sub(member.clock.now()));
    if left.is_zero() {
        // 1: the write is announced; 2: this process stands still; 3: peers finish the write, also for
        // its deadline; 4: the commit would begin, and nothing would follow it.
        member.metrics.writes.note(WriteOutcome::Refused, &span);
        let message = "the time of the write was over before its commit began";
        return Err(WriteError::Refused(Error::new(
            ErrorKind::Overloaded,
            message,
        )));
    }
    open.began = true;
    let value = match timeout(left, commit.instrument(spans::commit())).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => {
            open.failed = true;
            member.metrics.writes.note(WriteOutcome::Failed, &span);
            return Err(WriteError::Commit(error));
        }
        Err(_) => {
            let after = humantime::format_duration(member.settings.write_timeout);
            let message = format!("no answer within write_timeout ({after})");
            return Err(WriteError::Abandoned(Error::new(
                ErrorKind::Overloaded,
                message,
            )));
        }
    };
    match open.committed().instrument(spans::publish()).await {
        Ok(token) => {
            member.metrics.writes.note(WriteOutcome::Ok, &span);
            Ok((value, token))
        }
        Err(error) => {
            member.metrics.writes.note(WriteOutcome::Unconfirmed, &span);
            Err(WriteError::Unconfirmed { value, error })
        }
    }
}

/// A write between its announcement and its publication.
///
/// Dropped on the way (the commit failed, panicked or was abandoned, or the caller went away) its
/// outcome is unknown: the keys are invalidated at once, and again at the deadline, by when a
/// database that enforces it has decided.
struct OpenWrite<'a> {
    member: &'a Arc<Member>,
    items: Vec<Invalidation>,
    intent: Option<IntentId>,
    deadline: Nanos,
    began: bool,
    /// The commit returned an error, which is counted as such.
    failed: bool,
    done: bool,
    span: Span,
}

impl OpenWrite<'_> {
    /// Announces the write, if there is a connection, or will be one in time.
    async fn announce(&mut self, policy: WritePolicy) -> Result<(), Error> {
        let member = self.member;
        let payloads: Vec<_> = (0..member.lane_count())
            .filter_map(|lane| Some((lane, payload_of(member, &self.items, lane)?)))
            .collect();
        if payloads.is_empty() {
            // A batch of nothing: there is nothing to finish, and no event would ever clear it.
            return Ok(());
        }
        let lanes = payloads.iter().map(|(lane, _)| *lane);
        let Some(since) = lanes.filter_map(|lane| member.bus.away_since(lane)).min() else {
            self.enter(&payloads)?;
            return self.announce_in_time(&payloads).await;
        };
        let wait = match policy {
            // As long as any command. A write that begins later is refused at once, and holds no
            // transaction open.
            WritePolicy::Strict => member.settings.command_timeout,
            WritePolicy::Available => UNANNOUNCED_AFTER,
        };
        let left = wait.saturating_sub(since.elapsed());
        let away = || Error::new(ErrorKind::Bus, "there is no connection to Redis");
        if left.is_zero() && policy == WritePolicy::Strict {
            return Err(away());
        }
        // A write that goes on unannounced is still open: it is published at its deadline, and
        // recorded when Redis asks for what is open.
        self.enter(&payloads)?;
        if left.is_zero() {
            return Err(away());
        }
        let announced = timeout(left, self.announce_in_time(&payloads)).await;
        announced.unwrap_or_else(|_| Err(away()))
    }

    /// Gives the write a place among those that are open.
    fn enter(&mut self, payloads: &[(u32, Bytes)]) -> Result<(), Error> {
        let member = self.member;
        let intent = member
            .writes
            .open(member.id, payloads.to_vec(), self.deadline);
        self.intent = Some(intent.ok_or_else(|| {
            Error::new(
                ErrorKind::Overloaded,
                format!("{MAX_OPEN} writes are waiting for Redis"),
            )
        })?);
        member.set_busy(true);
        Ok(())
    }

    /// Announces the write in every lane that it concerns. When the commit begins, the
    /// announcement is younger than half a `member_timeout`: no peer takes the writer for dead before
    /// the other half has passed as well.
    async fn announce_in_time(&self, payloads: &[(u32, Bytes)]) -> Result<(), Error> {
        let member = self.member;
        for _ in 0..ATTEMPTS {
            let sent_at = member.clock.now();
            self.announce_to_all(payloads).await?;
            let age = member.clock.now().saturating_sub(sent_at);
            if age <= nanos(member.settings.member_timeout) / 2 || without(Mechanism::WritersGate) {
                return Ok(());
            }
        }
        Err(Error::new(
            ErrorKind::Bus,
            "Redis is too slow to announce the write in time",
        ))
    }

    /// Announces the write in all these lanes, several at once; ends at the first failure.
    async fn announce_to_all(&self, payloads: &[(u32, Bytes)]) -> Result<(), Error> {
        let Some(id) = self.intent else { return Ok(()) };
        // Dropped with the write, it aborts what is under way.
        let mut announcements = JoinSet::new();
        for (lane, payload) in payloads {
            if announcements.len() >= ANNOUNCED_AT_ONCE {
                joined(announcements.join_next().await)?;
            }
            let (member, lane, payload) = (Arc::clone(self.member), *lane, payload.clone());
            announcements.spawn(announce(member, id, self.deadline, lane, payload));
        }
        while !announcements.is_empty() {
            joined(announcements.join_next().await)?;
        }
        Ok(())
    }

    /// The intent may be recorded or not, in any of its lanes.
    fn doubt(&self) {
        let Some(id) = self.intent else { return };
        for lane in self.member.writes.lanes_of(&id) {
            doubt(self.member, lane);
        }
    }

    /// The commit returned Ok: drop, publish once, clear the intent in the same step.
    async fn committed(mut self) -> Result<Token, Error> {
        self.done = true;
        if without(Mechanism::PublishAfterCommit) {
            return Ok(Token::default());
        }
        self.member.drop_local(&self.items);
        let waiters = self.member.enqueue(&self.items, self.intent)?;
        self.member.acknowledged(waiters).await
    }
}

/// Announces one write in one lane.
async fn announce(
    member: Arc<Member>,
    id: IntentId,
    deadline: Nanos,
    lane: u32,
    payload: Bytes,
) -> Result<(), Error> {
    let deadline = Duration::from_nanos(deadline.saturating_sub(member.clock.now()));
    let intent = Intent {
        id,
        deadline,
        payload,
    };
    let announcing = async {
        member
            .agreement
            .agreed(member.settings.command_timeout)
            .await?;
        member.bus.announce(lane, vec![intent]).await
    };
    let known = match timeout(member.settings.publish_timeout, announcing).await {
        Ok(known) => known?,
        Err(_) => return Err(Error::new(ErrorKind::Bus, "Redis did not answer in time")),
    };
    if !known {
        reregister(&member, lane);
    }
    Ok(())
}

/// Returns the result of an announcement's task; a task that did not return has not announced.
fn joined(ended: Option<Result<Result<(), Error>, JoinError>>) -> Result<(), Error> {
    match ended {
        Some(Ok(result)) => result,
        Some(Err(_)) => Err(Error::new(ErrorKind::Bus, "the write was not announced")),
        None => Ok(()),
    }
}

impl Drop for OpenWrite<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let member = self.member;
        if !self.began {
            // Nothing was committed, and nothing is invalidated. The intent may still be recorded, now or
            // later: it is withdrawn first, so that the list of open writes no longer has it.
            if let Some(id) = self.intent {
                for lane in member.writes.withdraw(&id) {
                    doubt(member, lane);
                }
            }
            return;
        }
        let items = std::mem::take(&mut self.items);
        if !self.failed {
            member
                .metrics
                .writes
                .note(WriteOutcome::Abandoned, &self.span);
        }
        member.drop_local(&items);
        if without(Mechanism::PublishAtDeadline) {
            let _ = member.enqueue(&items, self.intent);
            return;
        }
        let _ = member.enqueue(&items, None);
        // Without a place among the open writes (only under `available`) it is not published again:
        // the place is what bounds the tasks that wait here.
        let Some(intent) = self.intent else { return };
        member.writes.is_late(&intent);
        let (again, deadline) = (Arc::downgrade(member), self.deadline);
        let left = Duration::from_nanos(deadline.saturating_sub(member.clock.now()));
        let mut phase = member.phase.subscribe();
        // At most `MAX_OPEN` of these wait: each holds its place among the open writes.
        member.runtime.spawn(async move {
            tokio::select! {
                biased;
                // Shutting down: the intent stays, and a peer does this at the deadline.
                _ = phase.wait_for(|phase| *phase != Phase::Running) => return,
                () = sleep(left) => {}
            }
            if let Some(member) = again.upgrade() {
                member.drop_local(&items);
                let _ = member.enqueue(&items, Some(intent));
            }
        });
    }
}

/// Returns what a peer would publish on this lane; `None` if the change does not concern it.
fn payload_of(member: &Member, items: &[Invalidation], lane: u32) -> Option<Bytes> {
    let mine = items
        .iter()
        .filter(|item| member.concerns(item, lane))
        .copied();
    let ops = Group::ops_of(mine);
    (!ops.is_empty()).then(|| {
        let event = Event {
            origin: NO_ORIGIN,
            sent: 0,
            ops,
        };
        member.seal.encode(lane, &event)
    })
}
