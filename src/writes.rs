//! Crash-safe writes: intents, and what becomes of a commit whose outcome nobody knows.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use crate::bus::{Intent, IntentId};
use crate::core::{Core, Phase};
use crate::event::{Event, NOBODY};
use crate::identity;
use crate::metrics::WriteOutcome;
use crate::outbox::{Group, Item};
use crate::settings::WritePolicy;
use crate::time::{Nanos, nanos};
use crate::without::{Mechanism, without};
use crate::{Error, ErrorKind, WriteError};

/// Writes that are open, or whose intents Redis still holds, at most; more are refused.
/// At 4,096 a database that answers in 10 ms commits 400,000 writes a second.
const MAX_OPEN: usize = 4_096;

/// Lanes in which one write records its intent at the same time; further ones wait for these.
/// Most writes concern one lane, a tag concerns all: 64 lanes take one round trip.
const RECORDINGS_AT_ONCE: usize = 64;

/// How long a write that may go on unannounced waits for a Redis that is known to be away: a lost
/// connection is usually back by then, and what is committed later is seen later by everybody.
const UNANNOUNCED_AFTER: Duration = Duration::from_millis(250);

/// How often an intent is recorded again because recording it took too long.
const RECORDINGS: usize = 3;

/// What a write or an invalidation changes.
pub(crate) struct Change {
    pub(crate) items: Vec<Item>,
}

impl Change {
    /// The local drop comes before the event is published, so that the publisher itself never
    /// serves what its peers have dropped.
    ///
    /// Caches are looked up by name: nothing here keeps one alive, or with it the instance.
    /// 1: a write begins; 2: its cache is dropped, and another one takes the name; 3: the write is
    /// published, and the new cache takes its echo for what it has dropped.
    pub(crate) fn drop_local(&self, core: &Core) {
        for item in &self.items {
            if let Some(target) = core.target(item.cache()) {
                target.drop_local(*item);
            }
        }
    }
}

/// The open writes of one instance.
#[derive(Debug, Default)]
pub(crate) struct Writes(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    open: BTreeMap<IntentId, Open>,
}

/// What Redis must know of an open write, should it forget.
#[derive(Debug)]
struct Open {
    deadline: Nanos,
    payloads: Vec<(u32, Bytes)>,
    /// Lanes whose intents are not cleared yet.
    uncleared: usize,
}

impl Writes {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.table().open.len()
    }

    fn open(
        &self,
        instance: u64,
        payloads: Vec<(u32, Bytes)>,
        deadline: Nanos,
    ) -> Option<IntentId> {
        let mut table = self.table();
        if table.open.len() >= MAX_OPEN {
            return None;
        }
        let mut id = [0; 16];
        id[..8].copy_from_slice(&instance.to_be_bytes());
        // Not a counter: a copy of the process would count alike, and clear this one's intents.
        id[8..].copy_from_slice(&identity::unique().to_be_bytes());
        let uncleared = payloads.len();
        table.open.insert(
            id,
            Open {
                deadline,
                payloads,
                uncleared,
            },
        );
        Some(id)
    }

    /// Redis has acknowledged that these intents are gone from one lane.
    pub(crate) fn cleared(&self, intents: &[IntentId]) {
        if intents.is_empty() {
            return;
        }
        let mut table = self.table();
        for id in intents {
            if let Some(open) = table.open.get_mut(id) {
                open.uncleared -= 1;
                if open.uncleared == 0 {
                    table.open.remove(id);
                }
            }
        }
    }

    /// The intents of a lane, to be recorded again by an instance that Redis had forgotten.
    pub(crate) fn intents(&self, lane: u32, now: Nanos) -> Vec<Intent> {
        let table = self.table();
        let of_lane = |(id, open): (&IntentId, &Open)| {
            let (_, payload) = open.payloads.iter().find(|(of, _)| *of == lane)?;
            let deadline = Duration::from_nanos(open.deadline.saturating_sub(now));
            Some(Intent {
                id: *id,
                deadline,
                payload: payload.clone(),
            })
        };
        table.open.iter().filter_map(of_lane).collect()
    }
}

