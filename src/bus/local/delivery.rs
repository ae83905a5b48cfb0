//! The server's end of one instance's connection: what reaches the instance's queue, and when.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::Instant;

use super::conditions::{Conditions, take_one};
use crate::bus::{BusConfig, BusEvent, EVENT_QUEUE, GapCause, SubscriptionRepair};
use crate::metrics::{Kind, Traffic};

/// What a garbled delivery holds instead of its payload: no version of the encoding begins so.
pub(super) const GARBAGE: &[u8] = &[0xc1, 0xff, 0x00, 0xc1];

/// What a full queue has still to deliver. Nothing in it can be lost, and it needs no bound: a
/// receiver that reads it repairs from where it is then, so one gap stands for all before it.
#[derive(Debug, Default)]
struct Notes {
    gap: Option<GapCause>,
    subscribed: bool,
}

impl Notes {
    fn is_empty(&self) -> bool {
        self.gap.is_none() && !self.subscribed
    }
}

/// The server's end of one instance's connection.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) namespace: String,
    /// Those that its instance subscribes to.
    lanes: u32,
    pub(super) conditions: Conditions,
    /// When the connection was lost last.
    pub(super) since: Instant,
    queue: mpsc::Sender<BusEvent>,
    notes: Notes,
    /// Under way because of a delay: when each is due, unless those before it are due later.
    /// At most [`EVENT_QUEUE`].
    line: VecDeque<(Instant, BusEvent)>,
    /// Wakes the task that moves what has to wait.
    wake: Arc<Notify>,
    traffic: Arc<Traffic>,
}

/// What the pump waits for next.
pub(super) enum Wait {
    Nothing,
    Until(Instant),
    Room(mpsc::Sender<BusEvent>),
}

impl Delivery {
    pub(super) fn new(config: &BusConfig) -> (Self, mpsc::Receiver<BusEvent>) {
        let (queue, receiver) = mpsc::channel(EVENT_QUEUE);
        let delivery = Self {
            namespace: config.namespace.clone(),
            lanes: config.lanes,
            conditions: Conditions::default(),
            since: Instant::now(),
            queue,
            notes: Notes::default(),
            line: VecDeque::new(),
            wake: Arc::default(),
            traffic: config.traffic.clone(),
        };
        (delivery, receiver)
    }

    /// Returns whether messages reach the subscription.
    fn hears(&self) -> bool {
        let Conditions {
            cut,
            silent,
            unsubscribed,
            deaf,
            ..
        } = self.conditions;
        !cut && !silent && !unsubscribed && !deaf
    }

    /// A message from the server on a lane's channel: its events, and how long it is.
    pub(super) fn deliver(&mut self, lane: u32, events: &[BusEvent], bytes: usize) {
        if lane >= self.lanes || !self.hears() || take_one(&mut self.conditions.lose) {
            return;
        }
        let mut events = events.to_vec();
        if take_one(&mut self.conditions.garble) {
            match events.as_mut_slice() {
                [BusEvent::Message { payload, .. }] => *payload = Bytes::from_static(GARBAGE),
                // Several messages cannot be distinguished from each other then.
                _ => events = vec![BusEvent::Garbled { lane }],
            }
        }
        let times = 1 + usize::from(take_one(&mut self.conditions.duplicate));
        for _ in 0..times {
            self.traffic.received(Kind::Deliver, bytes);
            for event in &events {
                self.hold_or_send(event.clone());
            }
        }
    }

    /// The channels are subscribed from here on.
    pub(super) fn subscribed(&mut self) {
        self.send(BusEvent::Subscribed);
    }

    /// The connection is lost, and with it everything that was under way on it.
    pub(super) fn disconnected(&mut self) {
        self.conditions.broken = false;
        self.since = Instant::now();
        self.lose_under_way();
        self.enqueue(BusEvent::Gap(GapCause::Disconnected));
    }

