//! One connection to Redis that carries commands.
//!
//! It is a fred client that never reconnects: when the connection ends, its owner opens another. fred's own reconnection is not used, because it keeps commands
//! in a queue while it is disconnected, calls itself connected during its first back-off, waits for
//! a black-holed peer when it is asked to reconnect, and forgets the subscription.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike, FredResult};
use fred::socket2::TcpKeepalive;
use fred::types::config::{ConnectionConfig, Options, PerformanceConfig, TcpConfig};
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::select;
use tokio::task::JoinHandle;

use super::logins::Known;
use super::reach::{Attempt, Connect};
use super::target::Target;
use super::values;
use crate::metrics::{Kind, Traffic};

/// When the kernel begins to ask whether a silent peer still exists, and how often it asks again.
/// Keeps idle connections alive through NATs, which forget after some minutes at the earliest.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Pushes that fred keeps, in each of eight queues: a connection of this kind subscribes to nothing.
const PUSHES: usize = 4;

/// An open connection; dropping it closes it.
pub(super) struct Connection {
    client: Client,
    router: JoinHandle<FredResult<()>>,
    /// The version of its login.
    version: u64,
}

impl Connection {
    /// Returns the version of the login that it has.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until the connection is lost. Not to be called again after it returned.
    pub(super) async fn lost(&mut self) -> FredError {
        reason((&mut self.router).await)
    }
}

impl Connect for Connection {
    /// And selects the database.
    async fn connect(
        target: &Target,
        attempt: Attempt<'_>,
        known: &Known,
        traffic: &Traffic,
    ) -> Result<Self, FredError> {
        let login = target.login(known);
        let (username, password) = (login.username.as_deref(), login.password.as_deref());
        let setup = values::setup(username, password, target.database());
        let client = Client::new(
            target.config(attempt.address, attempt.name, login),
            Some(PerformanceConfig {
                default_command_timeout: target.timeout(),
                broadcast_channel_capacity: PUSHES,
                ..PerformanceConfig::default()
            }),
            Some(connection_config(target.times().connect)),
            None,
        );
        let mut connection = Self {
            router: client.connect(),
            client,
            version: known.version,
        };
        traffic.sent(Kind::Connect, setup.0 + values::command([4]));
        let first = connection
            .client
            .with_options(&options(target.times().connect));
        select! {
            biased;
            end = &mut connection.router => return Err(reason(end)),
            pong = first.ping::<Value>(None) => pong?,
        };
        traffic.received(Kind::Connect, setup.1 + b"+PONG\r\n".len());
        Ok(connection)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The task owns the socket. Without this a dropped client leaks both.
        self.router.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("client", &self.client.id())
            .finish_non_exhaustive()
    }
}

/// A `PING` whose answer must be its own.
pub(super) fn ping(
    client: &Client,
    target: &Target,
    traffic: &Arc<Traffic>,
) -> impl Future<Output = Result<(), FredError>> + Send + use<> {
    let nonce = format!("{:016x}", fastrand::u64(..));
    let client = client.with_options(&options(target.timeout()));
    let traffic = Arc::clone(traffic);
    async move {
        traffic.sent(Kind::Connect, values::command([4, nonce.len()]));
        let answer: Value = client.ping(Some(nonce.clone())).await?;
        traffic.received(Kind::Connect, values::reply(&answer));
        if answer.as_bytes() == Some(nonce.as_bytes()) {
            return Ok(());
        }
        Err(FredError::new(
            FredKind::Protocol,
            "an answer belongs to no command that was sent",
        ))
    }
}

/// Sends what no script can: a refusal of what calls need while a slot is on the move. It concerns the
/// next command alone, and does nothing to that.
pub(super) async fn asking(client: &Client, target: &Target) -> Result<(), FredError> {
    let client = client.with_options(&options(target.timeout()));
    let command = CustomCommand::new_static("ASKING", ClusterHash::Random, false);
    let _: Value = client.custom(command, Vec::<Value>::new()).await?;
    Ok(())
}

/// What one command may take. A command is never sent twice by fred: the callers retry.
pub(super) fn options(timeout: Duration) -> Options {
    Options {
        max_attempts: Some(1),
        timeout: Some(timeout),
        ..Options::default()
    }
}

/// How the kernel asks whether a silent peer still exists.
pub(super) fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 3)
}

fn connection_config(timeout: Duration) -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: timeout,
        internal_command_timeout: timeout,
        max_command_attempts: 1,
        tcp: TcpConfig {
            nodelay: Some(true),
            keepalive: Some(keepalive()),
            ..TcpConfig::default()
        },
        ..ConnectionConfig::default()
    }
}

/// Why fred's connection task ended.
fn reason(end: Result<FredResult<()>, tokio::task::JoinError>) -> FredError {
    match end {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => FredError::new(FredKind::IO, "connection closed"),
    }
}
