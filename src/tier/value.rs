//! A value's bytes: projected, serialized, compressed, with the version of its schema.
//!
//! ```text
//! body = version (4 bytes), flags (1), print (8), [length before compression (4)], MessagePack
//! ```
//!
//! The print is that of the value as serde sees it. What is read and has another one is another value.

use std::marker::PhantomData;

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::contain::contained;
use crate::tier::shape::print;

/// It does not exist; no MessagePack follows.
const ABSENT: u8 = 1;
/// DEFLATE.
const COMPRESSED: u8 = 2;
/// Its TTL came with it: nothing may serve it longer.
const OWN_TTL: u8 = 4;

/// zlib's levels: 1 takes a third of 6's time for about nine tenths of what 6 saves.
const LEVEL: u8 = 1;

/// Between a cache's values and MessagePack.
pub(crate) trait Codec<V>: Send + Sync {
    fn write(&self, value: &V) -> Result<Written, Unfit>;
    /// `None` if these bytes are no value of this print.
    fn read(&self, bytes: &[u8], print: u64) -> Option<V>;
    /// Returns what other instances get for this value, if that differs.
    fn given_back(&self, _: &V) -> Option<V> {
        None
    }
    /// The full name of the type that is stored.
    fn stored_type(&self) -> &'static str;
}

/// A value's MessagePack, and its print.
pub(crate) struct Written {
    bytes: Vec<u8>,
    print: u64,
}

/// Writes a value that reads back as what it is.
fn write<T: Serialize + DeserializeOwned>(value: &T) -> Result<Written, Unfit> {
    let bytes = rmp_serde::to_vec_named(value).map_err(|_| Unfit::Broken)?;
    let print = print(value).ok_or(Unfit::Broken)?;
    match read::<T>(&bytes, print) {
        Some(_) => Ok(Written { bytes, print }),
        None => Err(Unfit::Changed),
    }
}

fn read<T: Serialize + DeserializeOwned>(bytes: &[u8], of: u64) -> Option<T> {
    let value: T = rmp_serde::from_slice(bytes).ok()?;
    (print(&value)? == of).then_some(value)
}

/// Values as they are. Fields by name, so that `skip_serializing_if` and the like read back.
pub(crate) struct Whole;

impl<V: Serialize + DeserializeOwned> Codec<V> for Whole {
    fn write(&self, value: &V) -> Result<Written, Unfit> {
        write(value)
    }

    fn read(&self, bytes: &[u8], print: u64) -> Option<V> {
        read(bytes, print)
    }

    fn stored_type(&self) -> &'static str {
        std::any::type_name::<V>()
    }
}

/// What two functions of the program make of them.
pub(crate) struct Projection<P, T, F> {
    to: T,
    from: F,
    stored: PhantomData<fn() -> P>,
}

impl<P, T, F> Projection<P, T, F> {
    pub(crate) fn new(to: T, from: F) -> Self {
        Self {
            to,
            from,
            stored: PhantomData,
        }
    }
}

impl<V, P, T, F> Codec<V> for Projection<P, T, F>
where
    P: Serialize + DeserializeOwned,
    T: Fn(&V) -> P + Send + Sync,
    F: Fn(P) -> V + Send + Sync,
{
    fn write(&self, value: &V) -> Result<Written, Unfit> {
        write(&(self.to)(value))
    }

    fn read(&self, bytes: &[u8], print: u64) -> Option<V> {
        read(bytes, print).map(&self.from)
    }

    fn given_back(&self, value: &V) -> Option<V> {
        Some((self.from)((self.to)(value)))
    }

    fn stored_type(&self) -> &'static str {
        std::any::type_name::<P>()
    }
}

/// Why a value is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It cannot be serialized.
    Broken,
    /// It reads back as another value, or not at all.
    Changed,
    /// It is larger than allowed.
    Oversized,
}

/// What a body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content<V> {
    pub(crate) value: Option<V>,
    pub(crate) own_ttl: bool,
}

/// How bodies are written and read.
pub(crate) struct Layout<'a, V> {
    pub(crate) codec: &'a dyn Codec<V>,
    pub(crate) version: u32,
    pub(crate) compress_above: usize,
    pub(crate) max_bytes: usize,
}

