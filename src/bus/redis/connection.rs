//! One connection to Redis.
//!
//! It is a fred client that never reconnects: when the connection ends, its owner opens another. fred's own reconnection is not used, because it keeps commands
//! in a queue while it is disconnected, calls itself connected during its first back-off, waits for
//! a black-holed peer when it is asked to reconnect, and forgets the subscription.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike, EventInterface, FredResult};
use fred::socket2::TcpKeepalive;
use fred::types::config::{
    Config, ConnectionConfig, Options, PerformanceConfig, Server, ServerConfig, TcpConfig,
};
use fred::types::{ClusterHash, CustomCommand, Message, RespVersion, Value};
use tokio::select;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::config::Times;
use super::dial::{Door, Lookup};
use super::logins::{Known, Logins};
use super::{refusal, values};
use crate::lock::Lock;
use crate::metrics::{Kind, Traffic};
use crate::url::{Address, Login, Place};

/// When the kernel begins to ask whether a silent peer still exists, and how often it asks again.
/// Keeps idle connections alive through NATs, which forget after some minutes at the earliest.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How to reach Redis.
#[derive(Clone)]
pub(super) struct Target {
    /// Without the server and the login, which are found out at each connect.
    config: Config,
    place: Place,
    door: Arc<Door>,
    lookup: Lookup,
    times: Times,
    logins: Arc<Logins>,
    /// The servers to reach are sentinels, which have a login of their own.
    sentinels: bool,
    /// The name that all certificates are to have.
    server_name: Option<String>,
    /// Names that servers announce beside their addresses.
    names: Arc<Lock<BTreeMap<Place, String>>>,
}

impl Target {
    /// The first of the address's places.
    pub(super) fn new(
        address: &Address,
        times: Times,
        logins: Arc<Logins>,
        lookup: Lookup,
    ) -> Self {
        let place = address.places[0].clone();
        let config = Config {
            // An error at the first attempt is reported at once, not retried inside fred.
            fail_fast: true,
            version: RespVersion::RESP3,
            database: address.database,
            ..Config::default()
        };
        Self {
            config,
            door: Arc::new(Door::new(place.clone(), lookup.clone())),
            place,
            lookup,
            times,
            logins,
            sentinels: false,
            server_name: None,
            names: Arc::default(),
        }
    }

    /// Another server, in the same way.
    pub(super) fn at(&self, place: &Place) -> Self {
        Self {
            place: place.clone(),
            door: Arc::new(Door::new(place.clone(), self.lookup.clone())),
            ..self.clone()
        }
    }

    /// To look another place up.
    pub(super) fn door_to(&self, place: &Place) -> Door {
        Door::new(place.clone(), self.lookup.clone())
    }

    /// In the same way, with the login for sentinels.
    pub(super) fn for_sentinels(mut self) -> Self {
        self.sentinels = true;
        self.config.database = None;
        self
    }

