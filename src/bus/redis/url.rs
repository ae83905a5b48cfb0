//! The Redis URL: what it looks like is said in [`FORMS`].
//!
//! Parsed here and not by fred, so that no error shows the password.

use std::fmt;

use crate::{Error, ErrorKind};

const DEFAULT_PORT: u16 = 6379;
const DEFAULT_SENTINEL_PORT: u16 = 26379;

/// Hosts that one URL may name. Deployments have 3 to 7 sentinels; a cluster's other nodes are found.
const MOST_PLACES: usize = 64;

/// What a URL looks like.
const FORMS: &str = "redis[s]://[user:password@]host[:port][/database], \
     redis[s]-sentinel://[user:password@]host[:port],...[/database]?service=name\
     [&sentinel_user=name][&sentinel_password=password] or \
     redis[s]-cluster://[user:password@]host[:port],...";

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What the places of a URL are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deployment {
    /// One server.
    Single,
    /// Sentinels, which know the primary of the service.
    Sentinel { service: String, login: Login },
    /// Some nodes of a cluster.
    Cluster,
}

/// Who we are at a server.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "(set)"))
            .finish()
    }
}

/// Where Redis is, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) deployment: Deployment,
    /// At least one.
    pub(super) places: Vec<Place>,
    pub(super) login: Login,
    /// `None` where the URL names none; then it is 0.
    pub(super) database: Option<u8>,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url
            .trim()
            .split_once("://")
            .ok_or_else(|| invalid("it does not begin with redis://"))?;
        let scheme = scheme.to_ascii_lowercase();
        let (family, kind) = scheme.split_once('-').unwrap_or((&scheme, ""));
        let tls = match family {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(unknown_scheme(&scheme)),
        };
        let default_port = match kind {
            "" | "cluster" => DEFAULT_PORT,
            "sentinel" => DEFAULT_SENTINEL_PORT,
            _ => return Err(unknown_scheme(&scheme)),
        };
        // A password may contain anything but what ends it, so the last @ of what is before the query counts.
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) if kind == "sentinel" => (rest, query),
            _ => (rest, ""),
        };
        if rest.contains(['?', '#']) || query.contains(['#', '@']) {
            return Err(invalid(
                "it has a query or a fragment (is a ? or # in the password not written as %3F or %23?)",
            ));
        }
        let (login, place) = rest
            .rsplit_once('@')
            .map_or((None, rest), |(login, place)| (Some(login), place));
        let login = login.map_or_else(|| Ok(Login::default()), credentials)?;
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        let places = places(authority, kind, default_port)?;
        let database = database(path)?;
        let deployment = match kind {
            "" => Deployment::Single,
            "cluster" if database.is_some_and(|database| database != 0) => {
                return Err(invalid("a cluster has only database 0"));
            }
            "cluster" => Deployment::Cluster,
            _ => service(query)?,
        };
        Ok(Self {
            tls,
            deployment,
            places,
            login,
            database,
        })
    }
}

impl Address {
    pub(super) fn is_cluster(&self) -> bool {
        self.deployment == Deployment::Cluster
    }

    /// What the channels' names end with; a cluster has no databases.
    pub(super) fn database_of_channels(&self) -> Option<u8> {
        (!self.is_cluster()).then(|| self.database.unwrap_or(0))
    }
}

fn unknown_scheme(scheme: &str) -> Error {
    if scheme
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-')
    {
        return invalid(&format!("the scheme {scheme}:// is none of {FORMS}"));
    }
    invalid("it does not begin with redis:// or rediss://")
}

/// Hosts with ports, separated by commas where there may be several.
fn places(authority: &str, kind: &str, default_port: u16) -> Result<Vec<Place>, Error> {
    let texts: Vec<&str> = authority.split(',').collect();
    if texts.len() > 1 && kind.is_empty() {
        return Err(invalid(
            "it names several hosts, which is for redis-sentinel:// and redis-cluster://",
        ));
    }
    if texts.len() > MOST_PLACES {
        return Err(invalid(&format!("it names more than {MOST_PLACES} hosts")));
    }
    let mut places = Vec::with_capacity(texts.len());
    for text in texts {
        let place = host_and_port(text, default_port)?;
        if places.contains(&place) {
            // Its word would count twice.
            return Err(invalid("it names one host twice"));
        }
        places.push(place);
    }
    Ok(places)
}

/// The options of a Sentinel's URL.
fn service(query: &str) -> Result<Deployment, Error> {
    let (mut service, mut login) = (None, Login::default());
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let field = match name {
            "service" => &mut service,
            "sentinel_user" => &mut login.username,
            "sentinel_password" => &mut login.password,
            _ => {
                return Err(invalid(
                    "after the ? it may have service, sentinel_user and sentinel_password only",
                ));
            }
        };
        if field.replace(decode(value)?).is_some() {
            return Err(invalid("an option after the ? is there twice"));
        }
    }
    if login.username.is_some() && login.password.is_none() {
        return Err(invalid("it has sentinel_user and no sentinel_password"));
    }
    let service = service.filter(|service| !service.is_empty()).ok_or_else(|| {
        invalid("it does not name what the sentinels watch, as in redis-sentinel://host:26379?service=mymaster")
    })?;
    Ok(Deployment::Sentinel { service, login })
}

fn credentials(login: &str) -> Result<Login, Error> {
    let (username, password) = login
        .split_once(':')
        .map_or((login, None), |(username, password)| {
            (username, Some(password))
        });
    if username.contains('/') || password.is_some_and(|password| password.contains('/')) {
        return Err(invalid(
            "a / in the user or password must be written as %2F",
        ));
    }
    let username = (!username.is_empty())
        .then(|| decode(username))
        .transpose()?;
    let password = password.map(decode).transpose()?;
    if username.is_some() && password.is_none() {
        return Err(invalid(
            "it names a user but no password (user:password@, or :password@ without a user)",
        ));
    }
    Ok(Login { username, password })
}

