//! Crash-safe writes: intents, and what becomes of a commit whose outcome nobody knows.

mod upkeep;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

pub(crate) use self::upkeep::reregister;
use self::upkeep::{Upkeep, doubt};
use crate::bus::{Intent, IntentId, StillOpen};
use crate::contain::contained;
use crate::core::{Core, Phase};
use crate::event::{Event, NOBODY};
use crate::identity;
use crate::lock::{Guard, Lock};
use crate::metrics::{Fence, WriteOutcome};
use crate::outbox::{Group, Item};
use crate::settings::WritePolicy;
use crate::time::{Nanos, nanos};
use crate::without::{Mechanism, without};
use crate::{Error, ErrorKind, WriteError};

/// Writes that are open at most; more are refused.
/// At 4,096 a database that answers in 10 ms commits 400,000 writes a second.
const MAX_OPEN: usize = 4_096;

/// Writes whose commit has failed or was dropped, and that wait for their deadline, beside the open ones:
/// 500 a second with a `write_timeout` of 30 s, about 1 KiB each. More count as open.
const MAX_LATE: usize = 16_384;

/// Lanes in which one write records its intent at the same time; further ones wait for these.
/// Most writes concern one lane, a tag concerns all: 64 lanes take one round trip.
const RECORDINGS_AT_ONCE: usize = 64;

/// How long a write waits for a connection that is known to be lost, counted from its loss: as long as
/// any command does. A write that begins later is refused at once, and holds no transaction open.
const CONNECTION_WAIT: Duration = Duration::from_secs(1);

/// The same for a write that may go on unannounced: a lost connection is usually back by then, and what
/// is committed later is seen later by everybody.
const UNANNOUNCED_AFTER: Duration = Duration::from_millis(250);

/// Bits of a write's number that are drawn; above them it is counted.
const DRAWN: u32 = 24;

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
            // With the target may go the last handle of a cache, and what its loader holds.
            let dropped = contained(|| {
                if let Some(target) = core.target(item.cache()) {
                    target.drop_local(*item);
                }
            });
            if dropped.is_none() {
                core.fence_all(Fence::Requested);
            }
        }
    }
}

/// The open writes of one instance.
#[derive(Debug, Default)]
pub(crate) struct Writes(Lock<Table>);

#[derive(Debug, Default)]
struct Table {
    /// Numbers given out.
    next: u64,
    open: BTreeMap<IntentId, Open>,
    /// Those of them that only wait for their deadline.
    late: usize,
    /// By lane.
    upkeep: BTreeMap<u32, Upkeep>,
}

/// What Redis must know of an open write, should it forget.
#[derive(Debug)]
struct Open {
    deadline: Nanos,
    /// By lane, without those where the intent is cleared.
    payloads: Vec<(u32, Bytes)>,
    /// Its commit is over, and its outcome unknown until the deadline.
    late: bool,
}

impl Table {
    fn remove(&mut self, id: &IntentId) -> Option<Open> {
        let open = self.open.remove(id)?;
        self.late -= usize::from(open.late);
        Some(open)
    }
}