    #[cfg(feature = "tls")]
    pub(super) fn with_tls(
        mut self,
        connector: fred::types::config::TlsConnector,
        server_name: Option<String>,
    ) -> Self {
        self.config.tls = Some(connector.into());
        self.server_name = server_name;
        self
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// How long a command may take.
    pub(super) fn timeout(&self) -> Duration {
        self.times.command
    }

    pub(super) fn times(&self) -> Times {
        self.times
    }

    pub(super) fn logins(&self) -> &Arc<Logins> {
        &self.logins
    }

    /// The server that let us in is not the right one: the name may have another address.
    pub(super) fn is_wrong(&self) {
        self.door.is_wrong();
    }

    /// The names that servers announce beside their addresses, for their certificates.
    pub(super) fn announce(&self, names: BTreeMap<Place, String>) {
        *self.names.lock() = names;
    }

    /// The login for this server, of those that are known.
    pub(super) fn login<'a>(&self, known: &'a Known) -> &'a Login {
        if self.sentinels {
            &known.sentinels
        } else {
            &known.server
        }
    }

    /// The names that the server's certificate may have: what it announces, else where it is.
    fn server_names(&self) -> Vec<String> {
        if let Some(name) = &self.server_name {
            return vec![name.clone()];
        }
        let announced = self.names.lock().get(&self.place).cloned();
        announced
            .into_iter()
            .chain([self.place.host.clone()])
            .collect()
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the configuration: its Debug shows the password.
        f.debug_struct("Target")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// An open connection; dropping it closes it.
pub(super) struct Connection {
    client: Client,
    router: JoinHandle<FredResult<()>>,
    /// Of the login that it has.
    version: u64,
}

impl Connection {
    /// Connects, authenticates and selects the database; ends within the time for connecting.
    ///
    /// `pushes` is how many delivered messages may wait to be read from the receiver.
    pub(super) async fn open(
        target: &Target,
        traffic: &Traffic,
        pushes: usize,
    ) -> Result<(Self, broadcast::Receiver<Message>), FredError> {
        let deadline = Instant::now() + target.times.connect;
        let failed = |why: String| FredError::new(FredKind::IO, why);
        let login = timeout_at(deadline, target.logins.current()).await;
        let login = login.map_err(|_| failed("the login cannot be read in time".to_owned()))??;
        let address = match target.place.socket() {
            Some(_) => None,
            None => Some(target.door.address(deadline).await.map_err(failed)?),
        };
        let mut first = None;
        for name in target.server_names() {
            let opening = Self::open_at(target, (address, &name), &login, traffic, pushes);
            let late = || FredError::new(FredKind::Timeout, "");
            let opened = timeout_at(deadline, opening).await;
            let error = match opened.unwrap_or_else(|_| Err(late())) {
                Ok(open) => {
                    address.inspect(|address| target.door.is_good(*address));
                    return Ok(open);
                }
                Err(error) => error,
            };
            let wrong_name = error.details().contains("NotValidForName");
            first.get_or_insert_with(|| refusal::explain(target, address, &name, &error));
            if !wrong_name {
                break;
            }
        }
        target.logins.refused(login.version);
        address.inspect(|address| target.door.is_bad(*address));
        Err(first.unwrap_or_else(|| failed("there is no name for it".to_owned())))
    }

    async fn open_at(
        target: &Target,
        (address, name): (Option<SocketAddr>, &str),
        known: &Known,
        traffic: &Traffic,
        pushes: usize,
    ) -> Result<(Self, broadcast::Receiver<Message>), FredError> {
        let login = target.login(known);
        let (username, password) = (login.username.clone(), login.password.clone());
        let setup = values::setup(
            username.as_deref(),
            password.as_deref(),
            target.config.database,
        );
        let config = Config {
            server: server(&target.place, address, name),
            // fred sends a user without a password as none at all.
            username,
            password,
            ..target.config.clone()
        };
        let client = Client::new(
            config,
            Some(PerformanceConfig {
                default_command_timeout: target.times.command,
                broadcast_channel_capacity: pushes,
                ..PerformanceConfig::default()
            }),
            Some(connection_config(target.times.connect)),
            None,
        );
        // Before anything can be delivered: what came earlier would vanish.
        let messages = client.message_rx();
        let mut connection = Self {
            router: client.connect(),
            client,
            version: known.version,
        };
        traffic.sent(Kind::Connect, setup.0 + values::command([4]));
        let first = connection
            .client
            .with_options(&options(target.times.connect));
        select! {
            biased;
            end = &mut connection.router => return Err(reason(end)),
            pong = first.ping::<Value>(None) => pong?,
        };
        traffic.received(Kind::Connect, setup.1 + b"+PONG\r\n".len());
        Ok((connection, messages))
    }

    /// The version of the login that it has.
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
            "answers came out of step",
        ))
    }
}

/// Asks the server how many channels this connection is subscribed to: at least `channels`, unless
/// the `SUBSCRIBE` before it was refused.
pub(super) fn subscribed(
    client: &Client,
    target: &Target,
    traffic: &Arc<Traffic>,
    channels: usize,
) -> impl Future<Output = Result<(), FredError>> + Send + use<> {
    let client = client.with_options(&options(target.timeout()));
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
        Err(FredError::new(
            FredKind::Auth,
            "NOPERM the subscription was refused",
        ))
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

/// For fred, which is to look nothing up itself.
fn server(place: &Place, address: Option<SocketAddr>, name: &str) -> ServerConfig {
    let Some(address) = address else {
        return ServerConfig::new_unix_socket(place.host.clone());
    };
    let host = match address {
        SocketAddr::V6(six) if six.scope_id() != 0 => format!("{}%{}", six.ip(), six.scope_id()),
        _ => address.ip().to_string(),
    };
    #[cfg(feature = "tls")]
    let server = Server::new_with_tls(host, address.port(), Some(name.to_owned()));
    #[cfg(not(feature = "tls"))]
    let (server, _) = (Server::new(host, address.port()), name);
    ServerConfig::Centralized { server }
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
