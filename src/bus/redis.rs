//! The bus over Redis (fred): a single server, the primary that sentinels name, or a cluster.
//!
//! Two connections to each server in use: one carries commands, the other only listens, so that a
//! backlog of deliveries never delays an acknowledgement and a refused subscription never answers a
//! publish. Each is kept up by a task of its own. Everything that must happen at once is one script
//! (see the `.lua` files).
//!
//! - [`topology`]: on which server each lane lives, and who says so
//! - [`node`]: one server; [`commands`], [`subscription`]: its two connections and their care
//! - [`link`]: one connection, without any reconnecting of its own; [`backoff`]: when the next one is tried
//! - [`shared`]: how a call finds its lane's server; [`elsewhere`]: while a slot is on the move
//! - [`scripts`]: the scripts, their names and answers
//! - [`fault`], [`status`]: what went wrong, in words
//! - `inspect`: the server as operators look at it
//! - [`config`], [`url`], [`tls`]: where Redis is; [`wire`]: how many bytes things take

mod backoff;
mod commands;
mod config;
mod elsewhere;
mod fault;
#[cfg(feature = "cli")]
pub(crate) mod inspect;
mod link;
mod node;
mod scripts;
mod shared;
mod status;
mod subscription;
#[cfg(test)]
mod tests;
mod tier;
#[cfg(feature = "tls")]
mod tls;
mod topology;
mod url;
mod wire;

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

pub(crate) use self::config::RedisConfig;
use self::node::{Common, Node};
use self::scripts::{Beat, Names, Script};
use self::shared::Shared;
use self::topology::Topology;
use self::url::Address;
use crate::bus::shared::{ClaimId, Fetch, Fetched, Name, Put, Stored};
use crate::bus::{
    BoxFuture, Bus, BusConfig, BusEvent, EVENT_QUEUE, Intent, IntentId, JOURNAL_PAGE, Journal,
    Known, Mend, Position, StillOpen, Verified,
};
use crate::lock::Lock;
use crate::metrics::Kind;
use crate::{Error, ErrorKind};

/// Calls of verify.lua that one verification makes while dead members are left, each settling up to
/// 512 intents. What is left then (8,192 writes died at once) waits for the next verification.
const VERIFY_ROUNDS: usize = 16;

/// How long the tasks may take to end: they only have to drop their connections.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The bus of one instance.
pub(crate) struct RedisBus {
    shared: Arc<Shared>,
    task: Lock<Option<JoinHandle<()>>>,
}

impl RedisBus {
    /// Begins to connect and returns at once; needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// `Settings`, if the URL or a TLS file is no good.
    pub(crate) fn start(
        config: BusConfig,
        redis: &RedisConfig,
    ) -> Result<(Arc<Self>, mpsc::Receiver<BusEvent>), Error> {
        let address = Address::parse(&redis.url)?;
        let target = redis.target(&address)?;
        let (sharded, database) = (address.is_cluster(), address.database_of_channels());
        let names = (0..config.lanes).map(|lane| Names::new(&config.namespace, lane, database));
        let common = Arc::new(Common::new(names.collect(), config, sharded));
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let mut tasks = JoinSet::new();
        let topology = Arc::new(Topology::new(common.clone(), &address, target));
        if !topology.moves() {
            topology.settle(&address.places[0], &mut tasks, &events);
        }
        let routing = topology::run(Arc::clone(&topology), tasks, events);
        let task = common
            .config
            .tasks
            .spawn_alone(&Handle::current(), "routing", routing);
        let shared = Arc::new(Shared {
            common,
            topology,
            timeout: redis.command_timeout,
        });
        Ok((
            Arc::new(Self {
                shared,
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
        let mut changes = self.shared.common.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let Some(missing) = self.shared.missing() else {
                return Ok(());
            };
            if fault::is_permanent(&missing) {
                return Err(missing);
            }
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return Err(missing);
            }
        }
    }

    /// Whether the subscription of every lane is proven.
    #[cfg(feature = "cli")]
    pub(crate) fn subscribed(&self) -> bool {
        let nodes = self.shared.topology.nodes();
        let proven = |node: &Arc<Node>| node.subscription.status.borrow().is_up();
        self.shared.topology.is_complete() && nodes.iter().all(proven)
    }

    fn names(&self, lane: u32) -> Result<&Names, Error> {
        let names = &self.shared.common.names;
        let lanes = names.len();
        names.get(lane as usize).ok_or_else(|| {
            Error::new(
                ErrorKind::Lanes,
                format!("there is no lane {lane}: this instance has {lanes}"),
            )
        })
    }

    fn instance(&self) -> Value {
        bytes(&self.shared.common.config.instance.to_be_bytes())
    }

    async fn call(
        &self,
        lane: u32,
        kind: Kind,
        script: Script,
        keys: &[&fred::bytes_utils::Str],
        args: &[Value],
    ) -> Result<Value, Error> {
        let call = self.shared.call(lane, kind, script, keys, args);
        Ok(call.await?.1)
    }

    /// One call of verify.lua, and the server that answered.
    async fn beat(&self, lane: u32, known: Known) -> Result<(Arc<Node>, Beat), Error> {
        let names = self.names(lane)?;
        let config = &self.shared.common.config;
        let mut keys = vec![&names.state, &names.journal, &names.members, &names.intents];
        let shares = self.shared.common.shares.load(Relaxed);
        if shares {
            keys.extend([&names.record, &names.formats]);
        }
        let lowest = known.lowest();
        let args = [
            self.instance(),
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
        let call = self
            .shared
            .call(lane, Kind::Verify, Script::Verify, &keys, &args);
        let (node, answer) = call.await?;
        Ok((node, scripts::beat(&answer)?))
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
            let names = self.names(lane)?;
            let mut keys = vec![&names.state, &names.journal];
            if !clears.is_empty() {
                keys.extend([&names.members, &names.intents]);
            }
            if self.shared.common.shares.load(Relaxed) {
                keys.extend([&names.record, &names.formats]);
            }
            let mut args = vec![
                names.channel_end().into(),
                number(self.shared.common.config.journal),
                payload.into(),
            ];
            args.extend(clears.iter().map(|id| bytes(id)));
            scripts::position(
                &self
                    .call(lane, Kind::Publish, Script::Publish, &keys, &args)
                    .await?,
            )
        })
    }

    fn verify_from(&self, lane: u32, known: Known) -> BoxFuture<'_, Result<Verified, Error>> {
        Box::pin(async move {
            let (mut node, mut beat) = self.beat(lane, known).await?;
            let (member, mut recovered) = (beat.known, beat.recovered);
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
            self.shared.still_the_primary(lane, &node).await?;
            Ok(Verified {
                head: beat.head,
                known: member,
                recovered,
            })
        })
    }