impl Writes {
    fn table(&self) -> Guard<'_, Table> {
        self.0.lock()
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
        if table.open.len() - table.late >= MAX_OPEN {
            return None;
        }
        let mut id = [0; 16];
        id[..8].copy_from_slice(&instance.to_be_bytes());
        table.next += 1;
        // It grows, for `StillOpen`, and no copy of this process gives the same one.
        let number = table.next << DRAWN | identity::unique() & ((1 << DRAWN) - 1);
        id[8..].copy_from_slice(&number.to_be_bytes());
        let late = false;
        table.open.insert(
            id,
            Open {
                deadline,
                payloads,
                late,
            },
        );
        Some(id)
    }

    /// The commit is over, and only its deadline is waited for: it gives its place among the open ones to
    /// others, as long as not too many do.
    fn is_late(&self, id: &IntentId) {
        let mut table = self.table();
        let Table { open, late, .. } = &mut *table;
        if let Some(open) = open
            .get_mut(id)
            .filter(|open| !open.late && *late < MAX_LATE)
        {
            open.late = true;
            *late += 1;
        }
    }

    /// Redis has acknowledged that these intents are gone from one lane.
    pub(crate) fn cleared(&self, lane: u32, intents: &[IntentId]) {
        if intents.is_empty() {
            return;
        }
        let mut table = self.table();
        for id in intents {
            if let Some(open) = table.open.get_mut(id) {
                open.payloads.retain(|(of, _)| *of != lane);
                if open.payloads.is_empty() {
                    table.remove(id);
                }
            }
        }
    }

    /// The write never began: nothing records its intent from here on. The lanes that it concerned.
    fn withdraw(&self, id: &IntentId) -> Vec<u32> {
        let open = self.table().remove(id);
        let payloads = open.map(|open| open.payloads).unwrap_or_default();
        payloads.into_iter().map(|(lane, _)| lane).collect()
    }

    /// The lanes in which the write is not cleared.
    fn lanes_of(&self, id: &IntentId) -> Vec<u32> {
        let table = self.table();
        let payloads = table.open.get(id).map_or(&[][..], |open| &open.payloads);
        payloads.iter().map(|(lane, _)| *lane).collect()
    }

    /// The open writes of a lane, of all that have a number.
    fn still_open(&self, lane: u32) -> StillOpen {
        self.list(|open| open.payloads.iter().any(|(of, _)| *of == lane))
    }

    /// The writes that are open in any lane.
    pub(crate) fn open_anywhere(&self) -> StillOpen {
        self.list(|_| true)
    }

    fn list(&self, which: impl Fn(&Open) -> bool) -> StillOpen {
        let table = self.table();
        let open = table.open.iter().filter(|(_, open)| which(open));
        StillOpen {
            up_to: table.next << DRAWN | ((1 << DRAWN) - 1),
            intents: open.map(|(id, _)| *id).collect(),
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
    match (open.announce(policy).await, policy) {
        (Ok(()), _) => {}
        (Err(_), WritePolicy::Available) => {
            core.metrics.writes[WriteOutcome::Unannounced].inc();
            open.doubt();
        }
        (Err(error), WritePolicy::Strict) => {
            core.metrics.writes[WriteOutcome::Refused].inc();
            return Err(WriteError::Refused(error));
        }
    }
    let left = Duration::from_nanos(deadline.saturating_sub(core.clock.now()));
    if left.is_zero() {
        // 1: the write is announced; 2: this process stands still; 3: peers finish the write, also for
        // its deadline; 4: the commit would begin, and nothing would follow it.
        core.metrics.writes[WriteOutcome::Refused].inc();
        let message = "the time of the write was over before its commit began";
        return Err(WriteError::Refused(Error::new(
            ErrorKind::Overloaded,
            message,
        )));
    }
    open.began = true;
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
    /// Records the intent, if there is a connection, or will be one in time.
    async fn announce(&mut self, policy: WritePolicy) -> Result<(), Error> {
        let core = self.core;
        let items = self.change.items.clone();
        let payloads: Vec<_> = (0..core.lane_count())
            .filter_map(|lane| Some((lane, payload_of(core, &items, lane)?)))
            .collect();
        if payloads.is_empty() {
            // A batch of nothing: there is nothing to finish, and no event would ever clear it.
            return Ok(());
        }
        let lanes = payloads.iter().map(|(lane, _)| *lane);
        let Some(since) = lanes.filter_map(|lane| core.bus.away_since(lane)).min() else {
            self.enter(&payloads)?;
            return self.record_all(&payloads).await;
        };
        let wait = match policy {
            WritePolicy::Strict => CONNECTION_WAIT,
            WritePolicy::Available => UNANNOUNCED_AFTER,
        };
        let left = wait.saturating_sub(since.elapsed());
        let away = || Error::new(ErrorKind::Bus, "there is no connection to Redis");
        if left.is_zero() && policy == WritePolicy::Strict {
            return Err(away());
        }
        // One that goes on unannounced is open all the same: it is published at its deadline, and
        // recorded when Redis asks for what is open.
        self.enter(&payloads)?;
        if left.is_zero() {
            return Err(away());
        }
        let announced = timeout(left, self.record_all(&payloads)).await;
        announced.unwrap_or_else(|_| Err(away()))
    }

    /// Gives the write a place among those that are open.
    fn enter(&mut self, payloads: &[(u32, Bytes)]) -> Result<(), Error> {
        let core = self.core;
        let intent = core.writes.open(core.id, payloads.to_vec(), self.deadline);
        self.intent = Some(intent.ok_or_else(|| {
            Error::new(
                ErrorKind::Overloaded,
                format!("{MAX_OPEN} writes are waiting for Redis"),
            )
        })?);
        core.set_busy(true);
        Ok(())
    }

    /// Records the intent in every lane that the change concerns. When the commit begins, the
    /// record is younger than half a `member_timeout`: no peer takes the writer for dead before
    /// the other half has passed as well.
    async fn record_all(&self, payloads: &[(u32, Bytes)]) -> Result<(), Error> {
        let core = self.core;
        for _ in 0..RECORDINGS {
            let sent_at = core.clock.now();
            self.record(payloads).await?;
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

    /// The intent may be recorded or not, in any of its lanes.
    fn doubt(&self) {
        let Some(id) = self.intent else { return };
        for lane in self.core.writes.lanes_of(&id) {
            doubt(self.core, lane);
        }
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
        if !self.began {
            // Nothing was committed, and nothing is invalidated. The intent may be recorded all the
            // same, or be yet: it is withdrawn first, so that what is open from here on is without it.
            if let Some(id) = self.intent {
                for lane in core.writes.withdraw(&id) {
                    doubt(core, lane);
                }
            }
            return;
        }
        let change = Change {
            items: std::mem::take(&mut self.change.items),
        };
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
        core.writes.is_late(&intent);
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
