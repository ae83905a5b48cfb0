//! The encoding of an [`Event`].
//!
//! A version byte, then one MessagePack array, positional:
//!
//! ```text
//! 01  [origin, sent, [[cache, format, kind, hashes], ...]]
//! ```
//!
//! `kind` is 0 keys, 1 tags, 2 cache, 3 lane; `hashes` is a bin of packed big-endian 64-bit
//! hashes, empty for the last two. One key takes 43 bytes, each further key of its cache 8.
//!
//! A later version of the crate may append elements to the outer array and to each op: readers
//! ignore what they do not know there. A change of the meaning of existing elements must
//! take another version byte or another kind, which readers never skip but answer with a fence.
//! PROTOCOL.md says all this to writers in other languages.

use std::fmt;

use rmp_serde::decode::Error as RmpError;
use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::message::{Event, MAX_PAYLOAD, Op, What};

/// The version byte of this encoding.
const VERSION: u8 = 1;

const KEYS: u8 = 0;
const TAGS: u8 = 1;
const CACHE: u8 = 2;
const LANE: u8 = 3;

/// Bytes of a packed hash.
const HASH: usize = size_of::<u64>();

/// Bytes of the shortest op: an array's marker, three small integers, an empty bin.
/// The rest of a message bounds how many ops it can hold, however many its array length claims.
const SHORTEST_OP: usize = 6;

/// Nesting that is followed into. An event has three levels; the rest is for elements that later
/// versions append, and few enough that skipping them cannot exhaust the stack.
const MAX_DEPTH: usize = 16;

/// Why a payload is not an event.
///
/// No reason shows anything of the content, so that it may be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// Longer than [`MAX_PAYLOAD`], which also bounds what decoding allocates.
    TooLong,
    /// The first byte is another version's, or there is none.
    UnknownVersion,
    /// An op of a kind that this version does not know.
    UnknownKind,
    /// Not the MessagePack that an event is.
    Malformed,
    /// Bytes follow the event.
    Trailing,
    /// There is a key, and this was not made with it, or not for this namespace and lane.
    Unsigned,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the message is too long",
            Self::UnknownVersion => "the message has an unknown version",
            Self::UnknownKind => "the message has an operation of an unknown kind",
            Self::Malformed => "the message is malformed",
            Self::Trailing => "bytes follow the message",
            Self::Unsigned => "the message was not signed with this namespace's key",
        })
    }
}

impl std::error::Error for DecodeError {}

/// Encodes an event.
///
/// One that would be longer than `most` bytes becomes one that drops the whole lane: too much
/// is dropped, nothing is lost.
pub(crate) fn encode_within(event: &Event, most: usize) -> Vec<u8> {
    let bytes = write(event.origin, event.sent, &event.ops);
    if bytes.len() > most {
        return write(event.origin, event.sent, &[Op::lane()]);
    }
    bytes
}

/// Decodes a payload; allocates at most in proportion to its length.
pub(crate) fn decode(payload: &[u8]) -> Result<Event, DecodeError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(DecodeError::TooLong);
    }
    let Some((&VERSION, body)) = payload.split_first() else {
        return Err(DecodeError::UnknownVersion);
    };
    let mut rmp = reader(body);
    let event = read(&mut rmp, body.len())?;
    // The reader does not tell its position, but only at the end is there no next marker.
    match u8::deserialize(&mut rmp) {
        Err(RmpError::InvalidMarkerRead(_)) => Ok(event),
        _ => Err(DecodeError::Trailing),
    }
}

type Reader<'a> = rmp_serde::Deserializer<rmp_serde::decode::ReadRefReader<'a, [u8]>>;

fn reader(body: &[u8]) -> Reader<'_> {
    let mut rmp = rmp_serde::Deserializer::from_read_ref(body);
    rmp.set_max_depth(MAX_DEPTH);
    rmp
}

fn read(rmp: &mut Reader<'_>, length: usize) -> Result<Event, DecodeError> {
    let mut unknown_kind = false;
    let seed = EventSeed {
        most_ops: length / SHORTEST_OP,
        unknown_kind: &mut unknown_kind,
    };
    match seed.deserialize(rmp) {
        Ok(event) => Ok(event),
        Err(_) if unknown_kind => Err(DecodeError::UnknownKind),
        Err(_) => Err(DecodeError::Malformed),
    }
}

