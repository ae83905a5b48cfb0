//! Keys: their canonical bytes, and the 64-bit hash that stands for them everywhere else.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::{Error, ErrorKind};

/// Longest key, in canonical bytes. Longer ones are refused with [`ErrorKind::Key`]: they are
/// documents, not names, and hashing them would dominate every lookup.
pub const MAX_KEY_BYTES: usize = 65_536;

/// Keys of up to this many canonical bytes are written without an allocation.
const INLINE: usize = 120;

/// A key: equal keys write equal bytes, on every machine and in every version of a service.
///
/// The bytes are hashed (xxh3, 64 bits) and only the hash leaves the process, so that API keys and
/// tokens may be keys. An unkeyed hash of a guessable key can still be guessed.
///
/// Integers write decimal text, strings UTF-8, UUIDs their hyphenated lower-case form, tuples their
/// parts in order. A single part is hashed as it is; of several, each is preceded by its length, so
/// that `("ab", "c")` and `("a", "bc")` differ.
///
/// # Examples
///
/// ```
/// use unstale::{Key, KeyWriter};
///
/// #[derive(Clone, PartialEq, Eq)]
/// struct TenantUser { tenant: u32, user: String }
///
/// impl Key for TenantUser {
///     fn write(&self, out: &mut KeyWriter) {
///         self.tenant.write(out);
///         self.user.write(out);
///     }
/// }
/// ```
pub trait Key: Eq + Send + Sync {
    /// A number to change whenever the bytes that this type writes for a key change.
    ///
    /// Events carry it: instances that disagree drop the whole cache instead of missing a key,
    /// so that a rolling upgrade stays coherent.
    const FORMAT: u32 = 1;

    /// Writes each part of the key.
    fn write(&self, out: &mut KeyWriter);

    /// The hash of the canonical bytes; `None` when they are over [`MAX_KEY_BYTES`].
    #[doc(hidden)]
    #[inline]
    fn digest(&self) -> Option<u64> {
        let mut out = KeyWriter::new();
        self.write(&mut out);
        out.finish()
    }
}

/// What `get` accepts for a key type `K`: `K` itself or its borrowed form (`str` for `String`),
/// which writes the same bytes.
pub trait KeyRef<K>: Key + ToOwned<Owned = K> {}

impl<K, Q: Key + ToOwned<Owned = K> + ?Sized> KeyRef<K> for Q {}

/// Takes a key's canonical bytes.
pub struct KeyWriter {
    inline: [u8; INLINE],
    spilled: Vec<u8>,
    /// Bytes written, length prefixes included.
    length: usize,
    parts: usize,
}

/// Shows no byte of the key: keys may be secrets.
impl fmt::Debug for KeyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyWriter")
            .field("length", &self.length)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

impl KeyWriter {
    fn new() -> Self {
        Self {
            inline: [0; INLINE],
            spilled: Vec::new(),
            length: 0,
            parts: 0,
        }
    }

    /// Adds one part.
    pub fn part(&mut self, bytes: &[u8]) {
        self.parts += 1;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.push(&length.to_be_bytes());
        self.push(bytes);
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        if end <= INLINE {
            self.inline[self.length..end].copy_from_slice(bytes);
        } else if end <= MAX_KEY_BYTES + 4 * self.parts {
            if self.spilled.is_empty() {
                self.spilled.extend_from_slice(&self.inline[..self.length]);
            }
            self.spilled.extend_from_slice(bytes);
        }
        // Beyond the limit only the length is kept: `finish` refuses the key.
        self.length = end;
    }

    fn finish(&self) -> Option<u64> {
        self.canonical().map(xxh3_64)
    }

    fn canonical(&self) -> Option<&[u8]> {
        if self.length > MAX_KEY_BYTES + 4 * self.parts {
            return None;
        }
        let all = if self.length <= INLINE {
            &self.inline[..self.length]
        } else {
            &self.spilled
        };
        Some(if self.parts == 1 { &all[4..] } else { all })
    }
}

/// The canonical bytes of a key; `None` when they are over [`MAX_KEY_BYTES`].
pub(crate) fn canonical(key: &impl Key) -> Option<Vec<u8>> {
    let mut out = KeyWriter::new();
    key.write(&mut out);
    out.canonical().map(<[u8]>::to_vec)
}

pub(crate) fn too_long() -> Error {
    Error::new(
        ErrorKind::Key,
        format!(
            "the key is longer than {MAX_KEY_BYTES} bytes; use a shorter name, a digest of it, say"
        ),
    )
}

/// The hash of one part, as most keys are: no copy.
#[inline]
fn single(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= MAX_KEY_BYTES).then(|| xxh3_64(bytes))
}

/// A cache's id on the wire: the low 32 bits of its name's hash.
pub(crate) fn cache_id(name: &str) -> u32 {
    xxh3_64(name.as_bytes()) as u32
}

/// A tag's hash.
pub(crate) fn tag_hash(tag: &str) -> u64 {
    xxh3_64(tag.as_bytes())
}

macro_rules! single_part {
    ($($type:ty: $self:ident => $bytes:expr;)*) => { $(
        impl Key for $type {
            fn write(&self, out: &mut KeyWriter) {
                let $self = self;
                out.part($bytes);
            }
            #[inline]
            fn digest(&self) -> Option<u64> {
                let $self = self;
                single($bytes)
            }
        }
    )* };
}

