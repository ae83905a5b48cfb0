//! The bus inside a process: what Redis does, without Redis.
use crate::lock::{Guard, Lock};

mod attached;
#[cfg(any(test, feature = "test-util"))]
pub(crate) mod faults;
#[cfg(any(test, feature = "test-util"))]
pub(crate) mod history;
pub(crate) mod lane;
mod link;
mod members;
mod record;
pub(crate) mod server;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use self::attached::Attached;
use self::lane::Published;
use self::link::Link;
use self::server::Server;
use super::{Bus, BusConfig, BusEvent, MAX_PAYLOAD};

/// What the server's clock shows at first: as far as it can be set back.
const FIRST_TIME: Duration = Duration::from_secs(24 * 3_600);

/// Bytes before the payload of a message: epoch and sequence, as over Redis.
const POSITION: usize = 16;

/// The bus of instances that share one process.
///
/// Clones are the same bus: instances that were started on it hear each other's invalidations, as
/// they would over Redis, and no server is involved. It is for tests, for demonstrations and for
/// programs of a single process. Instances of different namespaces do not hear each other.
///
/// It keeps the whole protocol, journal, members and intents included, so that what is tested on it
/// is what runs over Redis. With the feature `test-util` its connections can be cut, slowed down and
/// made to lose messages: see the module `testing`.
#[derive(Clone, Default)]
pub struct LocalBus(Arc<Shared>);

/// One lock for everything: a publish numbers, journals and delivers in one atomic step, as the
/// script over Redis does. Nothing under it waits.
#[derive(Default)]
struct Shared {
    state: Lock<State>,
    /// Wakes the commands that wait for a fault to end.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// By namespace.
    servers: BTreeMap<String, Server>,
    /// What was the primary before a split, for the links that still speak to it.
    #[cfg(any(test, feature = "test-util"))]
    isolated: BTreeMap<String, Server>,
    #[cfg(any(test, feature = "test-util"))]
    history: Option<history::History>,
    /// By the order of attachment; those that are gone are missing.
    links: BTreeMap<usize, Link>,
    attached: usize,
    /// The next link begins in silence.
    silent_next: bool,
    /// The server's time counts from here. Read at the first attachment, within the runtime: its
    /// clock may be a paused one.
    started: Option<Instant>,
    /// By how much its clock was set, in milliseconds.
    stepped: i64,
}

impl LocalBus {
    /// Connects an instance; the first event is [`BusEvent::Subscribed`].
    ///
    /// Must be called within a runtime.
    pub(crate) fn attach(&self, config: BusConfig) -> (Arc<dyn Bus>, mpsc::Receiver<BusEvent>) {
        let mut state = self.0.lock();
        state.started.get_or_insert_with(Instant::now);
        let number = state.attached;
        state.attached += 1;
        let (mut link, receiver) = Link::new(&config);
        if std::mem::take(&mut state.silent_next) {
            // Found out when the silence ends, as after a connection that broke.
            link.conditions.silent = true;
            link.conditions.broken = true;
        } else {
            link.subscribed();
        }
        let wake = link.wake();
        state.links.insert(number, link);
        drop(state);
        drop(tokio::spawn(link::pump(
            Arc::downgrade(&self.0),
            number,
            wake,
        )));
        (
            Arc::new(Attached::new(self.clone(), number, config)),
            receiver,
        )
    }
}

impl fmt::Debug for LocalBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("LocalBus")
            .field("attached", &state.links.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> Guard<'_, State> {
        // What the lock guards is changed by code that does not panic half-way.
        self.state.lock()
    }
}

impl State {
    /// The server's clock, which may have been set.
    fn now(&self) -> Duration {
        let elapsed = self.started.map(|started| started.elapsed());
        let ran = FIRST_TIME + elapsed.unwrap_or_default();
        let step = Duration::from_millis(self.stepped.unsigned_abs());
        if self.stepped < 0 {
            ran.saturating_sub(step)
        } else {
            ran + step
        }
    }

    /// The server that this link speaks to.
    fn server(&mut self, namespace: &str, number: usize) -> &mut Server {
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

    /// Whether this link speaks to a server that is the primary no more.
    fn isolated(&self, number: usize) -> bool {
        let link = self.links.get(&number);
        link.is_some_and(|link| link.conditions.isolated)
    }

    /// Hands an event that this link's server has published to all who subscribe there.
    fn deliver(&mut self, namespace: &str, from: usize, published: &Published) {
        let isolated = self.isolated(from);
        #[cfg(any(test, feature = "test-util"))]
        self.note_published(from, published);
        let Published {
            lane,
            position,
            payload,
        } = published.clone();
        let bytes = payload.len() + POSITION;
        let event = if payload.len() > MAX_PAYLOAD {
            BusEvent::Garbled { lane }
        } else {
            BusEvent::Message {
                lane,
                position,
                payload,
            }
        };
        for link in self
            .links
            .values_mut()
            .filter(|link| link.namespace == namespace && link.conditions.isolated == isolated)
        {
            link.deliver(lane, event.clone(), bytes);
        }
    }
}
