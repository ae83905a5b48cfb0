//! The canonical bytes of a key that is made of parts, and the numbers of its format: as in PROTOCOL.md.

use xxhash_rust::xxh3::xxh3_64;

use crate::key::encoder::MAX_KEY_BYTES;

/// The format of every part that has no other.
pub(crate) const FORMAT: u32 = 1;

/// Returns the format of a tuple of parts with these formats.
pub(crate) fn fold(formats: impl Iterator<Item = u32>) -> u32 {
    formats.fold(0, |format, part| format.wrapping_mul(31).wrapping_add(part))
}

/// Returns the format of an `Option` of what has this format.
pub(crate) fn optional(format: u32) -> u32 {
    format.wrapping_mul(31).wrapping_add(2)
}

/// Takes the parts of one key after the other; its memory serves every row.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    /// Each part after its length.
    bytes: Vec<u8>,
    parts: usize,
    too_long: bool,
}

impl Encoder {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.parts = 0;
        self.too_long = false;
    }

    pub(crate) fn part(&mut self, bytes: &[u8]) {
        // Beyond the limit nothing is kept: such a key has no hash.
        self.too_long |= bytes.len() > MAX_KEY_BYTES
            || self.bytes.len() + bytes.len() > MAX_KEY_BYTES + 4 * self.parts;
        self.parts += 1;
        if self.too_long {
            return;
        }
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the key's hash; `None` where it is too long to be in any cache.
    pub(crate) fn hash(&self) -> Option<u64> {
        if self.too_long {
            return None;
        }
        match self.parts {
            // A key of one part is the part alone.
            1 => self.bytes.get(4..).map(xxh3_64),
            _ => Some(xxh3_64(&self.bytes)),
        }
    }
}

/// Returns the hash of a key of these parts; `None` where it is too long to be in any cache.
pub(crate) fn hash_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Option<u64> {
    let mut encoder = Encoder::default();
    for part in parts {
        encoder.part(part);
    }
    encoder.hash()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::vectors;
    use crate::relay::rules::{KeyColumn, format_of_columns, format_of_parts};

    #[test]
    fn keys_have_the_hashes_of_the_protocol() {
        for vector in vectors("keys").into_iter().chain(vectors("options")) {
            let parts: Vec<String> = vector.texts("parts");
            let hash = hash_of(parts.iter().map(|part| part.as_bytes()));
            assert_eq!(hash, Some(vector.hex("hash")), "{vector:?}");
        }
    }

    #[test]
    fn formats_are_those_of_the_protocol() {
        for vector in vectors("keys") {
            let parts = vector.texts("parts").len();
            assert_eq!(
                format_of_parts(parts),
                vector.number::<u32>("format"),
                "{vector:?}"
            );
        }
        let column = |optional| KeyColumn {
            column: "x".to_owned(),
            optional,
        };
        assert_eq!(format_of_columns(&[column(true)]), 33);
        assert_eq!(format_of_columns(&[column(true), column(false)]), 1024);
        assert_eq!(format_of_columns(&[]), 1);
    }

    #[test]
    fn a_key_that_is_too_long_has_no_hash_and_the_longest_has_one() {
        let long = vec![b'k'; MAX_KEY_BYTES];
        let one: &[u8] = b"k";
        assert!(hash_of([&*long]).is_some());
        assert!(hash_of([&*long, b""]).is_some());
        assert_eq!(hash_of([&*long, one]), None);
        assert_eq!(hash_of([one, &*long]), None);
        assert_eq!(hash_of([&*[&long[..], one].concat()]), None);
        assert_eq!(hash_of([&*long, one, b""]), None);
    }

    #[test]
    fn one_encoder_serves_many_keys() {
        let mut encoder = Encoder::default();
        encoder.part(&vec![0; MAX_KEY_BYTES + 1]);
        assert_eq!(encoder.hash(), None);
        encoder.clear();
        encoder.part(b"42");
        assert_eq!(encoder.hash(), hash_of([&b"42"[..]]));
    }
}
