//! The Redis URL: the only parser, for the settings and for the bus.
//!
//! ```text
//! redis[s]://[user:password@]host[:port][/database]
//! redis[s]-sentinel://[user:password@]host[:port],...[/database]?service=name
//!                     [&sentinel_user=name][&sentinel_password=password]
//! redis[s]-cluster://[user:password@]host[:port],...[/0]
//! unix://[user:password@]/path/of/the/socket[?db=number][&user=name][&password=password]
//! ```
//!
//! `valkey` and `valkeys` may stand for `redis` and `rediss`, `redis+unix` and `valkey+unix` for `unix`, and
//! its options may be called `username` and `pass`, as other clients have them. Parsed here and not by fred, so that no
//! error shows the password.

#![cfg_attr(
    not(feature = "redis"),
    allow(dead_code, reason = "only the bus over Redis needs the parts")
)]

use std::fmt;
use std::path::Path;

use crate::{Error, ErrorKind};

const DEFAULT_PORT: u16 = 6379;
const DEFAULT_SENTINEL_PORT: u16 = 26379;

/// Hosts that one URL may name. Deployments have 3 to 7 sentinels; a cluster's other nodes are found.
const MOST_PLACES: usize = 64;

/// Schemes of a socket of this machine.
const SOCKET: [&str; 3] = ["unix", "redis+unix", "valkey+unix"];

/// Longest path of a socket: what systems have room for in an address.
const LONGEST_SOCKET: usize = 103;

const SCHEMES: &str = "the scheme must be redis, redis-sentinel or redis-cluster, with TLS rediss, \
     rediss-sentinel or rediss-cluster (or the same with valkey and valkeys), or unix for a socket";

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Place {
    /// Returns the path of a socket of this machine, which stands for a host: no host's name has a slash.
    pub(crate) fn socket(&self) -> Option<&Path> {
        self.host.starts_with('/').then(|| Path::new(&self.host))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.socket().is_some() {
            f.write_str(&self.host)
        } else if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What the places of a URL are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deployment {
    /// One server.
    Single,
    /// Sentinels, which know the primary of the service.
    Sentinel { service: String, login: Login },
    /// Some nodes of a cluster.
    Cluster,
}

/// The login at a server.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "(set)"))
            .finish()
    }
}

/// What is wrong with a login that has a user only, and no source of a password.
pub(crate) const NO_PASSWORD: &str = "names a user but no password (user:password@, or :password@ without a user); \
     a password may also be in a file, which UNSTALE_REDIS_PASSWORD_FILE names";

/// Where Redis is, and the login there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) tls: bool,
    pub(crate) deployment: Deployment,
    /// At least one.
    pub(crate) places: Vec<Place>,
    pub(crate) login: Login,
    /// `None` where the URL names none; then it is 0.
    pub(crate) database: Option<u8>,
}

/// Why a URL is not valid: nothing of its text but the scheme, which is no secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid(String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Invalid> for Error {
    fn from(why: Invalid) -> Self {
        let message = format!("the Redis URL is not valid: {why}");
        Self::new(ErrorKind::Settings, message)
    }
}

/// What the places of a URL are, by its scheme.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    Sentinel,
    Cluster,
}

