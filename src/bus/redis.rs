//! The bus over Redis (fred): a single server, the primary that sentinels name, or a cluster.
//!
//! Two connections to each server in use: one carries commands, the other only listens, so that a
//! backlog of deliveries never delays an acknowledgement and a refused subscription never answers a
//! publish. Each is kept up by a task of its own. Everything that must happen at once is one script
//! (see the `.lua` files).
//!
//! - [`routing`]: on which server each lane lives, and which servers decide that
//! - [`node`]: one server; [`commands`], [`subscription`]: its two connections; [`peer`]: what these two share
//! - [`connection`], [`link`]: one connection of either kind, without any reconnecting of its own
//! - [`reach`]: how one is made; [`target`]: where to; [`retry`]: when the next one is tried
//! - [`call`]: how a call finds its lane's server; [`ask_redirect`]: while a slot is on the move
//! - [`note`]: what this instance says of itself, as Redis keeps it
//! - [`scripts`]: the scripts, their names and answers; [`tier`]: those of the shared tier
//! - [`rights`], [`product`]: whether an instance can live on a server, and what is missing
//! - [`error`], [`status`]: what went wrong, in words
//! - `inspect`: the server as operators look at it
//! - [`logins`], [`renewal`]: the login there; [`dial`]: which address; [`single`]: calls for both that may take long
//! - [`config`], [`tls`]: how to reach Redis; [`refusal`]: why it could not be reached; [`values`]: arguments, and how many bytes things take

mod action;
mod ask_redirect;
mod call;
mod commands;
mod common;
mod config;
mod connection;
mod dial;
mod error;
#[cfg(feature = "cli")]
pub(crate) mod inspect;
mod link;
mod listen;
mod logins;
mod node;
mod note;
mod peer;
#[cfg_attr(
    not(feature = "cli"),
    allow(unreachable_pub, reason = "the program shows it")
)]
pub(crate) mod product;
mod reach;
mod refusal;
mod renewal;
mod retry;
#[cfg_attr(
    not(feature = "cli"),
    allow(unreachable_pub, reason = "the program shows it")
)]
pub(crate) mod rights;
mod routing;
mod scripts;
mod single;
mod status;
mod subscription;
mod target;
#[cfg(test)]
mod tests;
mod tier;
#[cfg(feature = "tls")]
mod tls;
mod values;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use self::call::Caller;
use self::common::Common;
pub(crate) use self::config::RedisConfig;
use self::node::Node;
use self::note::Announced;
use self::routing::Routing;
use self::scripts::{Beat, Names, Script};
use self::values::{bytes, number};
use crate::bus::tier::{ClaimId, Fetch, Fetched, Name, Put, Stored};
use crate::bus::{
    BoxFuture, Bus, BusConfig, BusEvent, CacheFormat, EVENT_QUEUE, Intent, IntentId, JOURNAL_PAGE,
    Journal, Known, Mark, Marked, Position, StillOpen, SubscriptionRepair, Verified,
};
use crate::event::KeyPrint;
use crate::identity::InstanceId;
use crate::lock::Lock;
use crate::metrics::Kind;
use crate::url::{Address, Deployment};
use crate::{Error, ErrorKind};

/// Calls of verify.lua that one verification makes while dead members are left, each settling up to
/// 512 intents. What is left then (8,192 writes died at once) waits for the next verification.
const VERIFY_ROUNDS: usize = 16;

/// How long the tasks may take to end: they only have to drop their connections.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The bus of one instance.
pub(crate) struct RedisBus {
    caller: Arc<Caller>,
    note: Announced,
    task: Lock<Option<JoinHandle<()>>>,
}

impl RedisBus {
    /// Begins to connect and returns at once; needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// `Settings`, if the URL or a TLS file cannot be used.
    pub(crate) fn start(
        config: BusConfig,
        redis: &RedisConfig,
    ) -> Result<(Arc<Self>, mpsc::Receiver<BusEvent>), Error> {
        let address = Address::parse(&redis.url)?;
        let target = redis.target(&address)?;
        let (sharded, database) = (address.is_cluster(), address.database_of_channels());
        let logins = Arc::clone(target.logins());
        let names = (0..config.lanes).map(|lane| Names::new(&config.namespace, lane, database));
        let mut common = Common::new(names.collect(), config, sharded);
        common.moves = address.deployment != Deployment::Single;
        common.listen = redis.listen.clone();
        let common = Arc::new(common);
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let mut tasks = JoinSet::new();
        if logins.changes() {
            let keep = logins.keep(Arc::clone(&common));
            let watched = &common.config.tasks;
            watched.spawn_into(&mut tasks, "logins", keep);
        }
        let routes = Arc::new(Routing::new(common.clone(), &address, target));
        if !routes.moves() {
            routes.settle(&address.places[0], &mut tasks, &events);
        }
        let task = routing::run(Arc::clone(&routes), tasks, events);
        let task = common
            .config
            .tasks
            .spawn_alone(&Handle::current(), "routing", task);
        let keys = common.config.keys.clone();
        let caller = Arc::new(Caller {
            common,
            routing: routes,
            timeout: redis.times.command,
        });
        Ok((
            Arc::new(Self {
                caller,
                note: Announced::new(keys),
                task: Lock::new(Some(task)),
            }),
            receiver,
        ))
    }

