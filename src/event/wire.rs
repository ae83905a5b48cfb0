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
//! ignore what they do not know there. Whatever changes the meaning of what is there already must
//! take another version byte or another kind, which readers never skip but answer with a fence.
//! PROTOCOL.md says all this to writers in other languages.

use std::fmt;

use rmp::Marker;
use rmp::decode::{read_array_len, read_bin_len, read_int, read_marker};
use rmp::encode::{ValueWriteError, write_array_len, write_bin_len, write_uint};

use super::{Event, Op, What};
use crate::bus::MAX_PAYLOAD;

/// The version byte of this encoding.
const VERSION: u8 = 1;

const KEYS: u8 = 0;
const TAGS: u8 = 1;
const CACHE: u8 = 2;
const LANE: u8 = 3;

/// Bytes of a packed hash.
const HASH: usize = size_of::<u64>();

/// Elements of an event and of an op that this version knows.
const EVENT_LEN: u32 = 3;
const OP_LEN: u32 = 4;

/// Bytes of the shortest op: an array's marker, three small integers, an empty bin.
/// What is left of a message bounds how many ops it can hold, whatever its array length claims.
const SHORTEST_OP: usize = 6;

/// Why a payload is not an event.
///
/// None says anything of the content, so that it may go into a log.
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
    let mut body = body(payload)?;
    let event = read_event(&mut body)?;
    if body.is_empty() {
        Ok(event)
    } else {
        Err(DecodeError::Trailing)
    }
}

/// As [`decode`], of a payload that something may follow which only its subscribers understand.
pub(crate) fn decode_prefix(payload: &[u8]) -> Result<Event, DecodeError> {
    read_event(&mut body(payload)?)
}

fn write(origin: u64, sent: u64, ops: &[Op]) -> Vec<u8> {
    let hashes: usize = ops.iter().map(|op| op.what.hashes().len()).sum();
    // 24 bytes for the frame and 20 for an op hold their largest integers, so nothing reallocates.
    let mut out = Vec::with_capacity(24 + 20 * ops.len() + HASH * hashes);
    out.push(VERSION);
    write_event(&mut out, origin, sent, ops).expect("a vector takes whatever is written to it");
    out
}

