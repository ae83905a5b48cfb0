//! The Redis URL: what is accepted, and what may be shown of it.

const SCHEMES: &str = "the scheme must be redis, redis-sentinel or redis-cluster; \
     with TLS rediss, rediss-sentinel or rediss-cluster";

/// Checks what the client library would otherwise accept and misread.
pub(super) fn check(url: &str) -> Result<(), String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err("must begin with redis:// or rediss://, as in redis://127.0.0.1:6379".into());
    };
    let scheme = scheme.to_ascii_lowercase();
    let kind = scheme_check(&scheme)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if tail.contains('@') {
        return Err("percent-encode any / ? # and @ in the user name and the password".into());
    }
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("must not contain white space; percent-encode it".into());
    }
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if kind == Kind::Single {
        host_check(host)?;
    } else {
        host.split(',').try_for_each(host_check)?;
    }
    let (tail, options) = match tail.split_once('?') {
        Some((tail, options)) if kind == Kind::Sentinel => (tail, options),
        _ => (tail, ""),
    };
    if tail.contains(['?', '#']) || options.contains('#') {
        return Err("must end after the host, the port and the database; it has no options".into());
    }
    if kind == Kind::Sentinel {
        options_check(options)?;
    }
    let database = tail.strip_prefix('/').unwrap_or_default();
    if kind == Kind::Cluster && !matches!(database, "" | "0") {
        return Err("a cluster has only database 0".into());
    }
    if !database.is_empty() && database.parse::<u8>().is_err() {
        return Err("the path must be the number of a database, as in redis://host:6379/0".into());
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    Sentinel,
    Cluster,
}

fn scheme_check(scheme: &str) -> Result<Kind, String> {
    let (family, kind) = scheme.split_once('-').unwrap_or((scheme, ""));
    let kind = match kind {
        "" => Kind::Single,
        "sentinel" => Kind::Sentinel,
        "cluster" => Kind::Cluster,
        _ => return Err(SCHEMES.into()),
    };
    match family {
        "redis" | "rediss" if cfg!(not(feature = "redis")) => {
            Err("this build lacks the feature `redis`".into())
        }
        "rediss" if cfg!(not(feature = "tls")) => Err("this build lacks the feature `tls`".into()),
        "redis" | "rediss" => Ok(kind),
        _ => Err(SCHEMES.into()),
    }
}

/// What follows the `?` of a Sentinel's URL.
fn options_check(options: &str) -> Result<(), String> {
    const KNOWN: [&str; 3] = ["service", "sentinel_user", "sentinel_password"];
    let names = options
        .split('&')
        .map(|option| option.split('=').next().unwrap_or_default());
    if names
        .clone()
        .any(|name| !name.is_empty() && !KNOWN.contains(&name))
    {
        return Err(
            "after the ? may be service, sentinel_user and sentinel_password, nothing else".into(),
        );
    }
    if !names.clone().any(|name| name == "service") {
        return Err("must name what the sentinels watch, as in \
             redis-sentinel://host1:26379,host2:26379,host3:26379?service=mymaster"
            .into());
    }
    Ok(())
}

fn host_check(host: &str) -> Result<(), String> {
    let (name, port) = match host.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((name, port))) => (name, port.strip_prefix(':')),
        Some(None) => return Err("the address lacks its closing ]".into()),
        None => host
            .split_once(':')
            .map_or((host, None), |(name, port)| (name, Some(port))),
    };
    if name.is_empty() {
        return Err("the host is missing, as in redis://127.0.0.1:6379".into());
    }
    if let Some(port) = port
        && !port.parse::<u16>().is_ok_and(|port| port > 0)
    {
        return Err("the port must be a number from 1 to 65535".into());
    }
    Ok(())
}

/// What may be shown of a setting's value.
///
/// Nothing of a secret by name, and of a URL neither the user info nor the query. What cannot be
/// told apart from a password, such as letters where a port should be, is hidden as well.
pub(super) fn redact(name: &str, value: &str) -> String {
    const HIDDEN: &str = "***";
    const SECRET: [&str; 4] = ["KEY", "PASSWORD", "SECRET", "TOKEN"];
    let name = name.to_ascii_uppercase();
    if SECRET.iter().any(|secret| name.contains(secret)) {
        return HIDDEN.to_string();
    }
    let (scheme, rest) = match value.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None if value.contains('@') || name.contains("URL") => (None, value),
        None => return value.to_string(),
    };
    // A password may hold any of : / ? # @ when somebody forgot to encode it: the last @ counts.
    let (user, place) = match rest.rsplit_once('@') {
        Some((_, place)) => ("***@", place),
        None => ("", rest),
    };
    // The password of a sentinel comes after the host, and what it hides must not look like one.
    let is_sentinel =
        scheme.is_some_and(|scheme| scheme.to_ascii_lowercase().ends_with("sentinel"));
    let place = if is_sentinel
        && rest.len() > place.len()
        && rest[..rest.len() - place.len()].contains('?')
    {
        ""
    } else {
        place
    };
    let (place, query) = match place.find(['?', '#']) {
        Some(at) => (&place[..at], HIDDEN),
        None => (place, ""),
    };
    let place = if is_place(place) { place } else { HIDDEN };
    match scheme {
        Some(scheme) if is_scheme(scheme) => format!("{scheme}://{user}{place}{query}"),
        Some(_) => HIDDEN.to_string(),
        None => format!("{user}{place}{query}"),
    }
}

fn is_scheme(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// Whether the text can only be `host:port/database`, or several hosts with a comma between.
fn is_place(text: &str) -> bool {
    let (hosts, database) = text.split_once('/').unwrap_or((text, ""));
    hosts.split(',').all(is_host) && database.chars().all(|c| c.is_ascii_digit())
}

fn is_host(host: &str) -> bool {
    if host.starts_with('[') {
        host.chars()
            .all(|c| c.is_ascii_hexdigit() || "[]:.".contains(c))
    } else {
        let (name, port) = host.split_once(':').unwrap_or((host, ""));
        name.chars()
            .all(|c| c.is_alphanumeric() || "-_.".contains(c))
            && port.chars().all(|c| c.is_ascii_digit())
    }
}
