//! One instance's client of a local bus: commands, as they would run over a network.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::conditions::take_one;
use super::history::Signs;
use super::hub::{Hub, POSITION, State};
use super::lane::Beat;
use super::network::{COMMAND_TIMEOUT, Command, Network, on_its_way, timed_out};
use super::tier::Tier;
use crate::bus::tier::{ClaimId, Fetch, Fetched, HEAD, Name, Put, Stored};
use crate::bus::{
    BoxFuture, Bus, BusConfig, Intent, IntentId, Journal, Known, Mark, Marked, Position, StillOpen,
    SubscriptionRepair, Verified,
};
use crate::lock::Lock;
use crate::metrics::Kind;
use crate::mutants::{Mechanism, without};
use crate::{Error, ErrorKind};

/// One instance's client of a [`LocalBus`](super::LocalBus).
pub(super) struct Client {
    network: Network,
    config: BusConfig,
    shares: AtomicBool,
    sources: Lock<Arc<[String]>>,
}

impl Client {
    pub(super) fn new(hub: Arc<Hub>, number: usize, config: BusConfig) -> Self {
        Self {
            network: Network { hub, number },
            config,
            shares: AtomicBool::new(false),
            sources: Lock::new(Arc::default()),
        }
    }

    async fn publish_to(
        &self,
        lane: u32,
        payload: Bytes,
        clears: Vec<IntentId>,
    ) -> Result<Position, Error> {
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        self.config
            .traffic
            .sent(Kind::Publish, payload.len() + POSITION);
        let BusConfig {
            namespace, journal, ..
        } = &self.config;
        let publish = |state: &mut State| {
            let now = state.now();
            let server = state.server(namespace, self.network.number);
            let published = server.publish(now, lane, *journal, payload, &clears);
            let come_back = state.published(namespace, self.network.number, &published);
            let connection = state.connections.get_mut(&self.network.number);
            let lost =
                connection.is_some_and(|connection| take_one(&mut connection.conditions.lose_acks));
            (published.position, come_back, lost)
        };
        match self.network.command(Command::Publish, publish).await? {
            (position, come_back, false) => {
                if let Some(wait) = come_back {
                    self.come_back(lane, wait);
                }
                Ok(position)
            }
            (_, _, true) => {
                sleep_until(deadline).await;
                Err(timed_out())
            }
        }
    }

    /// Delivers what waits in a lane, once it is due.
    fn come_back(&self, lane: u32, wait: Duration) {
        let (network, namespace) = (self.network.clone(), self.config.namespace.clone());
        drop(tokio::spawn(async move {
            sleep(wait).await;
            let number = network.number;
            let flush = |state: &mut State| state.flush(&namespace, number, lane, false);
            // Where it fails, the next verification of any instance does it.
            let _ = network.command(Command::Publish, flush).await;
        }));
    }

    async fn verify_lane(&self, lane: u32, known: Known) -> Result<Verified, Error> {
        let BusConfig {
            namespace,
            instance,
            lanes,
            journal,
            member_timeout,
            ..
        } = &self.config;
        let beat = Beat {
            instance: *instance,
            member_timeout: *member_timeout,
            lanes: *lanes,
            journal: *journal,
            known,
        };
        let signs = if self.config.signs {
            Signs::Yes
        } else {
            Signs::No
        };
        let shares = self.shares.load(Relaxed).then_some(signs);
        if let Some(slow) = self.network.slow_lane(lane) {
            on_its_way(slow, Instant::now() + COMMAND_TIMEOUT).await?;
        }
        let sources = self.sources.lock().clone();
        let verify = |state: &mut State| {
            let now = state.now();
            let mut published = Vec::new();
            let verified = state.server(namespace, self.network.number).verify(
                now,
                lane,
                &beat,
                (shares, &sources),
                &mut published,
            );
            #[cfg(any(test, feature = "test-util"))]
            state.note_seen(self.network.number);
            for published in &published {
                state.published(namespace, self.network.number, published);
            }
            let recovered = !published.is_empty();
            let wait = state.flush(namespace, self.network.number, lane, recovered);
            let pause = state.pause;
            verified.map(|verified| Verified {
                wait,
                pause,
                ..verified
            })
        };
        #[cfg(any(test, feature = "test-util"))]
        self.network.hub.lock().note_asked(self.network.number);
        let verified = self.network.command(Command::Other, verify).await?;
        self.still_the_primary()?;
        verified.map_err(|other| {
            let message = format!(
                "the namespace was set up with {} lanes, this instance has {lanes}",
                other.0
            );
            Error::new(ErrorKind::Lanes, message)
        })
    }

    /// Asked once a verification's reply is here: a primary that was replaced answers as if it were
    /// one, and proves nothing. A client that learns that looks for the present one.
    fn still_the_primary(&self) -> Result<(), Error> {
        let mut state = self.network.hub.lock();
        if !state.isolated(self.network.number) || without(Mechanism::StillThePrimary) {
            return Ok(());
        }
        if let Some(connection) = state.connections.get_mut(&self.network.number) {
            connection.leave_isolation();
        }
        let message = "the server that answered is no longer the primary";
        Err(Error::new(ErrorKind::Bus, message))
    }
}