    fn journal(&self, lane: u32, after: u64) -> BoxFuture<'_, Result<Journal, Error>> {
        Box::pin(async move {
            let names = self.names(lane)?;
            let keys = [&names.state, &names.journal];
            let args = [number(after), number(JOURNAL_PAGE)];
            scripts::journal(
                &self
                    .call(lane, Kind::Repair, Script::Journal, &keys, &args)
                    .await?,
            )
        })
    }

    fn record(&self, lane: u32, intents: Vec<Intent>) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async move {
            let names = self.names(lane)?;
            let mut args = Vec::with_capacity(2 + 3 * intents.len());
            args.push(self.instance());
            let timeout = self.shared.common.config.member_timeout;
            args.push(number(timeout.as_millis()));
            for intent in intents {
                let deadline = number(intent.deadline.as_millis());
                args.extend([bytes(&intent.id), deadline, intent.payload.into()]);
            }
            let keys = [&names.members, &names.intents];
            scripts::flag(
                &self
                    .call(lane, Kind::Intent, Script::Record, &keys, &args)
                    .await?,
            )
        })
    }

    fn reconcile(&self, lane: u32, open: StillOpen) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let names = self.names(lane)?;
            let keys = [&names.members, &names.intents];
            let args = self.shared.of_open(&open, false);
            let answer = self.call(lane, Kind::Intent, Script::Goodbye, &keys, &args);
            scripts::flag(&answer.await?).map(|_| ())
        })
    }

    fn share(&self) {
        self.shared.common.shares.store(true, Relaxed);
    }

    fn fetch(&self, lane: u32, fetch: Fetch) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(self.fetch_value(lane, fetch))
    }

    fn put(&self, lane: u32, put: Put) -> BoxFuture<'_, Result<Stored, Error>> {
        Box::pin(self.put_value(lane, put))
    }

    fn release(&self, lane: u32, name: Name, claim: ClaimId) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.release_claim(lane, name, claim))
    }

    fn mend(&self, how: Mend) {
        for node in self.shared.topology.nodes() {
            node.subscription.ask(how.into());
        }
    }

    fn connected(&self) -> bool {
        let nodes = self.shared.topology.nodes();
        self.shared.topology.is_complete() && nodes.iter().all(|node| node.commands.connected())
    }

    fn away_since(&self, lane: u32) -> Option<Instant> {
        self.shared.topology.away_since(lane)
    }

    fn close(&self, open: StillOpen) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.task.lock().is_none() {
                return;
            }
            // A future that is dropped here can be followed by another.
            if self.connected() {
                shared::goodbye(&self.shared, open).await;
            }
            self.shared.common.closing.send_replace(true);
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
            .field("nodes", &self.shared.topology.nodes())
            .field("connected", &self.connected())
            .finish_non_exhaustive()
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        // Without a goodbye: peers find this instance silent. The tasks end by themselves.
        self.shared.common.closing.send_replace(true);
    }
}

/// What no other instance, and no earlier life of this one, has put into an epoch.
fn entropy() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(Error::new(ErrorKind::Bus, "the system has no random bytes")),
    }
}

fn bytes(bytes: &[u8]) -> Value {
    Bytes::copy_from_slice(bytes).into()
}

/// In decimal text, as Redis takes numbers.
fn number(n: impl ToString) -> Value {
    n.to_string().into()
}
