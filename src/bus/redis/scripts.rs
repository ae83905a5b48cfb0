//! The scripts, the names they work on, and what their answers mean.

use std::time::Duration;

use bytes::Bytes;
use fred::bytes_utils::Str;
use fred::types::Value;

use super::error;
use crate::Error;
use crate::bus::{Counted, Journal, Marked, Position, Reached};
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
    Deliver,
    Mark,
    Probe,
}

/// Each script with the parts it shares put in front.
pub(super) const SOURCES: [&str; 10] = [
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
    concat!(
        include_str!("lua/lane.lua"),
        include_str!("lua/deliver.lua")
    ),
    include_str!("lua/mark.lua"),
    include_str!("lua/probe.lua"),
];

/// What a message on a lane's channel begins with: epoch and first sequence, big-endian.
pub(super) const HEADER: usize = 16;

/// What is in front of each payload: its length, big-endian.
const LENGTH: usize = 4;

/// The largest message on a channel that any instance takes: one event as long as any, or several.
pub(super) const MAX_MESSAGE: usize = HEADER + LENGTH + MAX_PAYLOAD;

/// The names of one lane. They share a hash tag, so that one node of a cluster holds them all.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Hash: `q` sequence, `e` epoch, `r` the server's run id and replication id, `l` lanes; `v` and `x` of marks.
    pub(super) state: Str,
    /// Stream of the latest events.
    pub(super) journal: Str,
    /// Message: what waits to be delivered.
    pub(super) waiting: Str,
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
            waiting: name("d"),
            members: name("m"),
            intents: name("w"),
            history: name("r"),
            formats: name("f"),
            value: name("v"),
            nothing: name("x"),
            channel: name(&format!("e{database}")),
        }
    }

    /// Returns the keys of probe.lua.
    pub(super) fn probed(&self) -> [&Str; 9] {
        [
            &self.state,
            &self.journal,
            &self.waiting,
            &self.members,
            &self.intents,
            &self.history,
            &self.formats,
            &self.value,
            &self.nothing,
        ]
    }

    /// Returns a channel without listeners, below the lane's own: the patterns that allow one allow the other.
    pub(super) fn unused_channel(&self) -> Str {
        format!("{}:{:016x}", self.channel, fastrand::u64(..)).into()
    }

    /// Returns the end of the channel's name, which publish.lua cannot derive from the state's name.
    pub(super) fn channel_end(&self) -> &str {
        &self.channel[self.state.len() - 1..]
    }
}

/// What verify.lua returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) head: Position,
    pub(super) known: bool,
    pub(super) recovered: u32,
    /// Dead members are left: the head does not cover their intents yet.
    pub(super) more: bool,
    /// In what time events up to the head have been delivered.
    pub(super) wait: Duration,
    /// The pause between two messages to many subscribers.
    pub(super) pause: Duration,
    /// The other members, where the caller was not known.
    pub(super) others: Option<u32>,
    /// What the instance's sources are marked with.
    pub(super) counted: Counted,
    /// How many of the other members that were looked at refuse this instance's events, or publish events
    /// that are refused here.
    pub(super) disagree: u32,
}

/// Returns the events of a message on a lane's channel, which follow each other; `None` if it is none.
pub(super) fn message(bytes: &[u8]) -> Option<Vec<(Position, Bytes)>> {
    let (header, mut rest) = bytes.split_first_chunk::<HEADER>()?;
    let packed = u128::from_be_bytes(*header);
    let (epoch, mut sequence) = ((packed >> 64) as u64, packed as u64);
    let mut events = Vec::with_capacity(1);
    while let Some((length, from)) = rest.split_first_chunk::<LENGTH>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (payload, next) = from.split_at_checked(length)?;
        if length > MAX_PAYLOAD {
            return None;
        }
        // Copied, because a slice would keep the whole message alive.
        let payload = Bytes::copy_from_slice(payload);
        events.push((Position { epoch, sequence }, payload));
        sequence = sequence.checked_add(1)?;
        rest = next;
    }
    (rest.is_empty() && !events.is_empty()).then_some(events)
}

/// A message that many subscribers get: when it was sent, by the server's clock, and how many they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) at: u64,
    pub(super) receivers: u64,
}

/// What a publisher is to call deliver.lua for.
#[derive(Clone, Copy, Debug)]
pub(super) enum ComeBack {
    /// To deliver what waits then.
    In(Duration),
    /// To measure at once how long the server writes to the subscribers.
    Measure(Sent),
}

