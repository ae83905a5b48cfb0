//! The URL of a database. No error shows any of its text: where an `@` is missing, any part may be the
//! password.
//!
//! ```text
//! postgres[ql]://[user[:password]@][host][:port][/database][?option=value&...]
//! ```

use std::path::PathBuf;
use std::time::Duration;

use super::sslmode::{SYSTEM, tls};
use super::target::{Config, DEFAULT_PORT, Host, Secret};

const EXAMPLE: &str = "as in postgres://user:password@host:5432/database";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);

/// What a socket file's name adds to its folder, with a port of five digits.
const SOCKET_NAME: usize = "/.s.PGSQL.12345".len();

/// Longest path of a socket: what systems have room for in an address.
const LONGEST_SOCKET: usize = 103;

/// The parts of a URL, decoded.
#[derive(Default)]
struct Parts {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    application_name: Option<String>,
    connect_timeout: Option<String>,
}

pub(super) fn parse(url: &str) -> Result<Config, String> {
    let parts = split(url.trim())?;
    let port = match &parts.port {
        None => DEFAULT_PORT,
        Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or(
            "the port must be a number from 1 to 65535 (or the @ after the password is missing)",
        )?,
    };
    let host = host(parts.host)?;
    let user = parts
        .user
        .ok_or_else(|| format!("the user is missing, {EXAMPLE}"))?;
    let tls = tls(
        parts.sslmode.as_deref(),
        parts.sslrootcert.as_deref(),
        &host,
    )?;
    let root_certificate = parts
        .sslrootcert
        .filter(|root| root != SYSTEM)
        .map(PathBuf::from);
    let connect_timeout = match parts.connect_timeout {
        None => CONNECT_TIMEOUT,
        Some(seconds) => seconds
            .parse()
            .ok()
            .filter(|seconds| (1..=300).contains(seconds))
            .map(Duration::from_secs)
            .ok_or("connect_timeout must be a number of seconds from 1 to 300")?,
    };
    Ok(Config {
        host,
        port,
        password: parts.password.map(Secret::new),
        database: parts.database.unwrap_or_else(|| user.clone()),
        user,
        tls,
        root_certificate,
        application_name: parts
            .application_name
            .unwrap_or_else(|| "unstale relay".to_owned()),
        connect_timeout,
        query_timeout: QUERY_TIMEOUT,
        silence: SILENCE,
    })
}

fn split(url: &str) -> Result<Parts, String> {
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))
        .ok_or_else(|| format!("it must begin with postgres:// or postgresql://, {EXAMPLE}"))?;
    if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("it must not contain white space; percent-encode it".into());
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if tail.contains(['@', '#']) {
        return Err(
            "percent-encode any / ? # and @ in its parts, as %2F %3F %23 %40 (in the user and the \
             password above all)"
                .into(),
        );
    }
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let mut parts = Parts::default();
    // A password may contain an @, so the last one counts.
    let hosts = match authority.rsplit_once('@') {
        None => authority,
        Some((login, hosts)) => {
            let (user, password) = match login.split_once(':') {
                None => (login, None),
                Some((user, password)) => (user, Some(password)),
            };
            parts.user = filled(user)?;
            parts.password = password.map(decode).transpose()?;
            hosts
        }
    };
    let (host, port) = host_and_port(hosts)?;
    parts.host = filled(host)?;
    parts.port = port.map(decode).transpose()?;
    parts.database = filled(path.strip_prefix('/').unwrap_or_default())?;
    options(&mut parts, query)?;
    Ok(parts)
}

fn host_and_port(hosts: &str) -> Result<(&str, Option<&str>), String> {
    if hosts.contains(',') {
        return Err("it must not name several hosts; name the one that is the primary".into());
    }
    if let Some(rest) = hosts.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or("the address lacks its closing ]")?;
        return Ok((host, rest.strip_prefix(':')));
    }
    Ok(match hosts.split_once(':') {
        None => (hosts, None),
        Some((host, port)) => (host, Some(port)),
    })
}

fn options(parts: &mut Parts, query: &str) -> Result<(), String> {
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let field = match name {
            "host" => &mut parts.host,
            "port" => &mut parts.port,
            "user" => &mut parts.user,
            "password" => &mut parts.password,
            "dbname" => &mut parts.database,
            "sslmode" => &mut parts.sslmode,
            "sslrootcert" => &mut parts.sslrootcert,
            "application_name" => &mut parts.application_name,
            "connect_timeout" => &mut parts.connect_timeout,
            _ => {
                return Err(
                    "after the ? it may have host, port, user, password, dbname, sslmode, \
                            sslrootcert, application_name and connect_timeout, nothing else"
                        .into(),
                );
            }
        };
        let value = filled(value)?.ok_or_else(|| format!("the option {name} has no value"))?;
        if field.replace(value).is_some() {
            return Err(format!(
                "the option {name} is given twice, or also before the ?"
            ));
        }
    }
    Ok(())
}

fn host(host: Option<String>) -> Result<Host, String> {
    let host = host.ok_or(
        "the host is missing, as in postgres://user@host/database, or for a socket \
         postgres://user@/database?host=/var/run/postgresql",
    )?;
    if host.contains('\0') {
        return Err("the host must not contain a zero byte".into());
    }
    if !host.starts_with('/') {
        return Ok(Host::Tcp(host));
    }
    if host.len() + SOCKET_NAME > LONGEST_SOCKET {
        return Err(format!(
            "the folder of the socket must have at most {} bytes",
            LONGEST_SOCKET - SOCKET_NAME
        ));
    }
    Ok(Host::Unix(PathBuf::from(host)))
}

/// Percent-decoding of a part that may be missing.
fn filled(text: &str) -> Result<Option<String>, String> {
    Ok(Some(decode(text)?).filter(|text| !text.is_empty()))
}

fn decode(text: &str) -> Result<String, String> {
    let wrong = || "a % is not followed by two hex digits of UTF-8 (write %25 for it)".to_owned();
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
        out.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
    }
    String::from_utf8(out).map_err(|_| wrong())
}