/// Commits, then invalidates; if this process dies in between, a peer does.
pub(crate) async fn write<T, E>(
    core: &Arc<Core>,
    change: Change,
    commit: impl Future<Output = Result<T, E>>,
) -> Result<T, WriteError<T, E>> {
    if core.phase() != Phase::Running {
        return Err(WriteError::Refused(Error::closed()));
    }
    let deadline = core.clock.now() + nanos(core.settings.write_timeout);
    let mut open = OpenWrite {
        core,
        change,
        intent: None,
        deadline,
        began: false,
        failed: false,
        done: false,
    };
    let policy = core.settings.write_policy;
    let announced = if policy == WritePolicy::Available && !core.bus.connected() {
        let announced = timeout(UNANNOUNCED_AFTER, open.announce()).await;
        announced.unwrap_or_else(|_| Err(Error::new(ErrorKind::Bus, "Redis is away")))
    } else {
        open.announce().await
    };
    match (announced, policy) {
        (Ok(()), _) => {}
        (Err(_), WritePolicy::Available) => core.metrics.writes[WriteOutcome::Unannounced].inc(),
        (Err(error), WritePolicy::Strict) => {
            core.metrics.writes[WriteOutcome::Refused].inc();
            return Err(WriteError::Refused(error));
        }
    }
    open.began = true;
    let left = Duration::from_nanos(deadline.saturating_sub(core.clock.now()));
    let value = match timeout(left, commit).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => {
            open.failed = true;
            core.metrics.writes[WriteOutcome::Failed].inc();
            return Err(WriteError::Commit(error));
        }
        Err(_) => {
            let after = humantime::format_duration(core.settings.write_timeout);
            let message = format!("no answer within write_timeout ({after})");
            return Err(WriteError::Abandoned(Error::new(
                ErrorKind::Overloaded,
                message,
            )));
        }
    };
    match open.committed().await {
        Ok(()) => {
            core.metrics.writes[WriteOutcome::Ok].inc();
            Ok(value)
        }
        Err(error) => {
            core.metrics.writes[WriteOutcome::Unconfirmed].inc();
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
    core: &'a Arc<Core>,
    change: Change,
    intent: Option<IntentId>,
    deadline: Nanos,
    began: bool,
    /// The commit returned an error, which is counted as such.
    failed: bool,
    done: bool,
}

impl OpenWrite<'_> {
    /// Records the intent in every lane that the change concerns. When the commit begins, the
    /// record is younger than half a `member_timeout`: no peer takes the writer for dead before
    /// the other half has passed as well.
    async fn announce(&mut self) -> Result<(), Error> {
        let core = self.core;
        let items = self.change.items.clone();
        let payloads: Vec<_> = (0..core.lane_count())
            .filter_map(|lane| Some((lane, payload_of(core, &items, lane)?)))
            .collect();
        let intent = core.writes.open(core.id, payloads.clone(), self.deadline);
        self.intent = Some(intent.ok_or_else(|| {
            Error::new(
                ErrorKind::Overloaded,
                format!("{MAX_OPEN} writes are waiting for Redis"),
            )
        })?);
        core.set_busy(true);
        for _ in 0..RECORDINGS {
            let sent_at = core.clock.now();
            self.record(&payloads).await?;
            let age = core.clock.now().saturating_sub(sent_at);
            if age <= nanos(core.settings.member_timeout) / 2 || without(Mechanism::WritersGate) {
                return Ok(());
            }
        }
        Err(Error::new(
            ErrorKind::Bus,
            "Redis is too slow to announce the write in time",
        ))
    }

    /// Records the intent in all these lanes, several at once; ends at the first failure.
    async fn record(&self, payloads: &[(u32, Bytes)]) -> Result<(), Error> {
        let Some(id) = self.intent else { return Ok(()) };
        // Dropped with the write, it aborts what is under way.
        let mut recordings = JoinSet::new();
        for (lane, payload) in payloads {
            if recordings.len() >= RECORDINGS_AT_ONCE {
                joined(recordings.join_next().await)?;
            }
            let (core, lane, payload) = (Arc::clone(self.core), *lane, payload.clone());
            recordings.spawn(record(core, id, self.deadline, lane, payload));
        }
        while !recordings.is_empty() {
            joined(recordings.join_next().await)?;
        }
        Ok(())
    }

    /// The commit returned Ok: drop, publish once, clear the intent in the same step.
    async fn committed(mut self) -> Result<(), Error> {
        self.done = true;
        if without(Mechanism::PublishAfterCommit) {
            return Ok(());
        }
        self.change.drop_local(self.core);
        let waiters = self.core.enqueue(&self.change.items, self.intent)?;
        self.core.acknowledged(waiters).await
    }
}