    /// Waits until commands can be sent and the subscription of every lane is proven.
    ///
    /// # Errors
    ///
    /// `Auth` or `Settings` as soon as Redis refuses the login, the database or a right that is
    /// needed; `Bus` after `wait`. The bus goes on trying in either case.
    pub(crate) async fn ready(&self, wait: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + wait;
        let mut changes = self.caller.common.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let Some(missing) = self.caller.missing() else {
                return Ok(());
            };
            if error::is_permanent(&missing) {
                return Err(missing);
            }
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return Err(missing);
            }
        }
    }

    /// Returns whether the subscription of every lane is proven.
    #[cfg(feature = "cli")]
    pub(crate) fn subscribed(&self) -> bool {
        let nodes = self.caller.routing.nodes();
        let proven = |node: &Arc<Node>| node.subscription.status.borrow().is_up();
        self.caller.routing.is_complete() && nodes.iter().all(proven)
    }

    /// One call of verify.lua, and the server that answered.
    async fn beat(&self, lane: u32, known: Known) -> Result<(Arc<Node>, Beat), Error> {
        let names = self.caller.names(lane)?;
        let config = &self.caller.common.config;
        let mut keys = vec![
            &names.state,
            &names.journal,
            &names.waiting,
            &names.members,
            &names.intents,
        ];
        let shares = self.caller.common.shares.load(Relaxed);
        if shares {
            keys.extend([&names.history, &names.formats]);
        }
        let lowest = known.lowest();
        let mut args = vec![
            self.caller.instance(),
            number(config.member_timeout.as_millis()),
            number(config.lanes),
            number(config.journal),
            names.channel.clone().into(),
            bytes(&entropy()?),
            number(match (shares, config.signs) {
                (false, _) => 0,
                (true, false) => 1,
                (true, true) => 2,
            }),
            number(lowest.map_or(0, |lowest| lowest.epoch)),
            number(lowest.map_or(0, |lowest| lowest.sequence)),
        ];
        let note = self.note.pending().filter(|_| lane == 0);
        let sources = self.caller.common.sources.lock().clone();
        args.push(note.clone().map_or_else(|| "".into(), Value::from));
        args.extend(sources.iter().map(|source| source.as_str().into()));
        let call = self
            .caller
            .call_at(lane, Kind::Verify, Script::Verify, &keys, &args);
        let (node, answer) = call.await?;
        let beat = scripts::beat(&answer)?;
        match note {
            Some(note) => {
                self.note.taken(&note);
                self.warn_of_keys(beat.disagree);
            }
            None if lane == 0 && !beat.known => self.note.forgotten(),
            None => {}
        }
        Ok((node, beat))
    }

    /// Logged when this instance joins, and whenever it publishes another cache.
    fn warn_of_keys(&self, disagree: u32) {
        if disagree > 0 {
            let config = &self.caller.common.config;
            tracing::error!(
                instance = %InstanceId::new(config.instance),
                others = disagree,
                "other instances sign events with another key, or do not sign: each side drops its \
                 lanes at what the other publishes. Give all instances and writers the same \
                 UNSTALE_SIGNING_KEY"
            );
        }
    }
}

