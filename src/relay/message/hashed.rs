//! What a program has hashed itself: the operations of an event, as JSON.
//!
//! Such a content may be long, so it is read without a tree of its values.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use crate::event::{Op, What};
use crate::instance::statement::{MOST_CACHES, MOST_HASHES};

/// Keys and tags of every cache.
pub(super) const MOST_OPERATIONS: usize = 2 * MOST_CACHES;

/// Digits of a hash.
const DIGITS: usize = 16;

/// Longest content that a statement has: no operation takes more than 32 bytes beside its hashes.
pub(super) const LONGEST: usize = DIGITS * MOST_HASHES + 32 * MOST_OPERATIONS + 16;

pub(super) struct Hashed(pub(super) Vec<Op>);

impl Hashed {
    /// `None` for any other content.
    pub(super) fn parse(content: &[u8]) -> Option<Self> {
        if content.len() > LONGEST {
            return None;
        }
        serde_json::from_slice(content).ok()
    }
}

impl<'de> Deserialize<'de> for Hashed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Operations)
    }
}

struct Operations;

impl<'de> Visitor<'de> for Operations {
    type Value = Hashed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`h` and operations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Hashed, A::Error> {
        if seq.next_element::<&str>()? != Some("h") {
            return Err(A::Error::custom("another kind"));
        }
        let mut ops = Vec::new();
        while let Some((cache, format, kind, hashes)) = seq.next_element()? {
            let what = what(kind, hashes).ok_or_else(|| A::Error::custom("no operation"))?;
            ops.push(Op {
                cache,
                format,
                what,
            });
            if ops.len() > MOST_OPERATIONS {
                return Err(A::Error::custom("too many operations"));
            }
        }
        Ok(Hashed(ops))
    }
}

fn what(kind: u8, digits: &str) -> Option<What> {
    match kind {
        0 => hashes(digits).map(What::Keys),
        1 => hashes(digits).map(What::Tags),
        2 if digits.is_empty() => Some(What::Cache),
        3 if digits.is_empty() => Some(What::Lane),
        _ => None,
    }
}

fn hashes(digits: &str) -> Option<Vec<u64>> {
    let digits = digits.as_bytes();
    // A number may have a sign for the standard library.
    if !digits.len().is_multiple_of(DIGITS) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let hash = |digits: &[u8]| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    digits.chunks(DIGITS).map(hash).collect()
}
