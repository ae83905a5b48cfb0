//! What went wrong with Redis, in words that say what to do.

use fred::error::{Error as FredError, ErrorKind as FredKind};

use super::rights;
use crate::foreign::{self, MOST_LANES};
use crate::url::Place;
use crate::{Error, ErrorKind};

/// What each error code of Redis asks an operator to do.
const ADVICE: [(&str, &str); 11] = [
    (
        "READONLY",
        "it is a read-only replica: the URL must lead to the primary",
    ),
    (
        "NOREPLICAS",
        "it has too few replicas in step to take writes (min-replicas-to-write)",
    ),
    (
        "OOM",
        "its memory is full: raise maxmemory, or give `unstale` a Redis of its own",
    ),
    (
        "MISCONF",
        "it cannot save to disk and refuses writes: see its log and its disk",
    ),
    ("LOADING", "it is still loading its data"),
    (
        "BUSY",
        "a script of someone else's blocks it: see SCRIPT KILL",
    ),
    ("MASTERDOWN", "it is a replica that lost its primary"),
    ("TRYAGAIN", "its cluster slot is being moved"),
    (
        "MOVED",
        "the lane lives on another node of its cluster (does the URL begin with redis-cluster://?)",
    ),
    ("ASK", "its cluster slot is being moved"),
    (
        "CLUSTERDOWN",
        "its cluster is down, or this node is cut off from it",
    ),
];

/// How the error of a refused certificate begins.
pub(super) const CERTIFICATE: &str = "the TLS certificate of ";

/// Returns what Redis (or the connection to it) answered, as the crate's error.
/// Never contains a password: what Redis echoes of a command's arguments is cut off.
pub(super) fn from_fred(error: &FredError) -> Error {
    let details = error.details();
    let details = details.split(", with args").next().unwrap_or(details);
    if details.starts_with(CERTIFICATE) {
        return Error::new(ErrorKind::Bus, details);
    }
    let details = &*foreign::shown(details);
    let code = details.split(' ').next().unwrap_or_default();
    if let Some(missing) = rights::of_answer(error, "<user>") {
        return missing;
    }
    if *error.kind() == FredKind::Auth || matches!(code, "NOAUTH" | "WRONGPASS") {
        let message = format!("Redis refused: {details}; check user and password of the Redis URL");
        return Error::new(ErrorKind::Auth, message);
    }
    if code == "NOPROTO" {
        let message = "this server does not speak RESP3: use Redis 7.0 or later, or Valkey";
        return Error::new(ErrorKind::Settings, message);
    }
    if details.contains("DB index is out of range") || details.contains("invalid DB index") {
        let message = "Redis has no database of the number that its URL names";
        return Error::new(ErrorKind::Settings, message);
    }
    if let Some((_, advice)) = ADVICE.iter().find(|(known, _)| *known == code) {
        return Error::new(
            ErrorKind::Bus,
            format!("Redis cannot do it now: {advice} ({code})"),
        );
    }
    if *error.kind() == FredKind::Timeout {
        return Error::new(ErrorKind::Bus, "Redis did not answer in time");
    }
    // A file that cannot be read: fred itself has no part in the settings.
    if *error.kind() == FredKind::Config {
        return Error::new(ErrorKind::Settings, details);
    }
    let message = format!("the connection to Redis failed: {}", reason(details));
    Error::new(ErrorKind::Bus, message)
}

/// As [`from_fred`], naming the server that was asked about another.
pub(super) fn of_witness(role: &str, place: &Place, user: &str, error: &FredError) -> Error {
    let error = rights::of_answer(error, user).unwrap_or_else(|| from_fred(error));
    Error::new(error.kind(), format!("{role} {place}: {error}"))
}

/// fred shows an I/O error as `Os { code: 111, kind: .., message: "Connection refused" }`, or as
/// `Custom { kind: .., error: "failed to lookup address information" }`.
/// A command whose connection is dropped sees its channel closed.
pub(super) fn reason(details: &str) -> &str {
    if details == "channel closed" {
        return "it was closed";
    }
    let message = ["message: \"", "error: \""];
    let message = message.iter().find_map(|word| details.split_once(word));
    message
        .and_then(|(_, text)| text.split('"').next())
        .unwrap_or(details)
}

/// verify.lua's `LANES <n>`.
pub(super) fn lanes(error: &FredError, ours: u32) -> Error {
    let theirs = error.details().split(' ').nth(1).unwrap_or_default();
    let Some(theirs) = foreign::lanes(theirs) else {
        return damaged_lanes(theirs);
    };
    Error::new(
        ErrorKind::Lanes,
        format!(
            "the fleet has {theirs} lanes in Redis and this instance {ours}: set UNSTALE_LANES to \
             {theirs}, or stop every instance and delete the namespace's keys to change it"
        ),
    )
}

