//! The Redis URL: `redis[s]://[user[:password]@]host[:port][/database]`.
//!
//! Parsed here and not by fred, so that no error shows the password.

use std::fmt;

use crate::{Error, ErrorKind};

const DEFAULT_PORT: u16 = 6379;

/// Where Redis is, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    /// `None` where the URL names none; then it is 0.
    pub(super) database: Option<u8>,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url
            .trim()
            .split_once("://")
            .ok_or_else(|| invalid("it does not begin with redis://"))?;
        let tls = match scheme {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            other if other.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
                return Err(invalid(&format!(
                    "the scheme {other}:// is not redis:// or rediss://"
                )));
            }
            _ => return Err(invalid("it does not begin with redis:// or rediss://")),
        };
        if rest.contains(['?', '#']) {
            return Err(invalid(
                "it has a query or a fragment (is a ? or # in the password not written as %3F or %23?)",
            ));
        }
        // A password may contain anything but what ends it, so the last @ counts.
        let (login, place) = rest
            .rsplit_once('@')
            .map_or((None, rest), |(login, place)| (Some(login), place));
        let (username, password) = login.map_or(Ok((None, None)), credentials)?;
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        let (host, port) = host_and_port(authority)?;
        Ok(Self {
            tls,
            host,
            port,
            username,
            password,
            database: database(path)?,
        })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("tls", &self.tls)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "(set)"))
            .field("database", &self.database)
            .finish()
    }
}

fn credentials(login: &str) -> Result<(Option<String>, Option<String>), Error> {
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
    Ok((username, password))
}

fn host_and_port(authority: &str) -> Result<(String, u16), Error> {
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
        None => DEFAULT_PORT,
        Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or_else(|| {
            invalid(
                "its port is not a number from 1 to 65535 (or the @ after the password is missing)",
            )
        })?,
    };
    Ok((host.to_owned(), port))
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

    #[test]
    fn all_parts() {
        let address = Address::parse("rediss://app:p%40s%3As@cache.example:7000/3").unwrap();
        assert!(address.tls);
        assert_eq!(
            (address.host.as_str(), address.port),
            ("cache.example", 7000)
        );
        assert_eq!(address.username.as_deref(), Some("app"));
        assert_eq!(address.password.as_deref(), Some("p@s:s"));
        assert_eq!(address.database, Some(3));
    }

    #[test]
    fn only_a_host() {
        let address = Address::parse("redis://localhost").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("localhost", 6379));
        assert_eq!(
            (address.username, address.password, address.database),
            (None, None, None)
        );
    }

    #[test]
    fn a_password_without_a_user_and_an_ipv6_host() {
        let address = Address::parse("redis://:secret@[::1]:6380").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("::1", 6380));
        assert_eq!(
            (address.username, address.password.as_deref()),
            (None, Some("secret"))
        );
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
        ] {
            let error = Address::parse(url).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn debug_hides_the_password() {
        let address = Address::parse("redis://app:hunter2@localhost").unwrap();
        assert!(!format!("{address:?}").contains("hunter2"));
    }
}
