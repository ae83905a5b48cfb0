//! One instance's access to a local bus: commands, as they would run over a network.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::lane::Beat;
use super::link::take_one;
use super::record::{Signs, Tier};
use super::{LocalBus, POSITION, State};
use crate::bus::shared::{ClaimId, Fetch, Fetched, HEAD, Name, Put, Stored};
use crate::bus::{
    BoxFuture, Bus, BusConfig, Intent, IntentId, Journal, Known, Mend, Position, StillOpen,
    Verified,
};
use crate::metrics::Kind;
use crate::without::{Mechanism, without};
use crate::{Error, ErrorKind};

/// How long a command without an answer is waited for; the same as over Redis.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest that an instance can be stalled.
const STALL: Duration = Duration::from_secs(3600);

/// One instance's access to a [`LocalBus`].
pub(super) struct Attached {
    bus: LocalBus,
    number: usize,
    config: BusConfig,
    shares: AtomicBool,
}

/// Which commands a paused publisher stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Publish,
    Other,
}

impl Attached {
    pub(super) fn new(bus: LocalBus, number: usize, config: BusConfig) -> Self {
        Self {
            bus,
            number,
            config,
            shares: AtomicBool::new(false),
        }
    }

    /// Runs a command on the server, or fails as it would over a network in the state it is in.
    async fn command<T>(
        &self,
        command: Command,
        run: impl FnOnce(&mut State) -> T + Send,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        let (request, reply) = self.slow();
        on_its_way(request, deadline).await?;
        let (answer, lost) = self.reach(command, deadline, run).await?;
        on_its_way(if lost { COMMAND_TIMEOUT } else { reply }, deadline).await?;
        Ok(answer)
    }

    fn slow(&self) -> (Duration, Duration) {
        let state = self.bus.0.lock();
        let link = state.links.get(&self.number);
        link.map_or_else(Default::default, |link| link.conditions.slow)
    }

    fn slow_lane(&self, lane: u32) -> Option<Duration> {
        let state = self.bus.0.lock();
        let (slow, by) = state.links.get(&self.number)?.conditions.slow_lane?;
        (slow == lane).then_some(by)
    }

    /// Runs a command as soon as it gets through; whether its reply is lost.
    async fn reach<T>(
        &self,
        command: Command,
        mut deadline: Instant,
        run: impl FnOnce(&mut State) -> T + Send,
    ) -> Result<(T, bool), Error> {
        loop {
            // Registered before the state is looked at, so that no change falls in between.
            let mut changed = std::pin::pin!(self.bus.0.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.bus.0.lock();
                let Some(link) = state.links.get_mut(&self.number) else {
                    return Err(Error::closed());
                };
                let conditions = &mut link.conditions;
                let publish = command == Command::Publish;
                let waits = conditions.silent
                    || conditions.mute
                    || conditions.stalled
                    || (publish && conditions.publish_paused);
                if conditions.stalled {
                    // Who does not run does not give up either.
                    deadline = Instant::now() + STALL + COMMAND_TIMEOUT;
                }
                if !waits && conditions.cut {
                    return Err(unreachable_bus());
                }
                if !waits && conditions.refused {
                    return Err(Error::new(
                        ErrorKind::Bus,
                        "the server refuses all commands",
                    ));
                }
                if !waits && publish && take_one(&mut conditions.fail_publishes) {
                    return Err(Error::new(ErrorKind::Bus, "the bus refused the event"));
                }
                if !waits {
                    let lost = conditions.replies_lost;
                    return Ok((run(&mut state), lost));
                }
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Err(timed_out());
            }
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
            let server = state.server(namespace, self.number);
            let published = server.publish(now, lane, *journal, payload, &clears);
            state.deliver(namespace, self.number, &published);
            let link = state.links.get_mut(&self.number);
            let lost = link.is_some_and(|link| take_one(&mut link.conditions.lose_acks));
            (published.position, lost)
        };
        match self.command(Command::Publish, publish).await? {
            (position, false) => Ok(position),
            (_, true) => {
                sleep_until(deadline).await;
                Err(timed_out())
            }
        }
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
        if let Some(slow) = self.slow_lane(lane) {
            on_its_way(slow, Instant::now() + COMMAND_TIMEOUT).await?;
        }
        let verify = |state: &mut State| {
            let now = state.now();
            let mut published = Vec::new();
            let verified = state.server(namespace, self.number).verify(
                now,
                lane,
                &beat,
                shares,
                &mut published,
            );
            #[cfg(any(test, feature = "test-util"))]
            state.note_seen(self.number);
            for published in &published {
                state.deliver(namespace, self.number, published);
            }
            verified
        };
        #[cfg(any(test, feature = "test-util"))]
        self.bus.0.lock().note_asked(self.number);
        let verified = self.command(Command::Other, verify).await?;
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
    /// one, and vouches for nothing. Who learns that looks for the present one.
    fn still_the_primary(&self) -> Result<(), Error> {
        let mut state = self.bus.0.lock();
        if !state.isolated(self.number) || without(Mechanism::StillThePrimary) {
            return Ok(());
        }
        if let Some(link) = state.links.get_mut(&self.number) {
            link.leave_isolation();
        }
        let message = "the server that answered is the primary no more";
        Err(Error::new(ErrorKind::Bus, message))
    }
}

impl Bus for Attached {
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
        Box::pin(self.command(Command::Other, move |state| {
            state
                .server(&self.config.namespace, self.number)
                .journal(lane, after)
        }))
    }

