//! The scripts, the names they work on, and what their answers mean.

use bytes::Bytes;
use fred::bytes_utils::Str;
use fred::types::Value;

use super::error;
use crate::Error;
use crate::bus::{Journal, Position};
use crate::event::MAX_PAYLOAD;

/// One of the scripts; also its place in [`SOURCES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Publish,
    Verify,
    Journal,
    Announce,
    Leave,
    Fetch,
    Put,
    Probe,
}

/// Each script with the parts it shares put in front.
pub(super) const SOURCES: [&str; 8] = [
    concat!(
        include_str!("lua/lane.lua"),
        include_str!("lua/publish.lua")
    ),
    concat!(
        include_str!("lua/lane.lua"),
        include_str!("lua/members.lua"),
        include_str!("lua/verify.lua")
    ),
    include_str!("lua/journal.lua"),
    concat!(
        include_str!("lua/members.lua"),
        include_str!("lua/announce.lua")
    ),
    include_str!("lua/leave.lua"),
    concat!(include_str!("lua/tier.lua"), include_str!("lua/fetch.lua")),
    concat!(include_str!("lua/tier.lua"), include_str!("lua/put.lua")),
    include_str!("lua/probe.lua"),
];

/// What a lane's channel carries in front of each payload: epoch and sequence, big-endian.
pub(super) const HEADER: usize = 16;

/// The largest message on a channel that any instance takes.
pub(super) const MAX_MESSAGE: usize = HEADER + MAX_PAYLOAD;

/// The names of one lane. They share a hash tag, so that one node of a cluster holds them all.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Hash: `q` sequence, `e` epoch, `r` the server's run id and replication id, `l` lanes.
    pub(super) state: Str,
    /// Stream of the latest events.
    pub(super) journal: Str,
    /// Sorted set of members and of recovered intents.
    pub(super) members: Str,
    /// Hash of open intents.
    pub(super) intents: Str,
    /// Sorted set: the shared tier's history of invalidations, with its floor.
    pub(super) history: Str,
    /// Hash: what the history covers, and the formats of caches.
    pub(super) formats: Str,
    /// Begins the names of values in the shared tier.
    pub(super) value: Str,
    /// Never exists; lets the probe try DEL.
    pub(super) nothing: Str,
    /// Where events are published. Ends with the number of the database, which pub/sub itself
    /// ignores; in a cluster, which has none, with no number: lane.lua goes by that.
    pub(super) channel: Str,
}

impl Names {
    pub(super) fn new(namespace: &str, lane: u32, database: Option<u8>) -> Self {
        let database = database.map_or_else(String::new, |database| database.to_string());
        let name = |suffix: &str| Str::from(format!("us:{{{namespace}:{lane}}}{suffix}"));
        Self {
            state: name("s"),
            journal: name("j"),
            members: name("m"),
            intents: name("w"),
            history: name("r"),
            formats: name("f"),
            value: name("v"),
            nothing: name("x"),
            channel: name(&format!("e{database}")),
        }
    }

    /// The keys of probe.lua.
    pub(super) fn probed(&self) -> [&Str; 8] {
        [
            &self.state,
            &self.journal,
            &self.members,
            &self.intents,
            &self.history,
            &self.formats,
            &self.value,
            &self.nothing,
        ]
    }

    /// A channel without listeners, below the lane's own: the patterns that allow one allow the other.
    pub(super) fn unused_channel(&self) -> Str {
        format!("{}:{:016x}", self.channel, fastrand::u64(..)).into()
    }

    /// What publish.lua cannot tell from the state's name, which has one letter where this is.
    pub(super) fn channel_end(&self) -> &str {
        &self.channel[self.state.len() - 1..]
    }
}

/// What verify.lua returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) head: Position,
    pub(super) known: bool,
    pub(super) recovered: u32,
    /// Dead members are left: the head does not cover their intents yet.
    pub(super) more: bool,
    /// The other members, where the caller was not known.
    pub(super) others: Option<u32>,
    /// Of the other members that were looked at, those whose events are not believed here, or that do not
    /// believe this instance's.
    pub(super) disagree: u32,
}

/// A message on a lane's channel; `None` if it is too short or too long to be one.
pub(super) fn message(bytes: &[u8]) -> Option<(Position, Bytes)> {
    let (header, payload) = bytes.split_first_chunk::<HEADER>()?;
    if payload.len() > MAX_PAYLOAD {
        return None;
    }
    let packed = u128::from_be_bytes(*header);
    let position = Position {
        epoch: (packed >> 64) as u64,
        sequence: packed as u64,
    };
    // Copied, because a slice would keep the connection's whole read buffer alive.
    Some((position, Bytes::copy_from_slice(payload)))
}

pub(super) fn position(value: &Value) -> Result<Position, Error> {
    let Value::Array(values) = value else {
        return Err(error::unexpected("publish"));
    };
    head(values).ok_or_else(|| error::unexpected("publish"))
}

pub(super) fn beat(value: &Value) -> Result<Beat, Error> {
    let parse = || {
        let Value::Array(values) = value else {
            return None;
        };
        let [_, _, known, recovered, more, disagree, others @ ..] = values.as_slice() else {
            return None;
        };
        Some(Beat {
            head: head(values)?,
            known: number(known)? != 0,
            recovered: number(recovered)?.try_into().ok()?,
            more: number(more)? != 0,
            disagree: number(disagree)?.try_into().ok()?,
            others: match others {
                [others, ..] => Some(number(others)?.try_into().ok()?),
                [] => None,
            },
        })
    };
    parse().ok_or_else(|| error::unexpected("verify"))
}

pub(super) fn journal(value: &Value) -> Result<Journal, Error> {
    let parse = || {
        let Value::Array(values) = value else {
            return None;
        };
        let (pairs, []) = values.get(2..)?.as_chunks::<2>() else {
            return None;
        };
        let event = |[sequence, payload]: &[Value; 2]| {
            Some((
                number(sequence)?,
                Bytes::copy_from_slice(payload.as_bytes()?),
            ))
        };
        Some(Journal {
            head: head(values)?,
            events: pairs.iter().map(event).collect::<Option<_>>()?,
        })
    };
    parse().ok_or_else(|| error::unexpected("journal"))
}

pub(super) fn flag(value: &Value) -> Result<bool, Error> {
    number(value)
        .map(|n| n != 0)
        .ok_or_else(|| error::unexpected("a flag"))
}

pub(super) fn head(values: &[Value]) -> Option<Position> {
    let [epoch, sequence, ..] = values else {
        return None;
    };
    Some(Position {
        epoch: number(epoch)?,
        sequence: number(sequence)?,
    })
}

pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(n) => u64::try_from(*n).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::vectors;

    #[test]
    fn names_are_those_of_the_protocol() {
        for vector in vectors("names") {
            let (lane, database) = (vector.number("lane"), vector.number("database"));
            let names = Names::new(vector.text("namespace"), lane, Some(database));
            assert_eq!(names.channel, vector.text("channel"));
            let end = format!("e{database}");
            assert_eq!(names.channel_end(), end);
            assert_eq!(names.state, vector.text("state"));
            assert_eq!(names.journal, vector.text("journal"));
        }
    }

    #[test]
    fn messages_are_those_of_the_protocol() {
        for vector in vectors("messages") {
            let (position, payload) = message(&vector.bytes("message")).expect("a message");
            let (epoch, sequence) = (vector.number("epoch"), vector.number("sequence"));
            assert_eq!(position, Position { epoch, sequence });
            assert_eq!(payload, vector.bytes("payload"));
        }
    }
}
