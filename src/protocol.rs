//! PROTOCOL.md, read by the unit tests: what it says is what the code does, and there is no second
//! copy of a test vector.

use std::fmt::Debug;
use std::str::FromStr;

use serde_json::Value;

const TEXT: &str = include_str!("../PROTOCOL.md");

/// Returns the vectors in the block of this name, which are never none.
pub(crate) fn vectors(name: &str) -> Vec<Vector> {
    let begin = format!("\n```jsonl {name}\n");
    let (_, after) = TEXT
        .split_once(&begin)
        .unwrap_or_else(|| unreachable!("PROTOCOL.md has no block {begin:?}"));
    let (block, _) = after.split_once("\n```").expect("the block ends");
    block.lines().map(Vector::parse).collect()
}

/// One line of a block.
#[derive(Debug)]
pub(crate) struct Vector(Value);

impl Vector {
    fn parse(line: &str) -> Self {
        Self(serde_json::from_str(line).unwrap_or_else(|error| unreachable!("{line}: {error}")))
    }

    pub(crate) fn text(&self, member: &str) -> &str {
        let value = self.0[member].as_str();
        value.unwrap_or_else(|| unreachable!("{member} of {self:?}"))
    }

    pub(crate) fn number<T: TryFrom<u64>>(&self, member: &str) -> T {
        let value = self.0[member].as_u64().and_then(|n| n.try_into().ok());
        value.unwrap_or_else(|| unreachable!("{member} of {self:?}"))
    }

    /// Returns a number of 64 bits, in hexadecimal.
    pub(crate) fn hex(&self, member: &str) -> u64 {
        hex(self.text(member))
    }

    /// Bytes in hexadecimal; spaces are for the eye.
    pub(crate) fn bytes(&self, member: &str) -> Vec<u8> {
        unhex(self.text(member))
    }

    #[cfg(feature = "relay")]
    pub(crate) fn texts(&self, member: &str) -> Vec<String> {
        let list = self.0[member].as_array().expect("a list");
        let text = |it: &Value| it.as_str().expect("text").to_owned();
        list.iter().map(text).collect()
    }

    /// Several of [`bytes`](Self::bytes).
    pub(crate) fn all_bytes(&self, member: &str) -> Vec<Vec<u8>> {
        let list = self.0[member].as_array().expect("a list");
        let text = |it: &Value| unhex(it.as_str().expect("text"));
        list.iter().map(text).collect()
    }

    pub(crate) fn list(&self, member: &str) -> Vec<Self> {
        let list = self.0[member].as_array().expect("a list");
        list.iter().cloned().map(Self).collect()
    }

    pub(crate) fn hexes(&self, member: &str) -> Vec<u64> {
        let list = self.0[member].as_array().expect("a list");
        list.iter()
            .map(|n| hex(n.as_str().expect("text")))
            .collect()
    }

    /// Returns the `n`th part of a key.
    pub(crate) fn part<T: FromStr<Err: Debug>>(&self, n: usize) -> T {
        let part = self.0["parts"][n].as_str().expect("text");
        part.parse().expect("a part of the key's type")
    }
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).expect("hexadecimal digits")
}

#[test]
fn bounds_are_those_of_the_code() {
    for vector in vectors("bounds") {
        let bound = match vector.text("what") {
            "bytes of an event" => crate::event::MAX_PAYLOAD,
            "bytes of a key's parts" => crate::key::encoder::MAX_KEY_BYTES,
            "keys in an event" => crate::coherence::outbox::GROUP_KEYS,
            "hashes in a transaction's message" => crate::instance::statement::MOST_HASHES,
            "operations in a transaction's message" => 2 * crate::instance::statement::MOST_CACHES,
            other => unreachable!("{other}"),
        };
        assert_eq!(vector.number::<usize>("most"), bound, "{vector:?}");
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
    let pair = |pair: &[u8]| hex(std::str::from_utf8(pair).expect("ASCII")) as u8;
    digits.chunks(2).map(pair).collect()
}