impl Address {
    /// Parses a URL. White space around it is ignored: a file that holds it ends with a line feed.
    pub(crate) fn parse(url: &str) -> Result<Self, Invalid> {
        let (scheme, rest) = url.trim().split_once("://").ok_or_else(|| {
            invalid("must begin with redis:// or rediss://, as in redis://127.0.0.1:6379")
        })?;
        if SOCKET.contains(&&*scheme.to_ascii_lowercase()) {
            return socket(rest);
        }
        let (kind, tls) = scheme_of(scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        if tail.contains('@') {
            return Err(invalid(
                "percent-encode any / ? # and @ in the user name and the password, as %2F %3F %23 %40",
            ));
        }
        if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(invalid("must not contain white space; percent-encode it"));
        }
        let (tail, query) = match tail.split_once('?') {
            Some((tail, query)) if kind == Kind::Sentinel => (tail, query),
            _ => (tail, ""),
        };
        if tail.contains(['?', '#']) || query.contains('#') {
            return Err(invalid(
                "must end after the host, the port and the database; it has no options (in a password \
                 a ? is written as %3F, a # as %23)",
            ));
        }
        // A password may contain an @, so the last one counts.
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (credentials(login)?, hosts),
            None => (Login::default(), authority),
        };
        let places = places(hosts, kind)?;
        let database = database(tail.strip_prefix('/').unwrap_or_default())?;
        let deployment = match kind {
            Kind::Single => Deployment::Single,
            Kind::Cluster if database.is_some_and(|database| database != 0) => {
                return Err(invalid("a cluster has only database 0"));
            }
            Kind::Cluster => Deployment::Cluster,
            Kind::Sentinel => service(query)?,
        };
        Ok(Self {
            tls,
            deployment,
            places,
            login,
            database,
        })
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.deployment == Deployment::Cluster
    }

    /// Returns what the channels' names end with; a cluster has no databases.
    pub(crate) fn database_of_channels(&self) -> Option<u8> {
        (!self.is_cluster()).then(|| self.database.unwrap_or(0))
    }
}

/// Returns the address that `[user:password@]/path[?options]` is.
fn socket(rest: &str) -> Result<Address, Invalid> {
    if rest
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || c == '#')
    {
        return Err(invalid(
            "must contain neither white space nor #; percent-encode them",
        ));
    }
    let start = rest.find('/').unwrap_or(rest.len());
    let (user, path) = rest.split_at(start);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut login = match user.strip_suffix('@') {
        Some(user) => credentials(user)?,
        None if user.is_empty() => Login::default(),
        None => {
            return Err(invalid(
                "must name the socket by its whole path, as in unix:///run/redis/redis.sock",
            ));
        }
    };
    let host = decode(path)?;
    if host.len() < 2 || host.len() > LONGEST_SOCKET || host.contains('\0') {
        return Err(invalid(format!(
            "must have the path of a socket, of at most {LONGEST_SOCKET} bytes, as in \
             unix:///run/redis/redis.sock"
        )));
    }
    let mut number = None;
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let field = match name {
            "db" => &mut number,
            "user" | "username" => &mut login.username,
            "password" | "pass" => &mut login.password,
            _ => {
                return Err(invalid(
                    "after the ? it may have db, user and password, nothing else",
                ));
            }
        };
        if field.replace(decode(value)?).is_some() {
            return Err(invalid("an option is given twice"));
        }
    }
    Ok(Address {
        tls: false,
        deployment: Deployment::Single,
        places: vec![Place { host, port: 0 }],
        login,
        database: database(number.as_deref().unwrap_or_default())?,
    })
}