single_part! {
    str: key => key.as_bytes();
    String: key => key.as_bytes();
    [u8]: key => key;
    Vec<u8>: key => key;
    u8: key => itoa::Buffer::new().format(*key).as_bytes();
    u16: key => itoa::Buffer::new().format(*key).as_bytes();
    u32: key => itoa::Buffer::new().format(*key).as_bytes();
    u64: key => itoa::Buffer::new().format(*key).as_bytes();
    u128: key => itoa::Buffer::new().format(*key).as_bytes();
    usize: key => itoa::Buffer::new().format(*key).as_bytes();
    i8: key => itoa::Buffer::new().format(*key).as_bytes();
    i16: key => itoa::Buffer::new().format(*key).as_bytes();
    i32: key => itoa::Buffer::new().format(*key).as_bytes();
    i64: key => itoa::Buffer::new().format(*key).as_bytes();
    i128: key => itoa::Buffer::new().format(*key).as_bytes();
    isize: key => itoa::Buffer::new().format(*key).as_bytes();
}

#[cfg(feature = "uuid")]
single_part! {
    uuid::Uuid: key => key.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes();
}

macro_rules! tuple {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Key),+> Key for ($($name,)+) {
            const FORMAT: u32 = {
                let mut format = 0_u32;
                $(format = format.wrapping_mul(31).wrapping_add($name::FORMAT);)+
                format
            };
            fn write(&self, out: &mut KeyWriter) {
                $(self.$index.write(out);)+
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Vector, vectors};

    /// The format and the hash of the key that a vector describes.
    fn computed(vector: &Vector) -> Option<(u32, u64)> {
        fn of<K: Key>(key: K) -> Option<(u32, u64)> {
            Some((K::FORMAT, key.digest()?))
        }
        let text = |n| vector.part::<String>(n);
        match vector.text("type") {
            "u8" => of(vector.part::<u8>(0)),
            "i8" => of(vector.part::<i8>(0)),
            "u32" => of(vector.part::<u32>(0)),
            "u64" => of(vector.part::<u64>(0)),
            "u128" => of(vector.part::<u128>(0)),
            "String" => of(text(0)),
            "Vec<u8>" => of(text(0).into_bytes()),
            #[cfg(feature = "uuid")]
            "Uuid" => of(vector.part::<uuid::Uuid>(0)),
            #[cfg(not(feature = "uuid"))]
            "Uuid" => of(text(0)),
            "(String, String)" => of((text(0), text(1))),
            "(u32, String)" => of((vector.part::<u32>(0), text(1))),
            "(u32, String, String)" => of((vector.part::<u32>(0), text(1), text(2))),
            "(u8, u8, u8, u8)" => of((
                vector.part::<u8>(0),
                vector.part::<u8>(1),
                vector.part::<u8>(2),
                vector.part::<u8>(3),
            )),
            other => unreachable!("there are no keys of type {other} here"),
        }
    }

    #[test]
    fn keys_have_the_formats_and_hashes_of_the_protocol() {
        for vector in vectors("keys") {
            let written = (vector.number("format"), vector.hex("hash"));
            assert_eq!(computed(&vector), Some(written), "{vector:?}");
        }
    }

    #[test]
    fn caches_and_tags_have_the_ids_of_the_protocol() {
        for vector in vectors("caches") {
            let id = cache_id(vector.text("cache"));
            assert_eq!(id, vector.number::<u32>("id"), "{vector:?}");
        }
        for vector in vectors("tags") {
            let hash = tag_hash(vector.text("tag"));
            assert_eq!(hash, vector.hex("hash"), "{vector:?}");
        }
    }

    #[test]
    fn borrowed_and_owned_forms_and_numbers_as_text_agree() {
        assert_eq!("abc".digest(), String::from("abc").digest());
        assert_eq!(7_u64.digest(), "7".digest());
        assert_eq!((-7_i8).digest(), "-7".digest());
        assert_eq!(b"x"[..].digest(), vec![b'x'].digest());
        assert_eq!("abc".digest(), Some(xxh3_64(b"abc")));
    }

    #[test]
    fn the_default_digest_is_the_hash_of_the_canonical_bytes() {
        struct Wrapped(String);
        impl PartialEq for Wrapped {
            fn eq(&self, other: &Self) -> bool {
                self.0 == other.0
            }
        }
        impl Eq for Wrapped {}
        impl Key for Wrapped {
            fn write(&self, out: &mut KeyWriter) {
                self.0.write(out);
            }
        }
        for length in [0, 1, INLINE - 4, INLINE - 3, INLINE, 5_000, MAX_KEY_BYTES] {
            let text = "k".repeat(length);
            assert_eq!(
                Wrapped(text.clone()).digest(),
                text.digest(),
                "length {length}"
            );
            assert!(text.digest().is_some());
        }
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        assert_eq!(Wrapped(long.clone()).digest(), None);
        assert_eq!(long.digest(), None);
    }

    #[test]
    fn parts_are_told_apart_by_their_lengths() {
        let key = |a: &str, b: &str| (a.to_owned(), b.to_owned()).digest();
        assert_ne!(key("ab", "c"), key("a", "bc"));
        assert_ne!(key("ab", ""), "ab".digest());
        let bytes = [
            &2_u32.to_be_bytes()[..],
            b"ab",
            &1_u32.to_be_bytes()[..],
            b"7",
        ]
        .concat();
        assert_eq!(("ab".to_owned(), 7_u32).digest(), Some(xxh3_64(&bytes)));
    }

    #[test]
    fn formats_of_tuples_depend_on_their_parts() {
        assert_eq!(<u64 as Key>::FORMAT, <String as Key>::FORMAT);
        assert_ne!(<(u64, u64) as Key>::FORMAT, <u64 as Key>::FORMAT);
        assert_ne!(
            <(u64, u64, u64) as Key>::FORMAT,
            <(u64, u64) as Key>::FORMAT
        );
    }
}
