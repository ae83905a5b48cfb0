//! Outbound: what is to be published on one lane. No I/O.
//!
//! Calls that come while a message is in flight share the next one (group commit), so that batches
//! form by themselves and no call waits for one. Everything is bounded, and overload turns into
//! more invalidation: keys become their cache, caches become the lane.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use tokio::sync::watch;

use crate::Error;
use crate::bus::{IntentId, Position};
use crate::event::{Op, What};
use crate::mutants::{Mechanism, without};
use crate::time::Nanos;

/// Keys one message carries at most; 8 KiB, which a subscriber applies in well under 0.1 ms.
pub(crate) const GROUP_KEYS: usize = 1_024;

/// Ops one message carries at most. Beyond this many caches a message names the whole lane.
const GROUP_OPS: usize = 256;

/// Intents one message clears at most.
const GROUP_CLEARS: usize = 256;

/// Messages that wait for confirmation at most: half a second of 32,000 a second.
const SENT_MESSAGES: usize = 16_384;

/// One thing to invalidate, as the wire names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalidation {
    Key { cache: u32, format: u32, hash: u64 },
    Tag { cache: u32, format: u32, tag: u64 },
    Cache { cache: u32, format: u32 },
}

impl Invalidation {
    pub(crate) fn cache(&self) -> u32 {
        match self {
            Self::Key { cache, .. } | Self::Tag { cache, .. } | Self::Cache { cache, .. } => *cache,
        }
    }
}

/// Waits for the acknowledgement of what was pushed: where it was published, or its last part.
pub(crate) type Waiter = watch::Receiver<Option<Result<Position, Error>>>;

type Ack = watch::Sender<Option<Result<Position, Error>>>;

/// Callers who wait for an answer.
pub(crate) struct Acks(Vec<Ack>);

impl Acks {
    pub(crate) fn answer(self, answer: &Result<Position, Error>) {
        for ack in self.0 {
            ack.send_replace(Some(answer.clone()));
        }
    }
}

/// What goes out in one message.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) ops: Vec<Op>,
    pub(crate) clears: Vec<IntentId>,
    hashes: usize,
    acks: Vec<Ack>,
    /// When its first item was pushed.
    pub(crate) since: Nanos,
}

/// What was collapsed to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collapsed {
    ToCaches,
    ToLane,
}

/// A published event that no verification has confirmed yet.
#[derive(Debug)]
struct Sent {
    position: Position,
    acked_at: Nanos,
    ops: Vec<Op>,
    hashes: usize,
}

/// The queue of one lane.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: VecDeque<Group>,
    queued: usize,
    /// Hashes that wait, or wait for confirmation, at most.
    bound: usize,
    sent: VecDeque<Sent>,
    sent_hashes: usize,
    closed: bool,
}

impl Outbox {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            queued: 0,
            bound,
            sent: VecDeque::new(),
            sent_hashes: 0,
            closed: false,
        }
    }

    /// Queues items and the intents that their acknowledgement clears. Groups leave in order, so
    /// the waiter of the last item speaks for all. `None` when closed.
    pub(crate) fn push(
        &mut self,
        items: impl IntoIterator<Item = Invalidation>,
        clear: Option<IntentId>,
        now: Nanos,
    ) -> Option<Waiter> {
        if self.closed {
            return None;
        }
        for item in items {
            let group = self.open_group(now);
            let added = group.add(item);
            self.queued += added;
        }
        let group = self.open_group(now);
        group.clears.extend(clear);
        Some(group.waiter())
    }

    /// Returns the last group that has room, or a new one.
    fn open_group(&mut self, now: Nanos) -> &mut Group {
        if !self.queue.back().is_some_and(Group::has_room) {
            self.queue.push_back(Group {
                since: now,
                ..Group::default()
            });
        }
        self.queue.back_mut().expect("pushed if there was none")
    }

    /// Makes room if there is too much; the caller that pushed asks.
    pub(crate) fn shrink(&mut self) -> Option<Collapsed> {
        (self.queued > self.bound).then(|| {
            let mut merged = Group {
                since: self.queue.front().map_or(0, |group| group.since),
                ..Group::default()
            };
            let mut all = Vec::new();
            for mut group in self.queue.drain(..) {
                all.append(&mut group.ops);
                merged.clears.append(&mut group.clears);
                // Callers that gave up need no answer.
                merged.acks.extend(
                    group
                        .acks
                        .into_iter()
                        .filter(|ack| ack.receiver_count() > 0),
                );
            }
            let how = collapse(&mut all);
            if without(Mechanism::Collapse) {
                all.clear();
            }
            merged.ops = all;
            self.queued = 0;
            self.queue.push_back(merged);
            how
        })
    }

    /// Returns the next message.
    pub(crate) fn take(&mut self) -> Option<Group> {
        let group = self.queue.pop_front()?;
        self.queued -= group.hashes;
        Some(group)
    }

    /// Publishing failed: the group is the next one again, and may collapse with the others.
    pub(crate) fn restore(&mut self, group: Group) -> Option<Collapsed> {
        self.queued += group.hashes;
        self.queue.push_front(group);
        self.shrink()
    }

    /// Published and acknowledged: keeps the event until a later verification shows that the lane has
    /// not lost it. Returns the waiters, to be answered outside the outbox' lock: what a waker does is
    /// the program's own.
    #[must_use = "they wait"]
    pub(crate) fn sent(&mut self, group: Group, position: Position, now: Nanos) -> Acks {
        let Group {
            ops, hashes, acks, ..
        } = group;
        self.sent_hashes += hashes;
        self.sent.push_back(Sent {
            position,
            acked_at: now,
            ops,
            hashes,
        });
        if self.sent_hashes > self.bound || self.sent.len() > SENT_MESSAGES {
            // 1: an event is acknowledged by a primary; 2: another one takes its place, without the
            // event; 3: later events are acknowledged in the new epoch, and all of them become one.
            // With the position of 3 it would be confirmed, with that of 1 it goes out again.
            let replaced = |sent: &Sent| sent.position.epoch != position.epoch;
            let other = self.sent.iter().find(|sent| replaced(sent));
            let position = other.map_or(position, |sent| sent.position);
            let mut all = self.sent.drain(..).flat_map(|sent| sent.ops).collect();
            collapse(&mut all);
            self.sent_hashes = 0;
            self.sent.push_back(Sent {
                position,
                acked_at: now,
                ops: all,
                hashes: 0,
            });
        }
        Acks(acks)
    }

    /// A verification sent at `sent_at` found this head. Events acknowledged before it and within
    /// it are safe; those of another epoch, or beyond it, were lost by a failover, and go out
    /// again. Returns how many messages do.
    pub(crate) fn confirm(&mut self, head: Position, sent_at: Nanos, now: Nanos) -> usize {
        let mut again = 0;
        while self
            .sent
            .front()
            .is_some_and(|sent| sent.acked_at < sent_at)
        {
            let Some(sent) = self.sent.pop_front() else {
                break;
            };
            self.sent_hashes -= sent.hashes;
            let kept = sent.position.epoch == head.epoch && sent.position.sequence <= head.sequence;
            if !kept && !self.closed && !without(Mechanism::Republishing) {
                again += 1;
                self.queued += sent.hashes;
                let (ops, hashes) = (sent.ops, sent.hashes);
                self.queue.push_back(Group {
                    ops,
                    hashes,
                    since: now,
                    ..Group::default()
                });
            }
        }
        again
    }

    /// Hashes that wait to be published.
    pub(crate) fn depth(&self) -> usize {
        self.queued
    }

    /// Nothing waits, neither to be published nor to be confirmed.
    pub(crate) fn settled(&self) -> bool {
        self.queue.is_empty() && self.sent.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Refuses new items from now on; returns the waiters, as [`sent`](Self::sent) does.
    #[must_use = "they wait"]
    pub(crate) fn close(&mut self) -> Acks {
        self.closed = true;
        self.queued = 0;
        Acks(self.queue.drain(..).flat_map(|group| group.acks).collect())
    }
}

