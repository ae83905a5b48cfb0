//! Keys: their canonical bytes, and the 64-bit hash that stands for them everywhere else.

#[cfg(feature = "derive")]
pub mod derived;
pub(crate) mod encoder;
pub(crate) mod hashes;
pub(crate) mod reference;
#[cfg(test)]
mod tests;
mod types;

use xxhash_rust::xxh3::xxh3_64;

use encoder::{KeyEncoder, MAX_KEY_BYTES};

use crate::{Error, ErrorKind};

/// A key of a cache: equal keys encode equal bytes, and different keys different bytes, on every machine and in
/// every version of a service.
///
/// Strings, bytes, integers, `bool`, `char`, UUIDs (feature `uuid`), IP addresses, `Option`, references, `Box`,
/// `Arc` and `Cow` of them, and tuples of up to six are keys. For a type of your own, `#[derive(Key)]` (feature
/// `derive`) encodes every field; an implementation by hand must encode every field too.
///
/// **A key that leaves something out serves foreign data.** In the shared tier two keys are distinguished by
/// these bytes alone: if `Owner::User(7)` and `Owner::Team(7)` both encode `7`, a reader of one gets the
/// other's value.
///
/// The bytes are hashed (xxh3, 64 bits), and only the hash leaves the process, so that API keys and tokens may
/// be used as keys. An unkeyed hash of a guessable key can still be guessed. PROTOCOL.md has the bytes of every
/// type, for writers in other languages.
///
/// # Examples
///
/// A newtype encodes what it holds:
///
/// ```
/// use unstale::{Key, KeyEncoder};
///
/// #[derive(Clone, PartialEq, Eq)]
/// struct ProductId(u64);
///
/// impl Key for ProductId {
///     fn encode(&self, out: &mut KeyEncoder) {
///         self.0.encode(out);
///     }
/// }
/// ```
///
/// A struct encodes each field, in order:
///
/// ```
/// use unstale::{Key, KeyEncoder};
///
/// #[derive(Clone, PartialEq, Eq)]
/// struct TenantUser { tenant: u32, user: String }
///
/// impl Key for TenantUser {
///     fn encode(&self, out: &mut KeyEncoder) {
///         self.tenant.encode(out);
///         self.user.encode(out);
///     }
/// }
/// ```
///
/// An enum encodes which variant it is, then what that holds:
///
/// ```
/// use unstale::{Key, KeyEncoder};
///
/// #[derive(Clone, PartialEq, Eq)]
/// enum Owner { User(u64), Team(u64) }
///
/// impl Key for Owner {
///     fn encode(&self, out: &mut KeyEncoder) {
///         match self {
///             Self::User(id) => ("User", id).encode(out),
///             Self::Team(id) => ("Team", id).encode(out),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key: it does not implement `unstale::Key`",
    label = "not a key",
    note = "with the feature `derive`: `#[derive(Clone, PartialEq, Eq, unstale::Key)]` on the type",
    note = "by hand, for a newtype `struct ProductId(u64)`:\n\
            impl unstale::Key for ProductId {{\n    \
                fn encode(&self, out: &mut unstale::KeyEncoder) {{\n        \
                    self.0.encode(out);\n    \
                }}\n\
            }}"
)]
pub trait Key: Eq + Send + Sync {
    /// A number to change whenever the bytes that this type encodes change.
    ///
    /// Events carry it: instances that disagree about it drop the whole cache instead of missing a key, so that
    /// a rolling upgrade stays coherent.
    const FORMAT: u32 = 1;

    /// Encodes each part of the key.
    fn encode(&self, out: &mut KeyEncoder);

    /// The hash of the canonical bytes; `None` when they are over [`MAX_KEY_BYTES`].
    #[doc(hidden)]
    #[inline]
    fn digest(&self) -> Option<u64> {
        let mut out = KeyEncoder::new();
        self.encode(&mut out);
        out.finish()
    }
}

/// The canonical bytes of a key; `None` when they are over [`MAX_KEY_BYTES`].
pub(crate) fn canonical(key: &(impl Key + ?Sized)) -> Option<Vec<u8>> {
    let mut out = KeyEncoder::new();
    key.encode(&mut out);
    out.canonical().map(<[u8]>::to_vec)
}

pub(crate) fn too_long() -> Error {
    Error::new(
        ErrorKind::Key,
        format!(
            "the key is longer than {MAX_KEY_BYTES} bytes; use a shorter key, such as a digest of it"
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
