//! What can go wrong with a local bus; `unstale::testing` is the face of it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::lane::Lane;
use super::link::{Conditions, Link};
use super::server::Server;
use super::{LocalBus, POSITION};
use crate::bus::{BusEvent, MAX_PAYLOAD, Position};

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

impl Link {
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

    /// A new connection subscribes anew.
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
    /// How many instances were ever attached.
    pub(crate) fn attached(&self) -> usize {
        self.0.lock().attached
    }

    pub(crate) fn cut(&self, number: usize) {
        self.with_link(number, Link::cut);
    }

    pub(crate) fn heal(&self, number: usize) {
        self.with_link(number, Link::heal);
    }

    pub(crate) fn silence(&self, number: usize) {
        self.with_link(number, |link| {
            link.conditions.silent = true;
            link.lose_under_way();
        });
    }

    pub(crate) fn unsubscribe(&self, number: usize) {
        self.with_link(number, |link| link.conditions.unsubscribed = true);
    }

    pub(crate) fn crash(&self, number: usize) {
        self.0.lock().links.remove(&number);
        self.0.changed.notify_waiters();
    }

    pub(crate) fn deafen(&self, number: usize) {
        self.with_link(number, |link| link.conditions.deaf = true);
    }

    pub(crate) fn mute(&self, number: usize) {
        self.with_link(number, |link| link.conditions.mute = true);
    }

    pub(crate) fn lose_replies(&self, number: usize) {
        self.with_link(number, |link| link.conditions.replies_lost = true);
    }

    /// Whether every command is refused at once, as by a Redis that is out of memory or replicas.
    pub(crate) fn refuse(&self, number: usize, refuses: bool) {
        self.with_link(number, |link| link.conditions.refused = refuses);
    }

    pub(crate) fn slow(&self, number: usize, request: Duration, reply: Duration) {
        self.with_link(number, |link| link.conditions.slow = (request, reply));
    }

    pub(crate) fn silence_next_link(&self) {
        self.0.lock().silent_next = true;
    }

    pub(crate) fn slow_lane(&self, number: usize, lane: u32, by: Duration) {
        self.with_link(number, |link| link.conditions.slow_lane = Some((lane, by)));
    }

    pub(crate) fn stall(&self, number: usize) {
        self.with_link(number, |link| {
            link.conditions.held.get_or_insert_default();
            link.conditions.stalled = true;
        });
    }

    /// Nothing is wrong with the connection any more.
    pub(crate) fn end_all(&self, number: usize) {
        self.with_link(number, |link| {
            link.release(Order::Kept);
            let Conditions {
                cut,
                silent,
                broken,
                unsubscribed,
                isolated,
                ..
            } = link.conditions;
            link.conditions = Conditions {
                cut,
                silent,
                broken,
                unsubscribed,
                isolated,
                ..Conditions::default()
            };
            link.heal();
        });
    }

    pub(crate) fn pause_publish(&self, number: usize, paused: bool) {
        self.with_link(number, |link| link.conditions.publish_paused = paused);
    }

    pub(crate) fn next(&self, number: usize, what: Next, times: u32) {
        self.with_link(number, |link| link.next(what, times));
    }

    pub(crate) fn delay(&self, number: usize, delay: Duration) {
        self.with_link(number, |link| link.conditions.delay = delay);
    }

    pub(crate) fn hold(&self, number: usize) {
        self.with_link(number, |link| {
            link.conditions.held.get_or_insert_default();
        });
    }

    pub(crate) fn release(&self, number: usize, order: Order) {
        self.with_link(number, |link| link.release(order));
    }

    /// Changes the servers of all namespaces, unseen by any connection.
    pub(crate) fn with_servers(&self, change: impl FnMut(&mut Server)) {
        self.0.lock().servers.values_mut().for_each(change);
    }

    pub(crate) fn with_lanes(&self, mut change: impl FnMut(&mut Lane)) {
        self.with_servers(|server| server.each_lane(&mut change));
    }

    /// A replica without the latest events takes the server's place. The links with these numbers
    /// go on with the server that was the primary, which does not know; the others reconnect.
    pub(crate) fn split_off(&self, losing: u64, isolated: &[usize]) {
        let mut state = self.0.lock();
        state.isolated = state.servers.clone();
        for server in state.servers.values_mut() {
            server.restart();
            server.forget(losing);
        }
        for (number, link) in &mut state.links {
            link.conditions.isolated = isolated.contains(number);
            if !link.conditions.isolated {
                link.reconnect();
            }
        }
    }

    /// The isolated server is gone; its links find the primary.
    pub(crate) fn rejoin(&self) {
        let mut state = self.0.lock();
        state.isolated.clear();
        for link in state.links.values_mut() {
            if std::mem::take(&mut link.conditions.isolated) {
                link.reconnect();
            }
        }
    }

    /// What the servers of all namespaces hold.
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

    /// All connections break, and come back at once.
    pub(crate) fn reconnect_all(&self) {
        self.0.lock().links.values_mut().for_each(Link::reconnect);
    }

    /// What a foreign writer puts on a lane's channel, in every namespace.
    /// Gives bytes that are no event the next place in a lane of every namespace.
    pub(crate) fn publish_garbage(&self, lane: u32) {
        let mut state = self.0.lock();
        let now = state.now();
        let one_link = |(number, link): (&usize, &Link)| (link.namespace.clone(), *number);
        let by_namespace: BTreeMap<_, _> = state.links.iter().map(one_link).collect();
        for (namespace, number) in by_namespace {
            let garbage = Bytes::from_static(super::link::GARBAGE);
            let server = state.server(&namespace, number);
            let published = server.publish(now, lane, 4_096, garbage, &[]);
            state.deliver(&namespace, number, &published);
        }
    }

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
        for link in self.0.lock().links.values_mut() {
            link.deliver(lane, event.clone(), bytes.len());
        }
    }

    fn with_link(&self, number: usize, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.0.lock().links.get_mut(&number) {
            change(link);
        }
        self.0.changed.notify_waiters();
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