fn write_event(
    out: &mut Vec<u8>,
    origin: u64,
    sent: u64,
    ops: &[Op],
) -> Result<(), ValueWriteError> {
    write_array_len(out, EVENT_LEN)?;
    write_uint(out, origin)?;
    write_uint(out, sent)?;
    write_array_len(out, ops.len() as u32)?;
    for op in ops {
        write_array_len(out, OP_LEN)?;
        write_uint(out, op.cache.into())?;
        write_uint(out, op.format.into())?;
        write_uint(out, op.what.kind().into())?;
        let hashes = op.what.hashes();
        write_bin_len(out, (HASH * hashes.len()) as u32)?;
        for hash in hashes {
            out.extend_from_slice(&hash.to_be_bytes());
        }
    }
    Ok(())
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

/// What follows the version byte, if it is this version's.
fn body(payload: &[u8]) -> Result<&[u8], DecodeError> {
    match payload.split_first() {
        Some((&VERSION, body)) => Ok(body),
        _ => Err(DecodeError::UnknownVersion),
    }
}

/// Reads `[origin, sent, ops, ...]`.
fn read_event(body: &mut &[u8]) -> Result<Event, DecodeError> {
    let appended = read_array(body, EVENT_LEN)?;
    let origin = read_int(body).map_err(malformed)?;
    let sent = read_int(body).map_err(malformed)?;
    let count = read_array_len(body).map_err(malformed)?;
    let mut ops = Vec::with_capacity((count as usize).min(body.len() / SHORTEST_OP));
    // Each op takes bytes, so that a count nobody sent ends with the message.
    for _ in 0..count {
        ops.push(read_op(body)?);
    }
    skip(body, appended)?;
    Ok(Event { origin, sent, ops })
}

/// Reads `[cache, format, kind, hashes, ...]`.
fn read_op(body: &mut &[u8]) -> Result<Op, DecodeError> {
    let after_kind = read_array(body, OP_LEN - 1)?;
    let cache = read_int(body).map_err(malformed)?;
    let format = read_int(body).map_err(malformed)?;
    let kind: u64 = read_int(body).map_err(malformed)?;
    // What follows an unknown kind may have any shape: only the kind says how to read it.
    let Some(kind) = u8::try_from(kind).ok().filter(|kind| *kind <= LANE) else {
        return Err(DecodeError::UnknownKind);
    };
    let appended = after_kind.checked_sub(1).ok_or(DecodeError::Malformed)?;
    let hashes = read_hashes(body)?;
    let what = match kind {
        KEYS => What::Keys(hashes),
        TAGS => What::Tags(hashes),
        // There can be no hashes.
        _ if !hashes.is_empty() => return Err(DecodeError::Malformed),
        CACHE => What::Cache,
        _ => What::Lane,
    };
    skip(body, appended)?;
    Ok(Op {
        cache,
        format,
        what,
    })
}

/// Reads a bin of packed hashes. Nothing else will do, above all no string: what some of them say
/// would be taken for hashes, and what others say would not.
fn read_hashes(body: &mut &[u8]) -> Result<Vec<u64>, DecodeError> {
    let length = read_bin_len(body).map_err(malformed)?;
    let (hashes, rest) = take(body, length.into())?.as_chunks::<HASH>();
    if !rest.is_empty() {
        return Err(DecodeError::Malformed);
    }
    let hashes = hashes.iter().map(|hash| u64::from_be_bytes(*hash));
    Ok(hashes.collect())
}

/// Begins an array that has at least these elements; how many more it has.
fn read_array(body: &mut &[u8], known: u32) -> Result<u32, DecodeError> {
    let length = read_array_len(body).map_err(malformed)?;
    length.checked_sub(known).ok_or(DecodeError::Malformed)
}

/// Ignores what a later version appended: this many values of any shape.
///
/// Not a call for each level, since nobody bounds their nesting. Each value takes a byte at least,
/// so that this ends with the message, whatever lengths it claims.
fn skip(body: &mut &[u8], values: u32) -> Result<(), DecodeError> {
    let mut left = u64::from(values);
    while left > 0 {
        let marker = read_marker(body).map_err(malformed)?;
        let (bytes, within) = content(marker, body)?;
        take(body, bytes)?;
        left = (left - 1).saturating_add(within);
    }
    Ok(())
}

/// Of a value that begins with this marker: its bytes, and the values in it.
fn content(marker: Marker, body: &mut &[u8]) -> Result<(u64, u64), DecodeError> {
    let mut length = |bytes: u64| -> Result<u64, DecodeError> {
        let length = take(body, bytes)?.iter();
        Ok(length.fold(0, |length, byte| length << 8 | u64::from(*byte)))
    };
    Ok(match marker {
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => {
            (0, 0)
        }
        Marker::U8 | Marker::I8 => (1, 0),
        // An extension has a byte more than its name says, for its type.
        Marker::U16 | Marker::I16 | Marker::FixExt1 => (2, 0),
        Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
        Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
        Marker::FixStr(length) => (length.into(), 0),
        Marker::Str8 | Marker::Bin8 => (length(1)?, 0),
        Marker::Str16 | Marker::Bin16 => (length(2)?, 0),
        Marker::Str32 | Marker::Bin32 => (length(4)?, 0),
        Marker::FixExt2 => (3, 0),
        Marker::FixExt4 => (5, 0),
        Marker::FixExt8 => (9, 0),
        Marker::FixExt16 => (17, 0),
        Marker::Ext8 => (length(1)? + 1, 0),
        Marker::Ext16 => (length(2)? + 1, 0),
        Marker::Ext32 => (length(4)? + 1, 0),
        Marker::FixArray(values) => (0, values.into()),
        Marker::Array16 => (0, length(2)?),
        Marker::Array32 => (0, length(4)?),
        // A key and a value each.
        Marker::FixMap(pairs) => (0, 2 * u64::from(pairs)),
        Marker::Map16 => (0, 2 * length(2)?),
        Marker::Map32 => (0, 2 * length(4)?),
        Marker::Reserved => return Err(DecodeError::Malformed),
    })
}

/// The next bytes of the message.
fn take<'a>(body: &mut &'a [u8], bytes: u64) -> Result<&'a [u8], DecodeError> {
    let bytes = usize::try_from(bytes).map_err(malformed)?;
    body.split_off(..bytes).ok_or(DecodeError::Malformed)
}

/// None of the reasons for which MessagePack cannot be read matters to anybody.
fn malformed<E>(_: E) -> DecodeError {
    DecodeError::Malformed
}
