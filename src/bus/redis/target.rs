//! How to reach one server: its place and addresses, the login, the names of its certificate.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fred::types::RespVersion;
use fred::types::config::{Config, Server, ServerConfig};

use super::dial::{Door, Lookup};
use super::logins::{Known, Logins};
use crate::lock::Lock;
use crate::url::{Address, Login, Place};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// A connection, from the lookup of the name to the first answer: some eight round trips with TLS.
    pub(crate) connect: Duration,
    /// Any command.
    pub(crate) command: Duration,
    /// Silence after which a connection is asked for a sign of life.
    pub(crate) keepalive: Duration,
}

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

    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> Option<&fred::types::config::TlsConnector> {
        self.config.tls.as_ref().map(|tls| &tls.connector)
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Returns how long a command may take.
    pub(super) fn timeout(&self) -> Duration {
        self.times.command
    }

    pub(super) fn times(&self) -> Times {
        self.times
    }

    pub(super) fn logins(&self) -> &Arc<Logins> {
        &self.logins
    }

    /// The server that accepted the login is not the right one: the name may have another address.
    pub(super) fn is_wrong(&self) {
        self.door.is_wrong();
    }

    /// The names that servers announce beside their addresses, for their certificates.
    pub(super) fn announce(&self, names: BTreeMap<Place, String>) {
        *self.names.lock() = names;
    }

    /// Returns the login for this server, of those that are known.
    pub(super) fn login<'a>(&self, known: &'a Known) -> &'a Login {
        if self.sentinels {
            &known.sentinels
        } else {
            &known.server
        }
    }

    /// Returns the user that it connects as.
    pub(super) fn user(&self) -> String {
        let user = self.logins.user(self.sentinels);
        user.unwrap_or_else(|| "default".to_owned())
    }

    pub(super) fn door(&self) -> &Door {
        &self.door
    }

    pub(super) fn database(&self) -> Option<u8> {
        self.config.database
    }

    /// What fred connects to, and as whom.
    pub(super) fn config(&self, address: Option<SocketAddr>, name: &str, login: &Login) -> Config {
        Config {
            server: server(&self.place, address, name),
            username: login.username.clone(),
            password: login.password.clone(),
            ..self.config.clone()
        }
    }

    /// Returns the names that the server's certificate may have: what it announces, else where it is.
    pub(super) fn server_names(&self) -> Vec<String> {
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
