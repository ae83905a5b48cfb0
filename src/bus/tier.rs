//! The shared tier as the bus sees it: values in Redis, and what decides whether one still counts.
//!
//! A value's *head* is what the scripts read: where its load stood in the lane, how long it lives, a
//! digest, a MAC, its tags. What follows is the client's own and opaque to the bus. A lane keeps one capped
//! *history* of its latest invalidations with a *floor*; a value counts if it is of the lane's epoch,
//! not below the floor and not older than an invalidation of its key, its tags or its cache.

#![cfg_attr(
    not(feature = "shared"),
    allow(dead_code, reason = "used only with feature `shared`")
)]

use bytes::Bytes;

use crate::bus::position::Position;

/// Invalidations that a lane's history keeps at most; older ones become its floor, below which no
/// value counts. 65,536 take about 7 MB of Redis, and at 1,000 invalidations a second a value may
/// still live for a minute.
pub(crate) const HISTORY: usize = 65_536;

/// Caches that a lane's history distinguishes at most: far more than any fleet has, few enough that
/// names of caches cannot fill Redis.
pub(crate) const HISTORY_CACHES: usize = 4_096;

/// Tags that a value may have: their number is a byte.
pub(crate) const MOST_TAGS: usize = 255;

/// A value's name in Redis: 128 bits in base64.
pub(crate) type Name = [u8; 22];

/// What a value is, apart from all others: first bytes of a digest of everything in it.
pub(crate) type Digest = [u8; 16];

/// Names one attempt to load for the whole fleet.
pub(crate) type ClaimId = [u8; 16];

/// What the history knows a value by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) cache: u32,
    /// The format of its keys: an invalidation in another one concerns the whole cache.
    pub(crate) format: u32,
    pub(crate) hash: u64,
}

impl Subject {
    /// As the scripts take it: big-endian, 16 bytes.
    pub(crate) fn packed(self) -> [u8; 16] {
        let high = u64::from(self.cache) << 32 | u64::from(self.format);
        (u128::from(high) << 64 | u128::from(self.hash)).to_be_bytes()
    }
}

/// Asks for the right to load for the whole fleet, where there is no value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) id: ClaimId,
    /// It expires after so many milliseconds, even if the instance that holds it dies.
    pub(crate) millis: u64,
}

/// A request for a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetch {
    pub(crate) name: Name,
    pub(crate) subject: Subject,
    /// The part of its life, in thousandths, that a value may be past: 1,000 as a rule, less for
    /// a reload ahead.
    pub(crate) part: u32,
    /// The time before its end, in milliseconds and at most half of its life, in which it does not
    /// count either: 0 as a rule.
    pub(crate) margin: u64,
    pub(crate) claim: Option<Claim>,
}

/// The answer to a [`Fetch`].
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    /// The lane's head at that moment: a load that begins after this answer has seen everything
    /// up to here.
    pub(crate) head: Position,
    /// The server's clock in milliseconds; only differences to its other answers mean anything.
    pub(crate) now: u64,
    pub(crate) found: Found,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A value that counted at that moment: head and body.
    Value(Bytes),
    /// No value. A caller that asked for a claim has it now. With the digest of a value that no longer counts
    /// but is still there.
    Nothing(Option<Digest>),
    /// Another caller has the claim.
    Claimed,
    /// The lane has no history: it is another life of the server, or no verification has begun one.
    NoHistory,
}

/// A value to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Put {
    pub(crate) name: Name,
    pub(crate) subject: Subject,
    pub(crate) head: Head,
    /// `None`: the value that is there has the head's digest, as far as the caller knows.
    pub(crate) body: Option<Bytes>,
    /// When Redis may forget it altogether, by its own clock in milliseconds.
    pub(crate) forget: u64,
    pub(crate) claim: Option<ClaimId>,
}

