//! The bus over Redis (fred), a single server.
//!
//! Two connections: one carries commands, the other only listens, so that a backlog of deliveries never
//! delays an acknowledgement and a refused subscription never answers a publish. Each is kept up
//! by a task of its own. Everything that must happen at once is one script (see the `.lua` files).
//!
//! - [`commands`], [`subscription`]: the two connections and their care
//! - [`link`]: one connection, without any reconnecting of its own; [`backoff`]: when the next one is tried
//! - [`scripts`]: the scripts, their names and answers
//! - [`fault`], [`status`]: what went wrong, in words
//! - `inspect`: the server as operators look at it
//! - [`config`], [`url`], [`tls`]: where Redis is; [`wire`]: how many bytes things take

mod backoff;
mod commands;
mod config;
mod fault;
#[cfg(feature = "cli")]
pub(crate) mod inspect;
mod link;
mod scripts;
mod status;
mod subscription;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;
mod url;
mod wire;

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use self::commands::Commands;
pub(crate) use self::config::RedisConfig;
use self::fault::LogGate;
use self::link::Target;
use self::scripts::{Beat, Names, Script};
use self::subscription::Subscription;
use self::url::Address;
use crate::bus::{
    BoxFuture, Bus, BusConfig, BusEvent, EVENT_QUEUE, Intent, IntentId, JOURNAL_PAGE, Journal,
    Mend, Position, Verified,
};
use crate::metrics::Kind;
use crate::{Error, ErrorKind};

/// Calls of verify.lua that one verification makes while dead members are left, each settling up to
/// 512 intents. What is left then (8,192 writes died at once) waits for the next verification.
const VERIFY_ROUNDS: usize = 16;

/// Goodbyes under way at once when the bus closes.
const GOODBYES: usize = 64;

/// How long the two tasks may take to end: they only have to drop their connections.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The bus of one instance.
pub(crate) struct RedisBus {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What the connections, their tasks and the callers share.
#[derive(Debug)]
struct Shared {
    config: BusConfig,
    target: Target,
    /// By lane.
    names: Vec<Names>,
    commands: Commands,
    subscription: Subscription,
    closing: watch::Sender<bool>,
    losses: LogGate,
    refusals: LogGate,
}

impl Shared {
    /// Waits until the bus is closed.
    async fn closed(&self) {
        // The sender lives as long as `self`.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }
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
        let database = address.database.unwrap_or(0);
        let names = (0..config.lanes).map(|lane| Names::new(&config.namespace, lane, database));
        let shared = Arc::new(Shared {
            names: names.collect(),
            config,
            target,
            commands: Commands::default(),
            subscription: Subscription::default(),
            closing: watch::Sender::default(),
            losses: LogGate::default(),
            refusals: LogGate::default(),
        });
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let tasks = vec![
            tokio::spawn(commands::run(Arc::clone(&shared))),
            tokio::spawn(subscription::run(Arc::clone(&shared), events)),
        ];
        Ok((
            Arc::new(Self {
                shared,
                tasks: Mutex::new(tasks),
            }),
            receiver,
        ))
    }

    /// Waits until commands can be sent and the subscription is proven.
    ///
    /// # Errors
    ///
    /// `Auth` or `Settings` as soon as Redis refuses the login, the database or a right that is
    /// needed; `Bus` after `wait`. The bus goes on trying in either case.
    pub(crate) async fn ready(&self, wait: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + wait;
        let mut commands = self.shared.commands.status.subscribe();
        let mut subscription = self.shared.subscription.status.subscribe();
        loop {
            let (one, other) = (
                commands.borrow_and_update().clone(),
                subscription.borrow_and_update().clone(),
            );
            if let Some(error) = one.permanent().or_else(|| other.permanent()) {
                return Err(error);
            }
            if one.is_up() && other.is_up() {
                return Ok(());
            }
            let change = async {
                tokio::select! {
                    _ = commands.changed() => {}
                    _ = subscription.changed() => {}
                }
            };
            if timeout_at(deadline, change).await.is_err() {
                return Err(if one.is_up() {
                    other.error()
                } else {
                    one.error()
                });
            }
        }
    }

    fn names(&self, lane: u32) -> Result<&Names, Error> {
        let lanes = self.shared.names.len();
        self.shared.names.get(lane as usize).ok_or_else(|| {
            Error::new(
                ErrorKind::Lanes,
                format!("there is no lane {lane}: this instance has {lanes}"),
            )
        })
    }

