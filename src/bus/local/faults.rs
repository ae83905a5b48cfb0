//! What can go wrong with a local bus; `unstale::testing` offers it to users.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::LocalBus;
use super::conditions::Conditions;
use super::delivery::{Delivery, GARBAGE};
use super::hub::POSITION;
use super::lane::Lane;
use super::server::Server;
use super::timeline::Timeline;
use crate::bus::{BusEvent, Position};
use crate::event::MAX_PAYLOAD;

/// A fault that counts down.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    FailPublish,
    LoseAck,
    Lose,
    Garble,
    Duplicate,
}

/// The order in which messages that were held are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Kept,
    Reversed,
}

impl Delivery {
    fn cut(&mut self) {
        if !self.conditions.cut {
            self.conditions.cut = true;
            self.disconnected();
        }
    }

    fn heal(&mut self) {
        self.conditions.silent = false;
        if self.conditions.cut {
            self.conditions.cut = false;
            self.connect();
        } else if self.conditions.broken {
            self.reconnect();
        }
    }

    /// The server went away and is back at once.
    pub(super) fn reconnect(&mut self) {
        if self.conditions.silent {
            self.conditions.broken = true;
        } else if !self.conditions.cut {
            self.disconnected();
            self.connect();
        }
    }

    /// A new connection subscribes again.
    fn connect(&mut self) {
        self.conditions.unsubscribed = false;
        self.subscribed();
    }

    fn release(&mut self, order: Order) {
        self.conditions.stalled = false;
        let mut held = self.conditions.held.take().unwrap_or_default();
        if order == Order::Reversed {
            held.reverse();
        }
        for event in held {
            self.send(event);
        }
    }

    fn next(&mut self, what: Next, times: u32) {
        let Conditions {
            fail_publishes,
            lose_acks,
            lose,
            garble,
            duplicate,
            ..
        } = &mut self.conditions;
        *match what {
            Next::FailPublish => fail_publishes,
            Next::LoseAck => lose_acks,
            Next::Lose => lose,
            Next::Garble => garble,
            Next::Duplicate => duplicate,
        } += times;
    }
}

impl LocalBus {
    /// Returns how many instances were ever attached.
    pub(crate) fn attached(&self) -> usize {
        self.0.lock().attached
    }

    pub(crate) fn cut(&self, number: usize) {
        self.with_connection(number, Delivery::cut);
    }

    pub(crate) fn heal(&self, number: usize) {
        self.with_connection(number, Delivery::heal);
    }

    pub(crate) fn silence(&self, number: usize) {
        self.with_connection(number, |connection| {
            connection.conditions.silent = true;
            connection.lose_under_way();
        });
    }

    pub(crate) fn unsubscribe(&self, number: usize) {
        self.with_connection(number, |connection| {
            connection.conditions.unsubscribed = true
        });
    }

    pub(crate) fn crash(&self, number: usize) {
        self.0.lock().connections.remove(&number);
        self.0.changed.notify_waiters();
    }

    pub(crate) fn deafen(&self, number: usize) {
        self.with_connection(number, |connection| connection.conditions.deaf = true);
    }

    pub(crate) fn mute(&self, number: usize) {
        self.with_connection(number, |connection| connection.conditions.mute = true);
    }

    pub(crate) fn lose_replies(&self, number: usize) {
        self.with_connection(number, |connection| {
            connection.conditions.replies_lost = true
        });
    }

    /// Whether every command is refused at once, as by a Redis that is out of memory or replicas.
    pub(crate) fn refuse(&self, number: usize, refuses: bool) {
        self.with_connection(number, |connection| connection.conditions.refused = refuses);
    }

    pub(crate) fn slow(&self, number: usize, request: Duration, reply: Duration) {
        self.with_connection(number, |connection| {
            connection.conditions.slow = (request, reply)
        });
    }

    pub(crate) fn silence_next_connection(&self) {
        self.0.lock().silent_next = true;
    }

    pub(crate) fn slow_lane(&self, number: usize, lane: u32, by: Duration) {
        self.with_connection(number, |connection| {
            connection.conditions.slow_lane = Some((lane, by))
        });
    }

    pub(crate) fn stall(&self, number: usize) {
        self.with_connection(number, |connection| {
            connection.conditions.held.get_or_insert_default();
            connection.conditions.stalled = true;
        });
    }

    /// Ends every fault of the connection.
    pub(crate) fn end_all(&self, number: usize) {
        self.with_connection(number, |connection| {
            connection.release(Order::Kept);
            let Conditions {
                cut,
                silent,
                broken,
                unsubscribed,
                isolated,
                ..
            } = connection.conditions;
            connection.conditions = Conditions {
                cut,
                silent,
                broken,
                unsubscribed,
                isolated,
                ..Conditions::default()
            };
            connection.heal();
        });
    }

    pub(crate) fn pause_publish(&self, number: usize, paused: bool) {
        self.with_connection(number, |connection| {
            connection.conditions.publish_paused = paused
        });
    }

    pub(crate) fn next(&self, number: usize, what: Next, times: u32) {
        self.with_connection(number, |connection| connection.next(what, times));
    }