fn write(origin: u64, sent: u64, ops: &[Op]) -> Vec<u8> {
    let hashes: usize = ops.iter().map(|op| op.what.hashes().len()).sum();
    // 24 bytes for the frame and 20 for an op hold their largest integers, so nothing reallocates.
    let mut out = Vec::with_capacity(24 + 20 * ops.len() + HASH * hashes);
    out.push(VERSION);
    (origin, sent, ops)
        .serialize(&mut rmp_serde::Serializer::new(&mut out))
        .expect("integers, bytes and arrays of known length can be written to a vector");
    out
}

impl What {
    fn kind(&self) -> u8 {
        match self {
            Self::Keys(_) => KEYS,
            Self::Tags(_) => TAGS,
            Self::Cache => CACHE,
            Self::Lane => LANE,
        }
    }

    fn hashes(&self) -> &[u64] {
        match self {
            Self::Keys(hashes) | Self::Tags(hashes) => hashes,
            Self::Cache | Self::Lane => &[],
        }
    }
}

impl Serialize for Op {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut packed = Vec::with_capacity(HASH * self.what.hashes().len());
        for hash in self.what.hashes() {
            packed.extend_from_slice(&hash.to_be_bytes());
        }
        (
            self.cache,
            self.format,
            self.what.kind(),
            serde_bytes::Bytes::new(&packed),
        )
            .serialize(serializer)
    }
}

/// Reads `[origin, sent, ops, ...]`.
struct EventSeed<'a> {
    most_ops: usize,
    unknown_kind: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for EventSeed<'_> {
    type Value = Event;

    // `any`, here and below: `seq` would take a bin for an array of small integers.
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Event, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EventSeed<'_> {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Event, A::Error> {
        let origin = required(seq.next_element()?)?;
        let sent = required(seq.next_element()?)?;
        let ops = required(seq.next_element_seed(OpsSeed(self))?)?;
        skip_rest(seq)?;
        Ok(Event { origin, sent, ops })
    }
}

/// Reads the array of ops.
struct OpsSeed<'a>(EventSeed<'a>);

impl<'de> DeserializeSeed<'de> for OpsSeed<'_> {
    type Value = Vec<Op>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Op>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OpsSeed<'_> {
    type Value = Vec<Op>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of operations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Op>, A::Error> {
        let EventSeed {
            most_ops,
            unknown_kind,
        } = self.0;
        let mut ops = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(most_ops));
        while let Some(op) = seq.next_element_seed(OpSeed { unknown_kind })? {
            ops.push(op);
        }
        Ok(ops)
    }
}

/// Reads `[cache, format, kind, hashes, ...]`.
struct OpSeed<'a> {
    unknown_kind: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for OpSeed<'_> {
    type Value = Op;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Op, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OpSeed<'_> {
    type Value = Op;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an operation")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Op, A::Error> {
        let cache = required(seq.next_element()?)?;
        let format = required(seq.next_element()?)?;
        let kind: u8 = required(seq.next_element()?)?;
        if kind > LANE {
            // What follows may have any shape: only the kind says how to read it.
            *self.unknown_kind = true;
            return Err(A::Error::custom("unknown kind"));
        }
        let hashes = required(seq.next_element_seed(HashesSeed)?)?;
        let what = match kind {
            KEYS => What::Keys(hashes),
            TAGS => What::Tags(hashes),
            CACHE if hashes.is_empty() => What::Cache,
            LANE if hashes.is_empty() => What::Lane,
            _ => return Err(A::Error::custom("hashes where there can be none")),
        };
        skip_rest(seq)?;
        Ok(Op {
            cache,
            format,
            what,
        })
    }
}

/// Reads a bin of packed hashes.
struct HashesSeed;

impl<'de> DeserializeSeed<'de> for HashesSeed {
    type Value = Vec<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u64>, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for HashesSeed {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("packed hashes")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Vec<u64>, E> {
        let (hashes, rest) = bytes.as_chunks::<HASH>();
        if !rest.is_empty() {
            return Err(E::custom("not a whole number of hashes"));
        }
        Ok(hashes
            .iter()
            .map(|hash| u64::from_be_bytes(*hash))
            .collect())
    }
}

fn required<T, E: serde::de::Error>(element: Option<T>) -> Result<T, E> {
    element.ok_or_else(|| E::custom("an element is missing"))
}

/// Ignores the elements that a later version appended.
fn skip_rest<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}