impl Bus for RedisBus {
    fn publish(
        &self,
        lane: u32,
        payload: Bytes,
        clears: Vec<IntentId>,
    ) -> BoxFuture<'_, Result<Position, Error>> {
        Box::pin(async move {
            let names = self.caller.names(lane)?;
            let mut keys = vec![&names.state, &names.journal, &names.waiting];
            if !clears.is_empty() {
                keys.extend([&names.members, &names.intents]);
            }
            if self.caller.common.shares.load(Relaxed) {
                keys.extend([&names.history, &names.formats]);
            }
            let mut args = vec![
                names.channel_end().into(),
                number(self.caller.common.config.journal),
                payload.into(),
            ];
            args.extend(clears.iter().map(|id| bytes(id)));
            let call = self
                .caller
                .call(lane, Kind::Publish, Script::Publish, &keys, &args);
            let (position, come_back) = scripts::published(&call.await?)?;
            if let Some(what) = come_back {
                tokio::spawn(call::come_back(Arc::clone(&self.caller), lane, what));
            }
            Ok(position)
        })
    }

    fn verify_from(&self, lane: u32, known: Known) -> BoxFuture<'_, Result<Verified, Error>> {
        Box::pin(async move {
            let (mut node, mut beat) = self.beat(lane, known).await?;
            // The marks that were read first prove least.
            let counted = beat.counted.clone();
            let (member, others, mut recovered) = (beat.known, beat.others, beat.recovered);
            for _ in 1..VERIFY_ROUNDS {
                if !beat.more {
                    break;
                }
                (node, beat) = self.beat(lane, Known::default()).await?;
                recovered = recovered.saturating_add(beat.recovered);
            }
            if beat.more {
                let message =
                    format!("{recovered} writes of dead instances were finished, more are left");
                return Err(Error::new(ErrorKind::Bus, message));
            }
            self.caller.still_the_primary(lane, &node).await?;
            Ok(Verified {
                head: beat.head,
                known: member,
                recovered,
                wait: beat.wait,
                pause: beat.pause,
                others,
                counted,
            })
        })
    }

    fn journal(&self, lane: u32, after: u64) -> BoxFuture<'_, Result<Journal, Error>> {
        Box::pin(async move {
            let names = self.caller.names(lane)?;
            let keys = [&names.state, &names.journal];
            let args = [number(after), number(JOURNAL_PAGE)];
            scripts::journal(
                &self
                    .caller
                    .call(lane, Kind::Repair, Script::Journal, &keys, &args)
                    .await?,
            )
        })
    }

    fn announce(&self, lane: u32, intents: Vec<Intent>) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async move {
            let names = self.caller.names(lane)?;
            let mut args = Vec::with_capacity(2 + 3 * intents.len());
            args.push(self.caller.instance());
            let timeout = self.caller.common.config.member_timeout;
            args.push(number(timeout.as_millis()));
            for intent in intents {
                let deadline = number(intent.deadline.as_millis());
                args.extend([bytes(&intent.id), deadline, intent.payload.into()]);
            }
            let keys = [&names.members, &names.intents];
            let answer = self
                .caller
                .call(lane, Kind::Intent, Script::Announce, &keys, &args);
            let known = scripts::flag(&answer.await?)?;
            if lane == 0 && !known {
                self.note.forgotten();
            }
            Ok(known)
        })
    }

    fn reconcile(&self, lane: u32, open: StillOpen) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let names = self.caller.names(lane)?;
            let keys = [&names.members, &names.intents];
            let args = self.caller.of_open(&open, false);
            let answer = self
                .caller
                .call(lane, Kind::Intent, Script::Leave, &keys, &args);
            scripts::flag(&answer.await?).map(|_| ())
        })
    }

    fn share(&self) {
        self.caller.common.shares.store(true, Relaxed);
    }

    fn watch(&self, sources: Arc<[String]>) {
        let mut watched = self.caller.common.sources.lock();
        // They only grow, and two calls may overtake each other.
        if sources.len() > watched.len() {
            *watched = sources;
        }
    }

    fn mark(&self, lane: u32, mark: Mark) -> BoxFuture<'_, Result<Marked, Error>> {
        Box::pin(async move {
            let names = self.caller.names(lane)?;
            let at = mark.at.unwrap_or_default();
            let (relay, lease) = match mark.lease {
                Some((relay, lease)) => (format!("{relay:016x}"), lease.as_millis()),
                None => (String::new(), 0),
            };
            let args = [
                mark.source.into(),
                number(at.epoch),
                number(at.reached.number),
                relay.into(),
                number(lease),
                number(at.sequence),
                number(at.reached.place),
            ];
            let keys = [&names.state];
            let call = self
                .caller
                .call(lane, Kind::Mark, Script::Mark, &keys, &args);
            scripts::marked(&call.await?)
        })
    }

    fn fetch(&self, lane: u32, fetch: Fetch) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(tier::fetch(&self.caller, lane, fetch))
    }

    fn put(&self, lane: u32, put: Put) -> BoxFuture<'_, Result<Stored, Error>> {
        Box::pin(tier::put(&self.caller, lane, put))
    }

    fn release(&self, lane: u32, name: Name, claim: ClaimId) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(tier::release(&self.caller, lane, name, claim))
    }

    fn set_keys(&self, keys: Vec<KeyPrint>) {
        self.note.set_keys(keys);
    }

    fn set_caches(&self, caches: &[CacheFormat]) -> bool {
        self.note.set(caches)
    }

    fn repair_subscription(&self, how: SubscriptionRepair) {
        for node in self.caller.routing.nodes() {
            node.subscription.ask(how.into());
        }
    }

    fn connected(&self) -> bool {
        let nodes = self.caller.routing.nodes();
        self.caller.routing.is_complete() && nodes.iter().all(|node| node.commands.connected())
    }

    fn away_since(&self, lane: u32) -> Option<Instant> {
        self.caller.routing.away_since(lane)
    }

    fn close(&self, open: StillOpen) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.task.lock().is_none() {
                return;
            }
            // A future that is dropped here can be followed by another.
            if self.connected() {
                call::leave(&self.caller, open).await;
            }
            self.caller.common.closing.send_replace(true);
            let task = self.task.lock().take();
            let Some(task) = task else {
                return;
            };
            let abort = task.abort_handle();
            if timeout(CLOSE_TIMEOUT, task).await.is_err() {
                // Which ends the tasks of its servers, too.
                abort.abort();
            }
        })
    }
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus")
            .field("nodes", &self.caller.routing.nodes())
            .field("connected", &self.connected())
            .finish_non_exhaustive()
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        // It leaves no lane: peers find this instance silent. The tasks end by themselves.
        self.caller.common.closing.send_replace(true);
    }
}

/// Returns bytes that no other instance, and no earlier life of this one, has put into an epoch.
fn entropy() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(Error::new(ErrorKind::Bus, "the system has no random bytes")),
    }
}