    pub(crate) fn delay(&self, number: usize, delay: Duration) {
        self.with_connection(number, |connection| connection.conditions.delay = delay);
    }

    pub(crate) fn hold(&self, number: usize) {
        self.with_connection(number, |connection| {
            connection.conditions.held.get_or_insert_default();
        });
    }

    pub(crate) fn release(&self, number: usize, order: Order) {
        self.with_connection(number, |connection| connection.release(order));
    }

    /// Changes the servers of all namespaces, unseen by any connection.
    pub(crate) fn with_servers(&self, change: impl FnMut(&mut Server)) {
        self.0.lock().servers.values_mut().for_each(change);
    }

    pub(crate) fn with_lanes(&self, mut change: impl FnMut(&mut Lane)) {
        self.with_servers(|server| server.each_lane(&mut change));
    }

    /// A replica without the latest events takes the server's place. The connections with these numbers
    /// go on with the server that was the primary, which does not know; the others reconnect.
    pub(crate) fn split_off(&self, losing: u64, isolated: &[usize]) {
        let mut state = self.0.lock();
        state.isolated = state.servers.clone();
        for server in state.servers.values_mut() {
            server.restart();
            server.forget(losing);
        }
        for (number, connection) in &mut state.connections {
            connection.conditions.isolated = isolated.contains(number);
            if !connection.conditions.isolated {
                connection.reconnect();
            }
        }
    }

    /// The isolated server is gone; its connections find the primary.
    pub(crate) fn rejoin(&self) {
        let mut state = self.0.lock();
        state.isolated.clear();
        for connection in state.connections.values_mut() {
            if std::mem::take(&mut connection.conditions.isolated) {
                connection.reconnect();
            }
        }
    }

    /// Returns what the servers of all namespaces hold.
    pub(crate) fn copy_servers(&self) -> BTreeMap<String, Server> {
        self.0.lock().servers.clone()
    }

    /// The servers hold what they held before, in the same life.
    pub(crate) fn put_servers_back(&self, held: &BTreeMap<String, Server>) {
        for (namespace, server) in &mut self.0.lock().servers {
            server.put_back(held.get(namespace));
        }
    }

    /// Sets the clock of the servers so many milliseconds later, or earlier if they are negative.
    pub(crate) fn step_clock(&self, milliseconds: i64) {
        let mut state = self.0.lock();
        state.stepped = state.stepped.saturating_add(milliseconds);
    }

    /// Each message is followed by such a pause, in which events wait.
    pub(crate) fn pause_deliveries(&self, pause: Duration) {
        self.0.lock().pause = pause;
    }

    /// All connections break, and come back at once.
    pub(crate) fn reconnect_all(&self) {
        self.0
            .lock()
            .connections
            .values_mut()
            .for_each(Delivery::reconnect);
    }

    /// Gives bytes that are no event the next place in a lane of every namespace.
    pub(crate) fn publish_garbage(&self, lane: u32) {
        let mut state = self.0.lock();
        let now = state.now();
        let one =
            |(number, connection): (&usize, &Delivery)| (connection.namespace.clone(), *number);
        let by_namespace: BTreeMap<_, _> = state.connections.iter().map(one).collect();
        for (namespace, number) in by_namespace {
            let garbage = Bytes::from_static(GARBAGE);
            let server = state.server(&namespace, number);
            let published = server.publish(now, lane, 4_096, garbage, &[]);
            state.published(&namespace, number, &published);
        }
    }

    /// What a foreign writer puts on a lane's channel, in every namespace.
    pub(crate) fn inject(&self, lane: u32, bytes: &Bytes) {
        let event = match bytes.split_first_chunk::<POSITION>() {
            Some((position, payload)) if payload.len() <= MAX_PAYLOAD => {
                let (epoch, sequence) = position.split_at(POSITION / 2);
                let position = Position {
                    epoch: number(epoch),
                    sequence: number(sequence),
                };
                BusEvent::Message {
                    lane,
                    position,
                    payload: bytes.slice(POSITION..),
                }
            }
            _ => BusEvent::Garbled { lane },
        };
        for connection in self.0.lock().connections.values_mut() {
            connection.deliver(lane, std::slice::from_ref(&event), bytes.len());
        }
    }

    /// Begins to note what happens.
    pub(crate) fn keep_timeline(&self) {
        self.0.lock().timeline.get_or_insert_default();
    }

    /// Returns how much has happened so far.
    pub(crate) fn moment(&self) -> usize {
        let state = self.0.lock();
        state.timeline.as_ref().map_or(0, Timeline::len)
    }

    /// Returns what has happened since [`keep_timeline`](Self::keep_timeline), or since this was last called.
    pub(crate) fn take_timeline(&self) -> Timeline {
        self.0.lock().timeline.take().unwrap_or_default()
    }

    fn with_connection(&self, number: usize, change: impl FnOnce(&mut Delivery)) {
        if let Some(connection) = self.0.lock().connections.get_mut(&number) {
            change(connection);
        }
        self.0.changed.notify_waiters();
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
