//! What all instances on one local bus share: the servers, and the connections to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::delivery::{Delivery, Wait};
use super::gather::Delivered;
use super::lane::Published;
use super::server::Server;
#[cfg(any(test, feature = "test-util"))]
use super::timeline::{Happened, Timeline};
use crate::bus::BusEvent;
use crate::event::MAX_PAYLOAD;
use crate::lock::{Guard, Lock};

/// What the server's clock shows at first: as far as it can be set back.
pub(super) const FIRST_TIME: Duration = Duration::from_secs(24 * 3_600);

/// Bytes before the payload of a message: epoch and sequence, as over Redis.
pub(super) const POSITION: usize = 16;

/// One lock for everything: a publish numbers, journals and delivers in one atomic step, as the
/// script over Redis does. Nothing under it waits.
#[derive(Default)]
pub(super) struct Hub {
    state: Lock<State>,
    /// Wakes the commands that wait for a fault to end.
    pub(super) changed: Notify,
}

#[derive(Default)]
pub(super) struct State {
    /// By namespace.
    pub(super) servers: BTreeMap<String, Server>,
    /// What was the primary before a split, for the connections that still speak to it.
    #[cfg(any(test, feature = "test-util"))]
    pub(super) isolated: BTreeMap<String, Server>,
    #[cfg(any(test, feature = "test-util"))]
    pub(super) timeline: Option<Timeline>,
    /// By the order of attachment; those that are gone are missing.
    pub(super) connections: BTreeMap<usize, Delivery>,
    pub(super) attached: usize,
    /// The next connection begins in silence.
    pub(super) silent_next: bool,
    /// The server's time counts from here. Read at the first attachment, within the runtime: its
    /// clock may be a paused one.
    pub(super) started: Option<Instant>,
    /// By how much its clock was set, in milliseconds.
    pub(super) stepped: i64,
    /// What follows each message, as with many subscribers over Redis.
    pub(super) pause: Duration,
}

impl Hub {
    pub(super) fn lock(&self) -> Guard<'_, State> {
        // What the lock guards is changed by code that does not panic half-way.
        self.state.lock()
    }
}

impl State {
    /// Returns the server's clock, which may have been set.
    pub(super) fn now(&self) -> Duration {
        let elapsed = self.started.map(|started| started.elapsed());
        let ran = FIRST_TIME + elapsed.unwrap_or_default();
        let step = Duration::from_millis(self.stepped.unsigned_abs());
        if self.stepped < 0 {
            ran.saturating_sub(step)
        } else {
            ran + step
        }
    }

    /// Returns the server that this connection speaks to.
    pub(super) fn server(&mut self, namespace: &str, number: usize) -> &mut Server {
        #[cfg(any(test, feature = "test-util"))]
        if self.isolated(number) {
            return self.isolated.entry(namespace.to_owned()).or_default();
        }
        let _ = number;
        if !self.servers.contains_key(namespace) {
            self.servers.insert(namespace.to_owned(), Server::default());
        }
        self.servers
            .get_mut(namespace)
            .expect("it was just inserted where it was missing")
    }

    /// Returns whether this connection speaks to a server that is no longer the primary.
    pub(super) fn isolated(&self, number: usize) -> bool {
        let connection = self.connections.get(&number);
        connection.is_some_and(|connection| connection.conditions.isolated)
    }

    /// An event that this connection's server has published is delivered, or waits. Returns when its
    /// publisher is to come back, where it is the first that waits.
    pub(super) fn published(
        &mut self,
        namespace: &str,
        from: usize,
        published: &Published,
    ) -> Option<Duration> {
        #[cfg(any(test, feature = "test-util"))]
        self.note_published(from, published);
        let (now, pause) = (self.now(), self.pause);
        let gather = self.server(namespace, from).gather(published.lane);
        let Delivered {
            messages,
            come_back,
        } = gather.add(now, pause, published.clone());
        for message in messages {
            self.deliver(namespace, from, &message);
        }
        come_back
    }

    /// Delivers what waits in a lane, if it is due, or at once where that is asked for. Returns how long
    /// it has to wait yet.
    pub(super) fn flush(
        &mut self,
        namespace: &str,
        from: usize,
        lane: u32,
        at_once: bool,
    ) -> Duration {
        let (now, pause) = (self.now(), self.pause);
        let gather = self.server(namespace, from).gather(lane);
        let message = gather.flush(now, pause, at_once);
        let wait = gather.wait(now, pause);
        self.deliver(namespace, from, &message);
        wait
    }

    /// Hands a message of this connection's server to all subscribers there.
    fn deliver(&mut self, namespace: &str, from: usize, message: &[Published]) {
        let Some(lane) = message.first().map(|first| first.lane) else {
            return;
        };
        let isolated = self.isolated(from);
        let bytes = message.iter().map(|it| it.payload.len()).sum::<usize>() + POSITION;
        let event = |published: &Published| match published.payload.len() {
            ..=MAX_PAYLOAD => BusEvent::Message {
                lane,
                position: published.position,
                payload: published.payload.clone(),
            },
            _ => BusEvent::Garbled { lane },
        };
        let events: Vec<BusEvent> = message.iter().map(event).collect();
        for connection in self.connections.values_mut().filter(|connection| {
            connection.namespace == namespace && connection.conditions.isolated == isolated
        }) {
            connection.deliver(lane, &events, bytes);
        }
    }
}

#[cfg(any(test, feature = "test-util"))]
impl State {
    fn note(&mut self, what: impl FnOnce() -> Option<Happened>) {
        if let Some(timeline) = &mut self.timeline
            && let Some(what) = what()
        {
            timeline.note(what);
        }
    }

    pub(super) fn note_asked(&mut self, number: usize) {
        self.note(|| Some(Happened::Asked(number)));
    }

    pub(super) fn note_seen(&mut self, number: usize) {
        if !self.isolated(number) {
            self.note(|| Some(Happened::Seen(number)));
        }
    }

    fn note_published(&mut self, from: usize, published: &Published) {
        let primary = !self.isolated(from);
        self.note(|| Happened::published(from, primary, published));
    }
}

/// Moves what waits of one connection, for as long as there is the connection. Spawned once, under no lock.
pub(super) async fn pump(home: Weak<Hub>, number: usize, wake: Arc<Notify>) {
    loop {
        let Some(hub) = home.upgrade() else { return };
        let wait = hub.lock().connections.get_mut(&number).map(Delivery::step);
        // Not kept over the wait: the bus must be able to go.
        drop(hub);
        let Some(wait) = wait else { return };
        match wait {
            Wait::Nothing => wake.notified().await,
            Wait::Until(due) => tokio::select! {
                biased;
                () = wake.notified() => {}
                () = sleep_until(due) => {}
            },
            // Once there is room it is the next step, or the next publish, that uses it.
            Wait::Room(queue) => tokio::select! {
                biased;
                () = wake.notified() => {}
                room = queue.reserve() => if room.is_err() {
                    return;
                }
            },
        }
    }
}