/// Returns where an event was published, and what to come back for.
pub(super) fn published(value: &Value) -> Result<(Position, Option<ComeBack>), Error> {
    let parse = || {
        let Value::Array(values) = value else {
            return None;
        };
        let wait = Duration::from_micros(number(values.get(2)?)?);
        let come_back = if wait.is_zero() {
            sent(values.get(3..)?)?.map(ComeBack::Measure)
        } else {
            Some(ComeBack::In(wait))
        };
        Some((head(values)?, come_back))
    };
    parse().ok_or_else(|| error::unexpected("publish"))
}

/// Returns what deliver.lua has sent, if that is to be measured.
pub(super) fn delivered(value: &Value) -> Option<Sent> {
    match value {
        Value::Array(values) => sent(values)?,
        _ => None,
    }
}

fn sent(values: &[Value]) -> Option<Option<Sent>> {
    let [at, receivers] = values else {
        return None;
    };
    let (at, receivers) = (number(at)?, number(receivers)?);
    Some((receivers > 0).then_some(Sent { at, receivers }))
}

pub(super) fn beat(value: &Value) -> Result<Beat, Error> {
    let parse = || {
        let Value::Array(values) = value else {
            return None;
        };
        let [
            _,
            _,
            known,
            recovered,
            more,
            disagree,
            wait,
            pause,
            others,
            counted @ ..,
        ] = values.as_slice()
        else {
            return None;
        };
        let known = number(known)? != 0;
        Some(Beat {
            head: head(values)?,
            known,
            recovered: number(recovered)?.try_into().ok()?,
            more: number(more)? != 0,
            disagree: number(disagree)?.try_into().ok()?,
            wait: Duration::from_micros(number(wait)?),
            pause: Duration::from_micros(number(pause)?),
            others: match known {
                true => None,
                false => Some(number(others)?.try_into().ok()?),
            },
            counted: self::counted(counted)?,
        })
    };
    parse().ok_or_else(|| error::unexpected("verify"))
}

/// Returns a number, and the marks of the sources in their order, each a number and a place; the number is
/// below zero where there is none.
fn counted(values: &[Value]) -> Option<Counted> {
    let [of, marks @ ..] = values else {
        return Some(Counted::default());
    };
    let marks = marks.chunks_exact(2).enumerate();
    Some(Counted {
        number: number(of)?,
        marks: marks
            .filter_map(|(source, mark)| {
                let [of, place] = mark else { return None };
                let reached = Reached {
                    number: number(of)?,
                    place: place.as_str()?.parse().ok()?,
                };
                Some((source, reached))
            })
            .collect(),
    })
}

/// Returns what mark.lua returned.
pub(super) fn marked(value: &Value) -> Result<Marked, Error> {
    let parse = || {
        let Value::Array(values) = value else {
            return None;
        };
        let [epoch, last, set, refused] = values.as_slice() else {
            return None;
        };
        Some(Marked {
            epoch: number(epoch)?,
            number: number(last)?,
            set: number(set)? != 0,
            refused: number(refused)? != 0,
        })
    };
    parse().ok_or_else(|| error::unexpected("mark"))
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
            assert_eq!(names.waiting, vector.text("waiting"));
        }
    }

    #[test]
    fn a_malformed_message_is_none() {
        let head = [0; HEADER];
        let event = |length: u32, bytes: &[u8]| [&length.to_be_bytes()[..], bytes].concat();
        let bad = [
            Vec::new(),
            head[1..].to_vec(),
            head.to_vec(),
            [&head[..], &event(2, b"x")].concat(),
            [&head[..], &event(1, b"xy")].concat(),
            // As it was before events had lengths.
            [&head[..], b"\x01\x93\x01\x02\x90"].concat(),
        ];
        for bytes in bad {
            assert!(message(&bytes).is_none(), "{bytes:?}");
        }
        let two = [&head[..], &event(0, b""), &event(1, b"x")].concat();
        assert_eq!(message(&two).expect("two events").len(), 2);
    }

    #[test]
    fn messages_are_those_of_the_protocol() {
        for vector in vectors("messages") {
            let bytes = vector.bytes("message");
            let earlier = crate::event::decode(&bytes[HEADER..]);
            assert!(earlier.is_err(), "an earlier version refuses it");
            let events = message(&bytes).expect("a message");
            let (epoch, first): (u64, u64) = (vector.number("epoch"), vector.number("sequence"));
            let payloads = vector.all_bytes("payloads");
            assert_eq!(events.len(), payloads.len());
            for ((n, expected), (position, payload)) in (0..).zip(payloads).zip(events) {
                let sequence = first + n;
                assert_eq!(position, Position { epoch, sequence });
                assert_eq!(payload, expected);
            }
        }
    }
}
