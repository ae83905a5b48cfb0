//! What may be shown of a setting's value.

/// Returns what may be shown of a setting's value.
///
/// Nothing of a secret by name, and of a URL neither the user info nor the query. What cannot be
/// distinguished from a password, such as letters where a port should be, is hidden as well.
pub(super) fn value(name: &str, value: &str) -> String {
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
    // A password may hold any of : / ? # @ when it was not encoded: the last @ counts.
    let (user, place) = match rest.rsplit_once('@') {
        Some((_, place)) => ("***@", place),
        None => ("", rest),
    };
    // The password of a sentinel or a socket may come after the host, and what it hides must not look
    // like one.
    let ends_with =
        |end: &str| scheme.is_some_and(|scheme| scheme.to_ascii_lowercase().ends_with(end));
    let is_socket = ends_with("unix");
    let place = if (is_socket || ends_with("sentinel"))
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
    let shown = if is_socket {
        is_path(place)
    } else {
        is_place(place)
    };
    let place = if shown { place } else { HIDDEN };
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

/// Whether the text can only be the path of a socket: what may be in a password is hidden.
fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
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