    fn record(&self, lane: u32, intents: Vec<Intent>) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(self.command(Command::Other, move |state| {
            let now = state.now();
            let BusConfig {
                namespace,
                instance,
                member_timeout,
                ..
            } = &self.config;
            #[cfg(any(test, feature = "test-util"))]
            state.note_seen(self.number);
            state.server(namespace, self.number).record(
                now,
                lane,
                *instance,
                *member_timeout,
                intents,
            )
        }))
    }

    fn reconcile(&self, lane: u32, open: StillOpen) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.command(Command::Other, move |state| {
            state.server(&self.config.namespace, self.number).reconcile(
                lane,
                self.config.instance,
                &open,
            );
        }))
    }

    fn share(&self) {
        self.shares.store(true, Relaxed);
    }

    fn fetch(&self, lane: u32, fetch: Fetch) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(async move {
            let traffic = &self.config.traffic;
            traffic.sent(Kind::Shared, size_of::<Fetch>());
            let namespace = &self.config.namespace;
            let run = |state: &mut State| {
                let now = state.now();
                state
                    .server(namespace, self.number)
                    .fetch(now, lane, &fetch)
            };
            let fetched = self.command(Command::Other, run).await?;
            traffic.received(Kind::Shared, Tier::size(&fetched.found));
            Ok(fetched)
        })
    }

    fn put(&self, lane: u32, put: Put) -> BoxFuture<'_, Result<Stored, Error>> {
        let body = put.body.as_ref().map_or(0, Bytes::len);
        self.config.traffic.sent(Kind::Shared, HEAD + body);
        Box::pin(self.command(Command::Other, move |state| {
            state
                .server(&self.config.namespace, self.number)
                .put(lane, put)
        }))
    }

    fn release(&self, lane: u32, name: Name, id: ClaimId) -> BoxFuture<'_, Result<(), Error>> {
        self.config
            .traffic
            .sent(Kind::Shared, name.len() + id.len());
        Box::pin(self.command(Command::Other, move |state| {
            state
                .server(&self.config.namespace, self.number)
                .release(lane, &name, id);
        }))
    }

    fn mend(&self, how: Mend) {
        if let Some(link) = self.bus.0.lock().links.get_mut(&self.number) {
            link.mend(how);
        }
    }

    fn connected(&self) -> bool {
        self.bus
            .0
            .lock()
            .links
            .get(&self.number)
            .is_some_and(|link| !link.conditions.cut)
    }

    fn away_since(&self, _lane: u32) -> Option<Instant> {
        let state = self.bus.0.lock();
        let link = state.links.get(&self.number)?;
        link.conditions.cut.then_some(link.since)
    }

    fn close(&self, open: StillOpen) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut state = self.bus.0.lock();
            if let Some(link) = state.links.get(&self.number)
                && !link.conditions.cut
                && !link.conditions.silent
                && !link.conditions.mute
                && !link.conditions.stalled
            {
                state
                    .server(&self.config.namespace, self.number)
                    .goodbye(self.config.instance, &open);
            }
            state.links.remove(&self.number);
            drop(state);
            self.bus.0.changed.notify_waiters();
        })
    }
}

impl Drop for Attached {
    /// Without a goodbye: whoever wants one closes. This is what a crash looks like.
    fn drop(&mut self) {
        self.bus.0.lock().links.remove(&self.number);
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBus")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// A message under way for `time`, of which nobody hears after the deadline.
async fn on_its_way(time: Duration, deadline: Instant) -> Result<(), Error> {
    let arrives = Instant::now() + time;
    if time.is_zero() {
        return Ok(());
    }
    sleep_until(arrives.min(deadline)).await;
    if arrives < deadline {
        Ok(())
    } else {
        Err(timed_out())
    }
}

fn unreachable_bus() -> Error {
    Error::new(ErrorKind::Bus, "the bus cannot be reached")
}

fn timed_out() -> Error {
    Error::new(ErrorKind::Bus, "the bus did not answer in time")
}
