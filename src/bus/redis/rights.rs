//! What an instance needs of a server and does not get: one list for the start and for `unstale doctor`.
//!
//! Servers say it in many ways. Redis 7.0 has texts of its own for what an ACL refuses inside a script,
//! later versions and Valkey have others, and a host that takes a command away makes it unknown.

use std::collections::BTreeSet;

use fred::error::Error as FredError;
use fred::types::Value;

use super::product::Product;
use crate::{Error, ErrorKind};

/// Something that an instance needs and does not get.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MissingRight {
    /// The ACL refuses this command.
    Command(String),
    /// The ACL refuses the namespace's keys.
    Keys,
    /// The ACL refuses the namespace's channels.
    Channels,
    /// The server does not know this command.
    Unknown(String),
}

impl MissingRight {
    /// Returns what an error of the server says is missing; `None` if it says something else.
    pub(super) fn of(details: &str) -> Option<Self> {
        Self::of_command(quoted(details).unwrap_or("a command of a script"), details)
    }

    /// As [`of`](Self::of), where the server was asked to run this command and may not name it.
    fn of_command(command: &str, details: &str) -> Option<Self> {
        if is_unknown(details) {
            return Some(Self::Unknown(command.to_owned()));
        }
        if !is_denied(details) {
            return None;
        }
        Some(match details.split_once("run the '") {
            Some((_, rest)) => Self::Command(rest.split('\'').next().unwrap_or(rest).to_owned()),
            None if details.contains("channel") => Self::Channels,
            None if details.contains("key") => Self::Keys,
            None => Self::Command(command.to_lowercase()),
        })
    }

    /// Returns what gives it, as a rule of `ACL SETUSER`; `None` where no rule can.
    fn rule(&self, namespace: &str) -> Option<String> {
        match self {
            Self::Command(name) => Some(format!("+{name}")),
            Self::Keys => Some(format!("~us:{{{namespace}:*")),
            Self::Channels => Some(format!("&us:{{{namespace}:*")),
            Self::Unknown(_) => None,
        }
    }

    fn name(&self, namespace: &str) -> String {
        match self {
            Self::Command(name) | Self::Unknown(name) => name.clone(),
            Self::Keys => format!("keys us:{{{namespace}:*"),
            Self::Channels => format!("channels us:{{{namespace}:*"),
        }
    }
}

/// Returns whether the ACL refuses.
pub(super) fn is_denied(details: &str) -> bool {
    details.starts_with("NOPERM")
        || details.contains("The user executing the script")
        || details.contains("ACL failure in script")
}

/// Returns whether the server does not know the command: as a client's, or as a script's.
fn is_unknown(details: &str) -> bool {
    let details = details.to_ascii_lowercase();
    ["unknown command", "unknown subcommand", "unknown library"]
        .iter()
        .any(|text| details.contains(text))
        || details.contains("unknown") && details.contains("command called from script")
}

/// Returns the text in the first quotes: ``unknown command `X` ``, `unknown command 'X'`.
fn quoted(details: &str) -> Option<&str> {
    let quote = |c| c == '\'' || c == '`';
    let (_, rest) = details.split_once(quote)?;
    rest.split(quote).next()
}

/// What is missing, and how to give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// `Auth` where the user lacks a right, `Settings` where only the server lacks a command.
    pub kind: ErrorKind,
    /// What is missing.
    pub found: String,
    /// How to give it.
    pub remedy: String,
}

impl Lack {
    pub(super) fn of(missing: &BTreeSet<MissingRight>, user: &str, namespace: &str) -> Self {
        let (unknown, denied): (Vec<_>, Vec<_>) = missing
            .iter()
            .partition(|right| matches!(right, MissingRight::Unknown(_)));
        let named = |rights: &[&MissingRight]| {
            let names: Vec<_> = rights.iter().map(|right| right.name(namespace)).collect();
            names.join(", ")
        };
        let (mut found, mut remedies) = (Vec::new(), Vec::new());
        if !denied.is_empty() {
            let rules: Vec<_> = denied.iter().filter_map(|r| r.rule(namespace)).collect();
            found.push(format!("Redis refuses user {user}: {}", named(&denied)));
            remedies.push(format!(
                "in redis-cli: ACL SETUSER {user} {}",
                rules.join(" ")
            ));
        }
        if !unknown.is_empty() {
            let names = named(&unknown);
            found.push(format!(
                "this server does not know {names} (renamed or forbidden by its host?)"
            ));
            remedies.push(format!("have its host allow {names}, or use another Redis"));
        }
        Self {
            kind: if denied.is_empty() {
                ErrorKind::Settings
            } else {
                ErrorKind::Auth
            },
            found: found.join("; "),
            remedy: remedies.join("; "),
        }
    }
}

/// Returns the error that says what is missing, and how to give it.
pub(super) fn error(missing: &BTreeSet<MissingRight>, user: &str, namespace: &str) -> Error {
    let lack = Lack::of(missing, user, namespace);
    Error::new(lack.kind, format!("{}; {}", lack.found, lack.remedy))
}

/// What probe.lua found.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) missing: BTreeSet<MissingRight>,
    /// `None` where `INFO` is refused.
    pub(super) product: Option<Product>,
}

/// Reads the answer of probe.lua.
pub(super) fn probed(answer: &Value) -> Result<Probed, Error> {
    let unexpected = || {
        Error::new(
            ErrorKind::Bus,
            "Redis answered probe with something unexpected",
        )
    };
    let Value::Array(values) = answer else {
        return Err(unexpected());
    };
    let (info, failed) = values.split_first().ok_or_else(unexpected)?;
    let (failed, []) = failed.as_chunks::<2>() else {
        return Err(unexpected());
    };
    let right = |[command, details]: &[Value; 2]| {
        MissingRight::of_command(&command.as_string()?, &details.as_string()?)
    };
    let info = info.as_string().filter(|info| !info.is_empty());
    Ok(Probed {
        missing: failed.iter().filter_map(right).collect(),
        product: info.map(|info| Product::of(&info)),
    })
}

/// Whether an instance can live there: an error that says what is missing, and how to give it.
pub(super) fn judge(
    probed: &Probed,
    clustered: bool,
    user: &str,
    namespace: &str,
) -> Result<(), Error> {
    if let Some(product) = &probed.product {
        product.judge(clustered)?;
    }
    if probed.missing.is_empty() {
        return Ok(());
    }
    Err(error(&probed.missing, user, namespace))
}

/// As [`error`], of one answer of the server to this user, on a namespace that is not known here; `None`
/// if it says something else.
pub(super) fn of_answer(answer: &FredError, user: &str) -> Option<Error> {
    let right = MissingRight::of(answer.details())?;
    Some(error(&BTreeSet::from([right]), user, "<namespace>"))
}

#[cfg(test)]
pub(super) mod tests;