/// What Redis has for the number of lanes is none.
pub(super) fn damaged_lanes(found: &str) -> Error {
    Error::new(
        ErrorKind::Lanes,
        format!(
            "the number of lanes in Redis is damaged (`{}`, instead of 1 to {MOST_LANES}): stop every \
             instance and delete the namespace's keys, and find out what else writes there",
            foreign::shown(found)
        ),
    )
}

/// Returns whether Redis itself answered with this error, as opposed to no answer at all.
pub(super) fn is_reply(error: &FredError) -> bool {
    !matches!(error.kind(), FredKind::Timeout | FredKind::IO | FredKind::Canceled)
        // A dropped connection task shows as a closed channel.
        && error.details().split(' ').next().is_some_and(|code| code.bytes().all(|b| b.is_ascii_uppercase()))
}

/// Returns whether a node of a cluster answers that it does not serve the slot now.
pub(super) fn is_redirection(error: &FredError) -> bool {
    matches!(code(error), "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN")
}

/// Returns the place in `<code> <slot> <host>:<port>`; without a host it is the host that was asked.
pub(super) fn redirected(code: &str, error: &FredError, asked: &Place) -> Option<Place> {
    let mut words = error.details().split(' ');
    if words.next() != Some(code) {
        return None;
    }
    let (host, port) = words.nth(1)?.rsplit_once(':')?;
    let host = if host.is_empty() { &asked.host } else { host };
    foreign::is_host(host).then_some(Place {
        host: host.to_owned(),
        port: port.parse().ok()?,
    })
}

/// Returns the first word of a server's error.
pub(super) fn code(error: &FredError) -> &str {
    error.details().split(' ').next().unwrap_or_default()
}

/// An answer that none of our scripts gives.
pub(super) fn unexpected(script: &str) -> Error {
    Error::new(
        ErrorKind::Bus,
        format!("Redis answered {script} with something unexpected"),
    )
}

/// It is not known where a lane lives.
pub(super) fn unknown_place(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Bus, why)
}

/// Returns whether waiting cannot help: an operator must change the settings or the server's ACL.
pub(super) fn is_permanent(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Auth | ErrorKind::Settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_and_text(details: &'static str) -> (ErrorKind, String) {
        let error = from_fred(&FredError::new(FredKind::Unknown, details));
        (error.kind(), error.to_string())
    }

    #[test]
    fn every_refusal_is_an_auth_error() {
        for details in [
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOPERM this user has no permissions to run the 'evalsha' command",
            "ERR The user executing the script can't run this command or subcommand script: x",
        ] {
            assert_eq!(kind_and_text(details).0, ErrorKind::Auth, "{details}");
        }
    }

    #[test]
    fn transient_errors_say_what_to_do() {
        let (kind, text) = kind_and_text("READONLY You can't write against a read only replica.");
        assert_eq!(kind, ErrorKind::Bus);
        assert!(text.contains("must lead to the primary"), "{text}");
        assert_eq!(kind_and_text("OOM command not allowed").0, ErrorKind::Bus);
    }

    #[test]
    fn redirections_name_a_place() {
        let host = "h".to_owned();
        let asked = Place { host, port: 1 };
        let at = |code, details: &'static str| {
            let error = FredError::new(FredKind::Cluster, details);
            redirected(code, &error, &asked).map(|place| place.to_string())
        };
        assert_eq!(
            at("MOVED", "MOVED 1 10.0.0.1:7000").unwrap(),
            "10.0.0.1:7000"
        );
        assert_eq!(at("ASK", "ASK 1 ::1:7000").unwrap(), "[::1]:7000");
        assert_eq!(at("MOVED", "MOVED 1 :7000").unwrap(), "h:7000");
        assert_eq!(at("MOVED", "ASK 1 :7000"), None);
    }

    #[test]
    fn io_errors_read_well() {
        let (kind, text) = kind_and_text(
            "Os { code: 111, kind: ConnectionRefused, message: \"Connection refused\" }",
        );
        assert_eq!(kind, ErrorKind::Bus);
        assert_eq!(text, "the connection to Redis failed: Connection refused");
        let (_, text) = kind_and_text(
            "Custom { kind: Uncategorized, error: \"failed to lookup address information: Name or \
             service not known\" }",
        );
        assert_eq!(
            text,
            "the connection to Redis failed: failed to lookup address information: Name or service \
             not known"
        );
    }

    #[test]
    fn echoed_arguments_are_cut_off() {
        let (_, text) = kind_and_text(
            "ERR unknown command `HELLO`, with args beginning with: `3` `AUTH` `x` `hunter2`",
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}
