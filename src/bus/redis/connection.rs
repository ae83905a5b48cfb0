//! One connection to Redis.
//!
//! It is a fred client that never reconnects: when the connection ends, its owner opens another. fred's own reconnection is not used, because it keeps commands
//! in a queue while it is disconnected, calls itself connected during its first back-off, waits for
//! a black-holed peer when it is asked to reconnect, and forgets the subscription.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike, EventInterface, FredResult};
use fred::socket2::TcpKeepalive;
use fred::types::config::{
    Config, ConnectionConfig, Options, PerformanceConfig, ServerConfig, TcpConfig,
};
use fred::types::{ClusterHash, CustomCommand, Message, RespVersion, Value};
use tokio::select;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::values;
use crate::metrics::{Kind, Traffic};
use crate::url::{Address, Login, Place};

/// When the kernel begins to ask whether a silent peer still exists, and how often it asks again.
/// Keeps idle connections alive through NATs, which forget after some minutes at the earliest.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A subscription was refused, and the refusal was lost.
pub(super) const UNSUBSCRIBED: &str = "NOPERM the subscription was refused";

/// How to reach Redis.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
    timeout: Duration,
    /// Bytes that connecting sends and receives.
    setup: (usize, usize),
}

impl Target {
    /// The first of the address's places, as the user that it names.
    pub(super) fn new(address: &Address, timeout: Duration) -> Self {
        let first = &address.places[0];
        let config = Config {
            // An error at the first attempt is reported at once, not retried inside fred.
            fail_fast: true,
            server: ServerConfig::new_centralized(&first.host, first.port),
            version: RespVersion::RESP3,
            ..Config::default()
        };
        let target = Self {
            config,
            timeout,
            setup: (0, 0),
        };
        target.with_login(&address.login, address.database)
    }

    /// Another server, in the same way.
    pub(super) fn at(&self, place: &Place) -> Self {
        let mut target = self.clone();
        target.config.server = ServerConfig::new_centralized(&place.host, place.port);
        target
    }

    /// In the same way, with another login.
    pub(super) fn with_login(mut self, login: &Login, database: Option<u8>) -> Self {
        let (username, password) = (login.username.as_deref(), login.password.as_deref());
        self.setup = values::setup(username, password, database);
        self.config.username = login.username.clone();
        self.config.password = login.password.clone();
        self.config.database = database;
        self
    }

    #[cfg(feature = "tls")]
    pub(super) fn with_tls(mut self, connector: fred::types::config::TlsConnector) -> Self {
        self.config.tls = Some(connector.into());
        self
    }

    /// The user that it connects as.
    pub(super) fn user(&self) -> &str {
        self.config.username.as_deref().unwrap_or("default")
    }

    /// How long a command may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the configuration: its Debug shows the password.
        f.debug_struct("Target")
            .field("server", &self.config.server)
            .finish_non_exhaustive()
    }
}

/// An open connection; dropping it closes it.
pub(super) struct Connection {
    client: Client,
    router: JoinHandle<FredResult<()>>,
}

impl Connection {
    /// Connects, authenticates and selects the database; ends within twice the command timeout.
    ///
    /// `pushes` is how many delivered messages may wait to be read from the receiver.
    pub(super) async fn open(
        target: &Target,
        traffic: &Traffic,
        pushes: usize,
    ) -> Result<(Self, broadcast::Receiver<Message>), FredError> {
        let client = Client::new(
            target.config.clone(),
            Some(PerformanceConfig {
                default_command_timeout: target.timeout,
                broadcast_channel_capacity: pushes,
                ..PerformanceConfig::default()
            }),
            Some(connection_config(target.timeout)),
            None,
        );
        // Before anything can be delivered: what came earlier would vanish.
        let messages = client.message_rx();
        let mut connection = Self {
            router: client.connect(),
            client,
        };
        traffic.sent(Kind::Connect, target.setup.0 + values::command([4]));
        let first = connection.client.with_options(&options(target.timeout * 2));
        select! {
            biased;
            end = &mut connection.router => return Err(reason(end)),
            pong = first.ping::<Value>(None) => pong?,
        };
        traffic.received(Kind::Connect, target.setup.1 + b"+PONG\r\n".len());
        Ok((connection, messages))
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until the connection is lost. Not to be called again after it returned.
    pub(super) async fn lost(&mut self) -> FredError {
        reason((&mut self.router).await)
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

/// A `PING` whose answer must be its own: after a refused `SUBSCRIBE` it would be the refusal.
pub(super) fn ping(
    client: &Client,
    target: &Target,
    traffic: &Arc<Traffic>,
) -> impl Future<Output = Result<(), FredError>> + Send + use<> {
    let nonce = format!("{:016x}", fastrand::u64(..));
    let client = client.with_options(&options(target.timeout));
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
            "answers came out of step",
        ))
    }
}

/// Sends what no script can: a refusal of what calls need while a slot is on the move. It concerns the
/// next command alone, and does nothing to that.
pub(super) async fn asking(client: &Client, target: &Target) -> Result<(), FredError> {
    let client = client.with_options(&options(target.timeout));
    let command = CustomCommand::new_static("ASKING", ClusterHash::Random, false);
    let _: Value = client.custom(command, Vec::<Value>::new()).await?;
    Ok(())
}

/// Asks the server how many channels this connection is subscribed to: at least `channels`, unless
/// the `SUBSCRIBE` before it was refused.
pub(super) fn subscribed(
    client: &Client,
    target: &Target,
    traffic: &Arc<Traffic>,
    channels: usize,
) -> impl Future<Output = Result<(), FredError>> + Send + use<> {
    let client = client.with_options(&options(target.timeout));
    let traffic = Arc::clone(traffic);
    async move {
        traffic.sent(
            Kind::Connect,
            values::command(["CLIENT".len(), "INFO".len()]),
        );
        let command = CustomCommand::new_static("CLIENT", ClusterHash::Random, false);
        let answer: Value = client.custom(command, vec!["INFO"]).await?;
        traffic.received(Kind::Connect, values::reply(&answer));
        let text = answer.as_str().unwrap_or_default();
        let count = text.split(' ').find_map(|field| field.strip_prefix("sub="));
        let Some(count) = count.and_then(|count| count.parse::<usize>().ok()) else {
            return Err(FredError::new(
                FredKind::Protocol,
                "answers came out of step",
            ));
        };
        if count >= channels {
            return Ok(());
        }
        Err(FredError::new(FredKind::Auth, UNSUBSCRIBED))
    }
}

/// What one command may take. A command is never sent twice by fred: the callers retry.
pub(super) fn options(timeout: Duration) -> Options {
    Options {
        max_attempts: Some(1),
        timeout: Some(timeout),
        ..Options::default()
    }
}

fn connection_config(timeout: Duration) -> ConnectionConfig {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 3);
    ConnectionConfig {
        connection_timeout: timeout,
        internal_command_timeout: timeout,
        max_command_attempts: 1,
        tcp: TcpConfig {
            nodelay: Some(true),
            keepalive: Some(keepalive),
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
