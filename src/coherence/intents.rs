//! The table of one instance's open writes: what Redis must learn again if it forgets them. No I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::bus::{Intent, IntentId, StillOpen};
use crate::coherence::upkeep::Upkeep;
use crate::identity;
use crate::lock::{Guard, Lock};
use crate::time::Nanos;

/// Writes that are open at most; more are refused.
/// At 4,096 a database that answers in 10 ms commits 400,000 writes a second.
pub(crate) const MAX_OPEN: usize = 4_096;

/// Writes whose commit has failed or was dropped, and that wait for their deadline, beside the open ones:
/// 500 a second with a `write_timeout` of 30 s, about 1 KiB each. More count as open.
const MAX_LATE: usize = 16_384;

/// Bits of a write's number that are drawn; above them it is counted.
const DRAWN: u32 = 24;

/// The open writes of one instance.
#[derive(Debug, Default)]
pub(crate) struct OpenWrites(Lock<Table>);

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

/// What Redis must learn again of an open write if it forgets it.
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

impl OpenWrites {
    fn table(&self) -> Guard<'_, Table> {
        self.0.lock()
    }

    pub(crate) fn len(&self) -> usize {
        self.table().open.len()
    }

    pub(crate) fn open(
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

    /// The commit is over, and the write only waits for its deadline: it gives its place among the open ones to
    /// others, unless too many do.
    pub(crate) fn is_late(&self, id: &IntentId) {
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

    /// The write never began: nothing records its intent from here on. Returns the lanes that it concerned.
    pub(crate) fn withdraw(&self, id: &IntentId) -> Vec<u32> {
        let open = self.table().remove(id);
        let payloads = open.map(|open| open.payloads).unwrap_or_default();
        payloads.into_iter().map(|(lane, _)| lane).collect()
    }

    /// Returns the lanes in which the write is not cleared.
    pub(crate) fn lanes_of(&self, id: &IntentId) -> Vec<u32> {
        let table = self.table();
        let payloads = table.open.get(id).map_or(&[][..], |open| &open.payloads);
        payloads.iter().map(|(lane, _)| *lane).collect()
    }

    /// Returns the open writes of a lane, of all that have a number.
    pub(crate) fn still_open(&self, lane: u32) -> StillOpen {
        self.list(|open| open.payloads.iter().any(|(of, _)| *of == lane))
    }

    /// Returns the writes that are open in any lane.
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

    /// Returns the intents of a lane, to be recorded again by an instance that Redis had forgotten.
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

    pub(crate) fn with<T>(&self, lane: u32, change: impl FnOnce(&mut Upkeep) -> T) -> T {
        change(self.table().upkeep.entry(lane).or_default())
    }

    /// Returns when the next attempt is due. If none is, the task that asks ends. It is noted under the lock:
    /// what is asked for afterwards starts another task.
    pub(crate) fn due(&self, lane: u32) -> Option<Instant> {
        self.with(lane, |upkeep| {
            let due = upkeep.due(Instant::now());
            upkeep.running = due.is_some();
            due
        })
    }
}
