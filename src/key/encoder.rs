//! Takes a key's canonical bytes.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

/// The maximum length of a key, in canonical bytes. A longer key is refused with
/// [`ErrorKind::Key`](crate::ErrorKind::Key): it is a document rather than a name, and hashing it would
/// dominate every lookup.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// use unstale::{ErrorKind, MAX_KEY_BYTES};
///
/// let documents = instance.cache::<String, u64>("documents").build()?;
/// let name = "x".repeat(MAX_KEY_BYTES + 1); // of a request
/// let refused = documents.get(&name).await;
/// assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Key)); // 400
/// # Ok(())
/// # }
/// ```
pub const MAX_KEY_BYTES: usize = 65_536;

/// Keys of up to this many canonical bytes are encoded without an allocation.
pub(super) const INLINE: usize = 120;

/// Takes the canonical bytes of a key, part by part: see [`Key::encode`](crate::Key::encode).
///
/// # Examples
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
pub struct KeyEncoder {
    inline: [u8; INLINE],
    spilled: Vec<u8>,
    /// Bytes taken, length prefixes included.
    length: usize,
    parts: usize,
}

/// Shows no byte of the key: keys may be secrets.
impl fmt::Debug for KeyEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyEncoder")
            .field("length", &self.length)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

impl KeyEncoder {
    pub(super) fn new() -> Self {
        Self {
            inline: [0; INLINE],
            spilled: Vec::new(),
            length: 0,
            parts: 0,
        }
    }

    /// Adds one part.
    ///
    /// A type whose values have different numbers of parts must begin each with a part that says
    /// which of them follow, as `Option` and the derive do: otherwise two keys could have the same
    /// bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::{Key, KeyEncoder};
    ///
    /// /// The SHA-256 of a certificate.
    /// #[derive(Clone, PartialEq, Eq)]
    /// struct Fingerprint([u8; 32]);
    ///
    /// impl Key for Fingerprint {
    ///     fn encode(&self, out: &mut KeyEncoder) {
    ///         out.part(&self.0);
    ///     }
    /// }
    /// ```
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

    pub(super) fn finish(&self) -> Option<u64> {
        self.canonical().map(xxh3_64)
    }

    pub(super) fn canonical(&self) -> Option<&[u8]> {
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