fn host_and_port(authority: &str, default_port: u16) -> Result<Place, Error> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| invalid("a [ in the host is not closed"))?;
        (host, rest.strip_prefix(':'))
    } else {
        authority
            .split_once(':')
            .map_or((authority, None), |(host, port)| (host, Some(port)))
    };
    if host.is_empty() {
        return Err(invalid("it names no host"));
    }
    // The offending text is not shown: where an @ is missing it may be the password.
    let port = match port {
        None => default_port,
        Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or_else(|| {
            invalid(
                "its port is not a number from 1 to 65535 (or the @ after the password is missing)",
            )
        })?,
    };
    let host = host.to_owned();
    Ok(Place { host, port })
}

fn database(path: &str) -> Result<Option<u8>, Error> {
    match path {
        "" => Ok(None),
        path => path
            .parse()
            .map(Some)
            .map_err(|_| invalid("its database (after the last /) is not a number from 0 to 255")),
    }
}

/// Percent-decoding.
fn decode(text: &str) -> Result<String, Error> {
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

fn invalid(why: &str) -> Error {
    Error::new(
        ErrorKind::Settings,
        format!("the Redis URL is not valid: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str, port: u16) -> Place {
        let host = host.to_owned();
        Place { host, port }
    }

    fn login(username: Option<&str>, password: Option<&str>) -> Login {
        let (username, password) = (username.map(Into::into), password.map(Into::into));
        Login { username, password }
    }

    #[test]
    fn all_parts() {
        let address = Address::parse("rediss://app:p%40s%3As@cache.example:7000/3").unwrap();
        assert!(address.tls);
        assert_eq!(address.places, [place("cache.example", 7000)]);
        assert_eq!(address.login, login(Some("app"), Some("p@s:s")));
        assert_eq!(address.deployment, Deployment::Single);
        assert_eq!(address.database, Some(3));
    }

    #[test]
    fn only_a_host() {
        let address = Address::parse("redis://localhost").unwrap();
        assert_eq!(address.places, [place("localhost", 6379)]);
        assert_eq!((address.login, address.database), (Login::default(), None));
    }

    #[test]
    fn a_password_without_a_user_and_an_ipv6_host() {
        let address = Address::parse("redis://:secret@[::1]:6380").unwrap();
        assert_eq!(address.places, [place("::1", 6380)]);
        assert_eq!(address.login, login(None, Some("secret")));
        assert_eq!(address.places[0].to_string(), "[::1]:6380");
    }

    #[test]
    fn sentinels_and_what_they_watch() {
        let url = "rediss-sentinel://app:pw@s1,s2:7,[::1]/3?service=my%26master&sentinel_user=w&sentinel_password=x%40";
        let address = Address::parse(url).unwrap();
        assert!(address.tls);
        let places = [place("s1", 26379), place("s2", 7), place("::1", 26379)];
        assert_eq!(address.places, places);
        assert_eq!(address.login, login(Some("app"), Some("pw")));
        assert_eq!(address.database, Some(3));
        let service = "my&master".to_owned();
        let login = login(Some("w"), Some("x@"));
        let deployment = Deployment::Sentinel { service, login };
        assert_eq!(address.deployment, deployment);
    }

    #[test]
    fn nodes_of_a_cluster() {
        let address = Address::parse("Redis-Cluster://h1:7001,h2/0").unwrap();
        assert_eq!(address.places, [place("h1", 7001), place("h2", 6379)]);
        assert_eq!(address.deployment, Deployment::Cluster);
    }

    #[test]
    fn errors_name_the_part_and_never_the_password() {
        for (url, part) in [
            ("localhost:6379", "redis://"),
            ("http://hunter2@localhost", "http://"),
            ("redis://app:hunter2@", "host"),
            ("redis://app:hunter2", "port"),
            ("redis://app:hunter2@localhost:port", "port"),
            ("redis://app:hunter2@localhost/cache", "database"),
            ("redis://app:hunter2@localhost/999", "database"),
            ("redis://app:hun/ter2@localhost", "%2F"),
            ("redis://app:hunter2%zz@localhost", "hex"),
            ("redis://app:hunter2?@localhost", "%3F"),
            ("redis://hunter2@localhost", "no password"),
            ("redis://:hunter2@a,b", "several hosts"),
            ("redis://:hunter2@a?service=m", "%3F"),
            ("redis-cluster://:hunter2@a,a:6379", "twice"),
            ("redis-cluster://:hunter2@a/1", "database 0"),
            ("redis-cluster://:hunter2@a,", "host"),
            ("redis-other://:hunter2@a", "redis-other://"),
            ("redis-sentinel://:hunter2@a", "service=mymaster"),
            (
                "redis-sentinel://a?service=m&sentinel_user=hunter2",
                "no sentinel_password",
            ),
            (
                "redis-sentinel://a?service=m&pass=hunter2",
                "may have service",
            ),
            ("redis-sentinel://a?service=m&service=hunter2", "twice"),
            ("redis-sentinel://:hunter2?@a?service=m", "%3F"),
        ] {
            let error = Address::parse(url).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn debug_hides_the_password() {
        for url in [
            "redis://app:hunter2@localhost",
            "redis-sentinel://h?service=m&sentinel_password=hunter2",
        ] {
            let address = Address::parse(url).unwrap();
            assert!(!format!("{address:?}").contains("hunter2"));
        }
    }
}