    pub(super) fn lose_under_way(&mut self) {
        self.line.clear();
        if let Some(held) = &mut self.conditions.held {
            held.clear();
        }
        // It may wait for what is no longer under way.
        self.wake.notify_one();
    }

    /// Case 1: nothing gets through: every attempt to connect fails until that heals.
    /// Case 2: otherwise the subscription is as good as new.
    pub(super) fn repair_subscription(&mut self, how: SubscriptionRepair) {
        if self.conditions.cut {
            return;
        }
        if how == SubscriptionRepair::Reconnect {
            self.disconnected();
            // The attempt hangs in the black hole; healing finds it to be reconnected.
            self.conditions.cut = self.conditions.silent;
        }
        if !self.conditions.silent {
            self.conditions.unsubscribed = false;
            self.subscribed();
        }
    }

    /// A connection to the present primary replaces one to the previous primary.
    pub(super) fn leave_isolation(&mut self) {
        self.conditions.isolated = false;
        self.disconnected();
        if !self.conditions.cut && !self.conditions.silent {
            self.conditions.unsubscribed = false;
            self.subscribed();
        }
    }

    /// A message on its way: held back where that was asked for.
    fn hold_or_send(&mut self, event: BusEvent) {
        match &mut self.conditions.held {
            Some(held) if held.len() < EVENT_QUEUE => held.push(event),
            Some(_) => self.note(&BusEvent::Gap(GapCause::Lagged)),
            None => self.send(event),
        }
    }

    /// Through the delay, if there is one, behind everything that is under way.
    pub(super) fn send(&mut self, event: BusEvent) {
        if self.conditions.delay.is_zero() && self.line.is_empty() {
            return self.enqueue(event);
        }
        if self.line.len() >= EVENT_QUEUE {
            return self.note(&event);
        }
        let due = Instant::now() + self.conditions.delay;
        self.line.push_back((due, event));
        self.wake.notify_one();
    }

    fn enqueue(&mut self, event: BusEvent) {
        if !self.flush_notes() {
            return self.note(&event);
        }
        if let Err(TrySendError::Full(event)) = self.queue.try_send(event) {
            self.note(&event);
        }
    }

    /// Remembers what an event that found no room means to the receiver.
    fn note(&mut self, event: &BusEvent) {
        match event {
            BusEvent::Subscribed => self.notes.subscribed = true,
            BusEvent::Gap(GapCause::Disconnected) => {
                self.notes = Notes {
                    gap: Some(GapCause::Disconnected),
                    subscribed: false,
                };
            }
            BusEvent::Gap(GapCause::Lagged)
            | BusEvent::Message { .. }
            | BusEvent::Garbled { .. } => {
                self.notes.gap.get_or_insert(GapCause::Lagged);
            }
        }
        // It may wait for a delay to pass, and the note is for free room.
        self.wake.notify_one();
    }

    /// Enqueues the notes as far as there is room. Returns whether none is left.
    fn flush_notes(&mut self) -> bool {
        if let Some(cause) = self.notes.gap {
            if let Err(TrySendError::Full(_)) = self.queue.try_send(BusEvent::Gap(cause)) {
                return false;
            }
            self.notes.gap = None;
        }
        if self.notes.subscribed {
            if let Err(TrySendError::Full(_)) = self.queue.try_send(BusEvent::Subscribed) {
                return false;
            }
            self.notes.subscribed = false;
        }
        true
    }

    pub(super) fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Moves what is due, and says what to wait for.
    pub(super) fn step(&mut self) -> Wait {
        if !self.flush_notes() {
            return Wait::Room(self.queue.clone());
        }
        while let Some((due, _)) = self.line.front() {
            if *due > Instant::now() {
                return Wait::Until(*due);
            }
            if let Some((_, event)) = self.line.pop_front() {
                self.enqueue(event);
            }
        }
        if !self.notes.is_empty() {
            return Wait::Room(self.queue.clone());
        }
        Wait::Nothing
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}