/// Records one intent in one lane.
async fn record(
    core: Arc<Core>,
    id: IntentId,
    deadline: Nanos,
    lane: u32,
    payload: Bytes,
) -> Result<(), Error> {
    let deadline = Duration::from_nanos(deadline.saturating_sub(core.clock.now()));
    let intent = Intent {
        id,
        deadline,
        payload,
    };
    let recording = async {
        core.agreed().await?;
        core.bus.record(lane, vec![intent]).await
    };
    let known = match timeout(core.settings.publish_timeout, recording).await {
        Ok(known) => known?,
        Err(_) => return Err(Error::new(ErrorKind::Bus, "Redis did not answer in time")),
    };
    if !known {
        reregister(&core, lane);
    }
    Ok(())
}

/// What a recording's task returned; one that failed to return has not recorded.
fn joined(ended: Option<Result<Result<(), Error>, JoinError>>) -> Result<(), Error> {
    match ended {
        Some(Ok(result)) => result,
        Some(Err(_)) => Err(Error::new(ErrorKind::Bus, "the intent was not recorded")),
        None => Ok(()),
    }
}

impl Drop for OpenWrite<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let core = self.core;
        let change = Change {
            items: std::mem::take(&mut self.change.items),
        };
        if !self.began {
            // Nothing was committed. The intent may be recorded all the same: clear it.
            if self.intent.is_some() {
                let _ = core.enqueue(&change.items, self.intent);
            }
            return;
        }
        if !self.failed {
            core.metrics.writes[WriteOutcome::Abandoned].inc();
        }
        change.drop_local(core);
        if without(Mechanism::PublishAtDeadline) {
            let _ = core.enqueue(&change.items, self.intent);
            return;
        }
        let _ = core.enqueue(&change.items, None);
        // Without a place among the open writes (only under `available`) there is no second time:
        // it is what bounds the tasks that wait here.
        let Some(intent) = self.intent else { return };
        let (again, deadline) = (Arc::downgrade(core), self.deadline);
        let left = Duration::from_nanos(deadline.saturating_sub(core.clock.now()));
        let mut phase = core.phase.subscribe();
        // At most `MAX_OPEN` of these wait: each holds its place among the open writes.
        core.runtime.spawn(async move {
            tokio::select! {
                biased;
                // Shutting down: the intent stays, and a peer does this at the deadline.
                _ = phase.wait_for(|phase| *phase != Phase::Running) => return,
                () = sleep(left) => {}
            }
            if let Some(core) = again.upgrade() {
                change.drop_local(&core);
                let _ = core.enqueue(&change.items, Some(intent));
            }
        });
    }
}

/// What a peer would publish on this lane; `None` if the change does not concern it.
fn payload_of(core: &Core, items: &[Item], lane: u32) -> Option<Bytes> {
    let mine = items
        .iter()
        .filter(|item| core.concerns(item, lane))
        .copied();
    let ops = Group::ops_of(mine);
    (!ops.is_empty()).then(|| {
        let event = Event {
            origin: NOBODY,
            sent: 0,
            ops,
        };
        core.seal.encode(lane, &event)
    })
}

/// Redis had taken this instance for dead, or lost its members: record the open writes again.
pub(crate) fn reregister(core: &Arc<Core>, lane: u32) {
    let weak = Arc::downgrade(core);
    core.runtime.spawn(async move {
        // Ends when Redis has them, or when none is open any more: each has its own deadline.
        while let Some(core) = weak.upgrade().filter(|core| core.phase() == Phase::Running) {
            let intents = core.writes.intents(lane, core.clock.now());
            if intents.is_empty() || core.bus.record(lane, intents).await.is_ok() {
                return;
            }
            let pause = core.settings.verify_interval;
            drop(core);
            sleep(pause).await;
        }
    });
}