impl<V> Layout<'_, V> {
    /// The program's code runs here; if it panics, the value is not stored, and nothing else happens.
    pub(crate) fn write(&self, value: Option<&V>, own_ttl: bool) -> Result<Vec<u8>, Unfit> {
        let mut out = self.version.to_be_bytes().to_vec();
        let flags = if own_ttl { OWN_TTL } else { 0 };
        let Some(value) = value else {
            out.push(flags | ABSENT);
            return Ok(out);
        };
        let written = contained(|| self.codec.write(value));
        let written = written.unwrap_or(Err(Unfit::Broken))?;
        let (plain, print) = (written.bytes, written.print.to_be_bytes());
        let length = u32::try_from(plain.len()).map_err(|_| Unfit::Oversized)?;
        if plain.len() > self.max_bytes {
            return Err(Unfit::Oversized);
        }
        if plain.len() > self.compress_above {
            let small = compress_to_vec(&plain, LEVEL);
            if small.len() + size_of::<u32>() < plain.len() {
                out.push(flags | COMPRESSED);
                out.extend_from_slice(&print);
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&small);
                return Ok(out);
            }
        }
        out.push(flags);
        out.extend_from_slice(&print);
        out.extend_from_slice(&plain);
        Ok(out)
    }

    /// `None` if it is of another version, too large, or no value at all.
    pub(crate) fn read(&self, body: &[u8]) -> Option<Content<V>> {
        let (version, rest) = body.split_first_chunk()?;
        let (flags, rest) = rest.split_first()?;
        if u32::from_be_bytes(*version) != self.version
            || flags & !(ABSENT | COMPRESSED | OWN_TTL) != 0
        {
            return None;
        }
        let own_ttl = flags & OWN_TTL != 0;
        if flags & ABSENT != 0 {
            let value = None;
            return rest.is_empty().then_some(Content { value, own_ttl });
        }
        let (print, rest) = rest.split_first_chunk()?;
        let inflated;
        let plain = if flags & COMPRESSED == 0 {
            rest
        } else {
            let (length, small) = rest.split_first_chunk()?;
            let length = u32::from_be_bytes(*length) as usize;
            if length > self.max_bytes {
                return None;
            }
            inflated = decompress_to_vec_with_limit(small, length).ok()?;
            &inflated
        };
        if plain.len() > self.max_bytes {
            return None;
        }
        let print = u64::from_be_bytes(*print);
        let read = contained(|| self.codec.read(plain, print));
        let value = Some(read.flatten()?);
        Some(Content { value, own_ttl })
    }
}

#[cfg(test)]
mod shapes;

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(version: u32, compress_above: usize) -> Layout<'static, String> {
        Layout {
            codec: &Whole,
            version,
            compress_above,
            max_bytes: 10_000,
        }
    }

    fn some(text: &str) -> Content<String> {
        Content {
            value: Some(text.to_owned()),
            own_ttl: false,
        }
    }

    #[test]
    fn what_is_written_is_read_back_compressed_or_not() {
        for text in ["", "short", &"long ".repeat(1_000)] {
            for above in [0, 100, usize::MAX] {
                let layout = layout(1, above);
                let body = layout.write(Some(&text.to_owned()), false).unwrap();
                assert_eq!(
                    layout.read(&body),
                    Some(some(text)),
                    "{} {above}",
                    text.len()
                );
                assert!(body.len() < 100 || above > text.len());
            }
        }
        let own = layout(1, 0).write(None, true).unwrap();
        let absent = Content {
            value: None,
            own_ttl: true,
        };
        assert_eq!(layout(1, 0).read(&own), Some(absent));
    }

    #[test]
    fn another_version_and_what_is_cut_or_too_large_are_misses() {
        let body = layout(1, 0)
            .write(Some(&"text".repeat(100)), false)
            .unwrap();
        assert_eq!(layout(2, 0).read(&body), None);
        for length in 0..body.len() {
            assert_eq!(layout(1, 0).read(&body[..length]), None, "{length}");
        }
        let small = Layout {
            max_bytes: 10,
            ..layout(1, 0)
        };
        assert_eq!(small.read(&body), None);
        assert_eq!(
            small.write(Some(&"text".repeat(100)), false),
            Err(Unfit::Oversized)
        );
        // A length that lies does not cause an allocation of more than it says.
        let bomb = compress_to_vec(&[b'x'; 100_000], LEVEL);
        let print = print("x").unwrap().to_be_bytes();
        let body = [&[0, 0, 0, 1, COMPRESSED][..], &print, &[0, 0, 0, 9], &bomb].concat();
        assert_eq!(layout(1, 0).read(&body), None);
    }

    #[test]
    fn a_projection_that_panics_is_a_value_that_is_not_stored_and_a_miss() {
        let angry: &dyn Codec<u32> = &Projection::new(
            |value: &u32| -> u32 {
                assert!(*value != 1, "not this one");
                *value
            },
            |stored: u32| -> u32 {
                assert!(stored != 2, "nor this one");
                stored
            },
        );
        let layout = Layout {
            codec: angry,
            version: 0,
            compress_above: 0,
            max_bytes: 100,
        };
        assert_eq!(layout.write(Some(&1), false), Err(Unfit::Broken));
        let body = layout.write(Some(&2), false).unwrap();
        assert_eq!(layout.read(&body), None);
    }
}