    fn instance(&self) -> Value {
        bytes(&self.shared.config.instance.to_be_bytes())
    }

    async fn call(
        &self,
        kind: Kind,
        script: Script,
        keys: &[&fred::bytes_utils::Str],
        args: &[Value],
    ) -> Result<Value, Error> {
        self.shared
            .commands
            .call(&self.shared, kind, script, keys, args)
            .await
    }

    /// One call of verify.lua.
    async fn beat(&self, lane: u32) -> Result<Beat, Error> {
        let names = self.names(lane)?;
        let config = &self.shared.config;
        let keys = [&names.state, &names.journal, &names.members, &names.intents];
        let args = [
            self.instance(),
            number(config.member_timeout.as_millis()),
            number(config.lanes),
            number(config.journal),
            names.channel.clone().into(),
        ];
        scripts::beat(
            &self
                .call(Kind::Verify, Script::Verify, &keys, &args)
                .await?,
        )
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
            let mut args = vec![
                names.channel.clone().into(),
                number(self.shared.config.journal),
                self.instance(),
                payload.into(),
            ];
            args.extend(clears.iter().map(|id| bytes(id)));
            scripts::position(
                &self
                    .call(Kind::Publish, Script::Publish, &keys, &args)
                    .await?,
            )
        })
    }

    fn verify(&self, lane: u32) -> BoxFuture<'_, Result<Verified, Error>> {
        Box::pin(async move {
            let mut beat = self.beat(lane).await?;
            let (known, mut recovered) = (beat.known, beat.recovered);
            for _ in 1..VERIFY_ROUNDS {
                if !beat.more {
                    break;
                }
                beat = self.beat(lane).await?;
                recovered = recovered.saturating_add(beat.recovered);
            }
            if beat.more {
                let message =
                    format!("{recovered} writes of dead instances were finished, more are left");
                return Err(Error::new(ErrorKind::Bus, message));
            }
            Ok(Verified {
                head: beat.head,
                known,
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
                    .call(Kind::Repair, Script::Journal, &keys, &args)
                    .await?,
            )
        })
    }

    fn record(&self, lane: u32, intents: Vec<Intent>) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async move {
            let names = self.names(lane)?;
            let mut args = Vec::with_capacity(1 + 3 * intents.len());
            args.push(self.instance());
            for intent in intents {
                let deadline = number(intent.deadline.as_millis());
                args.extend([bytes(&intent.id), deadline, intent.payload.into()]);
            }
            let keys = [&names.members, &names.intents];
            scripts::flag(
                &self
                    .call(Kind::Intent, Script::Record, &keys, &args)
                    .await?,
            )
        })
    }

    fn mend(&self, how: Mend) {
        self.shared.subscription.ask(how.into());
    }

    fn connected(&self) -> bool {
        self.shared.commands.connected()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let tasks = mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            if tasks.is_empty() {
                return;
            }
            if self.connected() {
                goodbye(&self.shared).await;
            }
            self.shared.closing.send_replace(true);
            for task in tasks {
                let abort = task.abort_handle();
                if timeout(CLOSE_TIMEOUT, task).await.is_err() {
                    abort.abort();
                }
            }
        })
    }
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus")
            .field("target", &self.shared.target)
            .field("connected", &self.connected())
            .finish_non_exhaustive()
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        // Without a goodbye: peers find this instance silent. The tasks end by themselves.
        self.shared.closing.send_replace(true);
    }
}

/// Leaves every lane. Ends within the command timeout: who cannot leave is found silent instead.
async fn goodbye(shared: &Arc<Shared>) {
    let all = async {
        let mut leaving = JoinSet::new();
        for lane in 0..shared.names.len() {
            if leaving.len() >= GOODBYES {
                leaving.join_next().await;
            }
            let shared = Arc::clone(shared);
            leaving.spawn(async move {
                let names = &shared.names[lane];
                let keys = [&names.members, &names.intents];
                let args = [bytes(&shared.config.instance.to_be_bytes())];
                let _ = shared
                    .commands
                    .call(&shared, Kind::Connect, Script::Goodbye, &keys, &args)
                    .await;
            });
        }
        while leaving.join_next().await.is_some() {}
    };
    let _ = timeout(shared.target.timeout(), all).await;
}

fn bytes(bytes: &[u8]) -> Value {
    Bytes::copy_from_slice(bytes).into()
}

/// In decimal text, as Redis takes numbers.
fn number(n: impl ToString) -> Value {
    n.to_string().into()
}