/// How storing a value ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It counts from now on.
    Written,
    /// The same bytes were there: only their head was renewed.
    Renewed,
    /// Other bytes are there than the caller believes: it must send the body. Its claim stands.
    BodyNeeded,
    /// It does not count: it was invalidated since its load began, or a newer one is there.
    Refused,
}

/// What the scripts read of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Head {
    /// Where its load stood: it has seen every event up to here.
    pub(crate) position: Position,
    /// When its load began, by the server's clock in milliseconds, or a little earlier.
    pub(crate) born: u64,
    /// When it ends.
    pub(crate) expires: u64,
    pub(crate) digest: Digest,
    /// The client's own, of all of the above: the scripts do not read it.
    pub(crate) mac: Digest,
    pub(crate) tags: Box<[u64]>,
}

/// The first byte of a head. Another layout takes another one, and is no value to this version.
const LAYOUT: u8 = 2;

/// Bytes of a head before its tags: layout, epoch, sequence, born, expires, digest, MAC, number of tags.
pub(crate) const HEAD: usize = 1 + 4 * 8 + 2 * 16 + 1;

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + 8 * self.tags.len());
        out.push(LAYOUT);
        let Position { epoch, sequence } = self.position;
        for number in [epoch, sequence, self.born, self.expires] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.digest);
        out.extend_from_slice(&self.mac);
        out.push(u8::try_from(self.tags.len()).expect("a value has at most MOST_TAGS"));
        for tag in &self.tags {
            out.extend_from_slice(&tag.to_be_bytes());
        }
        out
    }

    /// Returns the head and what follows it; `None` if these bytes are no value of this layout.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (fixed, rest) = bytes.split_first_chunk::<HEAD>()?;
        let number = |index: usize| {
            let at = 1 + 8 * index;
            let bytes = fixed[at..at + 8].try_into().ok()?;
            Some(u64::from_be_bytes(bytes))
        };
        let (tags, body) = rest.split_at_checked(8 * usize::from(fixed[HEAD - 1]))?;
        let (tags, []) = tags.as_chunks::<8>() else {
            return None;
        };
        let head = Self {
            position: Position {
                epoch: number(0)?,
                sequence: number(1)?,
            },
            born: number(2)?,
            expires: number(3)?,
            digest: fixed[33..49].try_into().ok()?,
            mac: fixed[49..65].try_into().ok()?,
            tags: tags.iter().map(|tag| u64::from_be_bytes(*tag)).collect(),
        };
        (fixed[0] == LAYOUT).then_some((head, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn head(tags: &[u64]) -> Head {
        Head {
            position: Position {
                epoch: 7,
                sequence: 1 << 52,
            },
            born: 1_700_000_000_000,
            expires: 1_700_000_060_000,
            digest: *b"0123456789abcdef",
            mac: *b"fedcba9876543210",
            tags: tags.into(),
        }
    }

    #[test]
    fn a_head_is_read_back_and_what_follows_is_left() {
        for tags in [&[][..], &[1], &[1, u64::MAX, 3, 4, 5, 6, 7, 8]] {
            let mut bytes = head(tags).encode();
            bytes.extend_from_slice(b"body");
            assert_eq!(Head::decode(&bytes), Some((head(tags), &b"body"[..])));
        }
    }

    #[test]
    fn a_value_that_is_cut_short_or_of_another_layout_is_not_decoded() {
        let bytes = head(&[1, 2]).encode();
        for length in 0..bytes.len() {
            assert_eq!(Head::decode(&bytes[..length]), None);
        }
        assert_eq!(Head::decode(&[&[1], &bytes[1..]].concat()), None);
    }

    #[test]
    fn a_subject_is_packed_in_order() {
        let subject = Subject {
            cache: 0x0102_0304,
            format: 0x0506_0708,
            hash: 0x090a_0b0c_0d0e_0f10,
        };
        let bytes: Vec<u8> = (1..=16).collect();
        assert_eq!(subject.packed()[..], bytes);
    }
}