/// Returns what the scheme says: what the places are, and whether they speak TLS.
fn scheme_of(scheme: &str) -> Result<(Kind, bool), Invalid> {
    let scheme = scheme.to_ascii_lowercase();
    let (family, kind) = scheme.split_once('-').unwrap_or((&scheme, ""));
    let tls = match family {
        "redis" | "valkey" => Some(false),
        "rediss" | "valkeys" => Some(true),
        _ => None,
    };
    let kind = match kind {
        "" => Some(Kind::Single),
        "sentinel" => Some(Kind::Sentinel),
        "cluster" => Some(Kind::Cluster),
        _ => None,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    kind.zip(tls).ok_or_else(|| {
        if scheme.chars().all(plain) {
            invalid(format!("{SCHEMES}: it is {scheme}://"))
        } else {
            invalid(SCHEMES)
        }
    })
}

/// Hosts with ports, separated by commas where there may be several.
fn places(hosts: &str, kind: Kind) -> Result<Vec<Place>, Invalid> {
    let default_port = match kind {
        Kind::Single | Kind::Cluster => DEFAULT_PORT,
        Kind::Sentinel => DEFAULT_SENTINEL_PORT,
    };
    let texts: Vec<&str> = hosts.split(',').collect();
    if texts.len() > 1 && kind == Kind::Single {
        return Err(invalid(
            "must not name several hosts, which is for redis-sentinel:// and redis-cluster://",
        ));
    }
    if texts.len() > MOST_PLACES {
        return Err(invalid(format!(
            "must not name more than {MOST_PLACES} hosts"
        )));
    }
    let mut places = Vec::with_capacity(texts.len());
    for text in texts {
        let place = host_and_port(text, default_port)?;
        if places.contains(&place) {
            // It would be counted twice.
            return Err(invalid("must not name one host twice"));
        }
        places.push(place);
    }
    Ok(places)
}

/// Returns the options of a Sentinel's URL.
fn service(query: &str) -> Result<Deployment, Invalid> {
    let (mut service, mut login) = (None, Login::default());
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let field = match name {
            "service" => &mut service,
            "sentinel_user" => &mut login.username,
            "sentinel_password" => &mut login.password,
            _ => {
                return Err(invalid(
                    "after the ? it may have service, sentinel_user and sentinel_password, nothing else",
                ));
            }
        };
        if field.replace(decode(value)?).is_some() {
            return Err(invalid("an option after the ? is given twice"));
        }
    }
    if login.username.is_some() && login.password.is_none() {
        return Err(invalid("has sentinel_user and no sentinel_password"));
    }
    let service = service
        .filter(|service| !service.is_empty())
        .ok_or_else(|| {
            invalid(
                "must name what the sentinels watch, as in \
             redis-sentinel://host1:26379,host2:26379,host3:26379?service=mymaster",
            )
        })?;
    Ok(Deployment::Sentinel { service, login })
}

fn credentials(login: &str) -> Result<Login, Invalid> {
    let (username, password) = login
        .split_once(':')
        .map_or((login, None), |(username, password)| {
            (username, Some(password))
        });
    let username = (!username.is_empty())
        .then(|| decode(username))
        .transpose()?;
    // A user alone is right where the password is in a file or comes from a callback.
    let password = password.map(decode).transpose()?;
    Ok(Login { username, password })
}

/// Returns a server by itself, as in `redis.example:6379`.
pub(crate) fn server(text: &str) -> Result<Place, Invalid> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if !text.chars().all(plain) {
        return Err(invalid(
            "it must be a host and a port, as in redis.example:6379",
        ));
    }
    host_and_port(text, DEFAULT_PORT)
}

fn host_and_port(authority: &str, default_port: u16) -> Result<Place, Invalid> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| invalid("the address lacks its closing ]"))?;
        (host, rest.strip_prefix(':'))
    } else {
        authority
            .split_once(':')
            .map_or((authority, None), |(host, port)| (host, Some(port)))
    };
    if host.is_empty() {
        return Err(invalid("the host is missing, as in redis://127.0.0.1:6379"));
    }
    // The offending text is not shown: where an @ is missing it may be the password.
    let port = match port {
        None => default_port,
        Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or_else(|| {
            invalid(
                "the port must be a number from 1 to 65535 (or the @ after the password is missing)",
            )
        })?,
    };
    let host = host.to_owned();
    Ok(Place { host, port })
}

fn database(path: &str) -> Result<Option<u8>, Invalid> {
    match path {
        "" => Ok(None),
        path => path.parse().map(Some).map_err(|_| {
            invalid("the number of a database must be from 0 to 255, as in redis://host:6379/0")
        }),
    }
}

/// Percent-decoding.
fn decode(text: &str) -> Result<String, Invalid> {
    let wrong =
        || invalid("a % in the user or password is not followed by two hex digits of UTF-8");
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).map_err(|_| wrong())
}

fn invalid(why: impl Into<String>) -> Invalid {
    Invalid(why.into())
}

#[cfg(test)]
mod tests;