impl Bus for Client {
    fn publish(
        &self,
        lane: u32,
        payload: Bytes,
        clears: Vec<IntentId>,
    ) -> BoxFuture<'_, Result<Position, Error>> {
        Box::pin(self.publish_to(lane, payload, clears))
    }

    fn verify_from(&self, lane: u32, known: Known) -> BoxFuture<'_, Result<Verified, Error>> {
        Box::pin(self.verify_lane(lane, known))
    }

    fn journal(&self, lane: u32, after: u64) -> BoxFuture<'_, Result<Journal, Error>> {
        Box::pin(self.network.command(Command::Other, move |state| {
            state
                .server(&self.config.namespace, self.network.number)
                .journal(lane, after)
        }))
    }

    fn announce(&self, lane: u32, intents: Vec<Intent>) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(self.network.command(Command::Other, move |state| {
            let now = state.now();
            let BusConfig {
                namespace,
                instance,
                member_timeout,
                ..
            } = &self.config;
            #[cfg(any(test, feature = "test-util"))]
            state.note_seen(self.network.number);
            state.server(namespace, self.network.number).announce(
                now,
                lane,
                *instance,
                *member_timeout,
                intents,
            )
        }))
    }

    fn reconcile(&self, lane: u32, open: StillOpen) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.network.command(Command::Other, move |state| {
            state
                .server(&self.config.namespace, self.network.number)
                .reconcile(lane, self.config.instance, &open);
        }))
    }

    fn share(&self) {
        self.shares.store(true, Relaxed);
    }

    fn watch(&self, sources: Arc<[String]>) {
        let mut watched = self.sources.lock();
        // They only grow, and two calls may overtake each other.
        if sources.len() > watched.len() {
            *watched = sources;
        }
    }

    fn mark(&self, lane: u32, mark: Mark) -> BoxFuture<'_, Result<Marked, Error>> {
        Box::pin(self.network.command(Command::Other, move |state| {
            let now = state.now();
            state
                .server(&self.config.namespace, self.network.number)
                .mark(now, lane, mark)
        }))
    }

    fn fetch(&self, lane: u32, fetch: Fetch) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(async move {
            let traffic = &self.config.traffic;
            traffic.sent(Kind::Shared, size_of::<Fetch>());
            let namespace = &self.config.namespace;
            let run = |state: &mut State| {
                let now = state.now();
                state
                    .server(namespace, self.network.number)
                    .fetch(now, lane, &fetch)
            };
            let fetched = self.network.command(Command::Other, run).await?;
            traffic.received(Kind::Shared, Tier::size(&fetched.found));
            Ok(fetched)
        })
    }

    fn put(&self, lane: u32, put: Put) -> BoxFuture<'_, Result<Stored, Error>> {
        let body = put.body.as_ref().map_or(0, Bytes::len);
        self.config.traffic.sent(Kind::Shared, HEAD + body);
        Box::pin(self.network.command(Command::Other, move |state| {
            state
                .server(&self.config.namespace, self.network.number)
                .put(lane, put)
        }))
    }

    fn release(&self, lane: u32, name: Name, id: ClaimId) -> BoxFuture<'_, Result<(), Error>> {
        self.config
            .traffic
            .sent(Kind::Shared, name.len() + id.len());
        Box::pin(self.network.command(Command::Other, move |state| {
            state
                .server(&self.config.namespace, self.network.number)
                .release(lane, &name, id);
        }))
    }

    fn repair_subscription(&self, how: SubscriptionRepair) {
        if let Some(connection) = self
            .network
            .hub
            .lock()
            .connections
            .get_mut(&self.network.number)
        {
            connection.repair_subscription(how);
        }
    }

    fn connected(&self) -> bool {
        self.network
            .hub
            .lock()
            .connections
            .get(&self.network.number)
            .is_some_and(|connection| !connection.conditions.cut)
    }

    fn away_since(&self, _lane: u32) -> Option<Instant> {
        let state = self.network.hub.lock();
        let connection = state.connections.get(&self.network.number)?;
        connection.conditions.cut.then_some(connection.since)
    }

    fn close(&self, open: StillOpen) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut state = self.network.hub.lock();
            if let Some(connection) = state.connections.get(&self.network.number)
                && !connection.conditions.cut
                && !connection.conditions.silent
                && !connection.conditions.mute
                && !connection.conditions.stalled
            {
                state
                    .server(&self.config.namespace, self.network.number)
                    .leave(self.config.instance, &open);
            }
            state.connections.remove(&self.network.number);
            drop(state);
            self.network.hub.changed.notify_waiters();
        })
    }
}

impl Drop for Client {
    /// Leaves no lane, as a crash does; `close` leaves them.
    fn drop(&mut self) {
        self.network
            .hub
            .lock()
            .connections
            .remove(&self.network.number);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBus")
            .field("number", &self.network.number)
            .finish_non_exhaustive()
    }
}