impl Group {
    /// Returns the ops that name these items, in one message whatever their number: too many become
    /// their caches.
    pub(crate) fn ops_of(items: impl IntoIterator<Item = Invalidation>) -> Vec<Op> {
        let mut group = Self::default();
        for item in items {
            group.add(item);
        }
        if group.hashes > GROUP_KEYS || group.ops.len() > GROUP_OPS {
            collapse(&mut group.ops);
        }
        group.ops
    }

    fn has_room(&self) -> bool {
        self.hashes < GROUP_KEYS && self.ops.len() < GROUP_OPS && self.clears.len() < GROUP_CLEARS
    }

    /// Returns how many hashes were added: none if an op of the group covers the item already.
    fn add(&mut self, item: Invalidation) -> usize {
        let (cache, format) = match item {
            Invalidation::Key { cache, format, .. }
            | Invalidation::Tag { cache, format, .. }
            | Invalidation::Cache { cache, format } => (cache, format),
        };
        let mut room = None;
        for op in &mut self.ops {
            match (&mut op.what, item) {
                (What::Lane, _) => return 0,
                (What::Cache, _) if op.cache == cache => return 0,
                (What::Keys(list), Invalidation::Key { .. })
                | (What::Tags(list), Invalidation::Tag { .. })
                    if op.cache == cache && op.format == format =>
                {
                    room = Some(list);
                }
                _ => {}
            }
        }
        match (item, room) {
            (Invalidation::Key { hash, .. } | Invalidation::Tag { tag: hash, .. }, Some(list)) => {
                list.push(hash)
            }
            (Invalidation::Key { hash, .. }, None) => {
                self.ops.push(Op {
                    cache,
                    format,
                    what: What::Keys(vec![hash]),
                });
            }
            (Invalidation::Tag { tag, .. }, None) => {
                self.ops.push(Op {
                    cache,
                    format,
                    what: What::Tags(vec![tag]),
                });
            }
            (Invalidation::Cache { .. }, _) => {
                self.ops.push(Op {
                    cache,
                    format,
                    what: What::Cache,
                });
                return 0;
            }
        }
        self.hashes += 1;
        1
    }

    fn waiter(&mut self) -> Waiter {
        match self.acks.last() {
            Some(ack) => ack.subscribe(),
            None => {
                let (ack, waiter) = watch::channel(None);
                self.acks.push(ack);
                waiter
            }
        }
    }
}

/// Keys and tags become their cache; too many caches become the lane.
fn collapse(ops: &mut Vec<Op>) -> Collapsed {
    ops.sort_unstable_by_key(|op| op.cache);
    let lane = ops.iter().any(|op| op.what == What::Lane);
    ops.dedup_by_key(|op| op.cache);
    if lane || ops.len() > GROUP_OPS {
        *ops = vec![Op {
            cache: 0,
            format: 0,
            what: What::Lane,
        }];
        return Collapsed::ToLane;
    }
    for op in ops {
        op.what = What::Cache;
    }
    Collapsed::ToCaches
}
