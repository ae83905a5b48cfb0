//! Hashes of keys and tags, as a program may hold them.

use std::fmt;

use super::{Key, tag_hash};

/// The hash of a key, by which events name the key, since no key leaves the process.
///
/// `Display` writes 16 hex digits, as `unstale tail` does.
///
/// # Examples
///
/// A program that has many keys finds in a map the one that an [`Invalidation`](crate::Invalidation) names:
///
/// ```
/// use std::collections::HashMap;
/// use unstale::KeyHash;
///
/// let documents = [(7_u64, "a"), (8, "b")];
/// let by_hash = documents.map(|(id, text)| (KeyHash::of(&id), text));
/// let by_hash: HashMap<_, _> = by_hash.into_iter().collect();
/// assert_eq!(by_hash.get(&KeyHash::of(&8_u64)), Some(&"b"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(u64);

impl KeyHash {
    pub(crate) fn new(hash: u64) -> Self {
        Self(hash)
    }

    /// Returns the hash of a key, or of a reference form of it: they encode the same bytes. `None` for a key over
    /// [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES), which no cache holds.
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::KeyHash;
    ///
    /// let owned: (u64, String) = (7, "ada".to_owned());
    /// assert_eq!(KeyHash::of(&owned), KeyHash::of(&(7_u64, "ada")));
    /// assert_eq!(KeyHash::of(&"x".repeat(100_000)), None);
    /// ```
    #[must_use]
    pub fn of<Q>(key: &Q) -> Option<Self>
    where
        Q: Key + ?Sized,
    {
        key.digest().map(Self)
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:016x}", self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

/// The hash of a tag, as [`KeyHash`] is that of a key.
///
/// # Examples
///
/// ```
/// use unstale::TagHash;
///
/// assert_eq!(TagHash::of("tenant-7"), TagHash::of("tenant-7"));
/// assert_ne!(TagHash::of("tenant-7"), TagHash::of("tenant-8"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagHash(u64);

impl TagHash {
    pub(crate) fn new(hash: u64) -> Self {
        Self(hash)
    }

    /// Returns the hash of a tag.
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::TagHash;
    ///
    /// assert_eq!(TagHash::of("tenant-7").to_string().len(), 16);
    /// ```
    #[must_use]
    pub fn of(tag: &str) -> Self {
        Self(tag_hash(tag))
    }
}

impl fmt::Display for TagHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:016x}", self.0))
    }
}

impl fmt::Debug for TagHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TagHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_shown_as_the_tools_show_them_and_reference_forms_are_equal() {
        assert_eq!(KeyHash::new(0xab).to_string(), "00000000000000ab");
        assert_eq!(
            format!("{:?}", KeyHash::new(1)),
            "KeyHash(0000000000000001)"
        );
        assert_eq!(KeyHash::of("ada"), KeyHash::of(&"ada".to_owned()));
        assert_eq!(
            KeyHash::of(&(7_u64, "ada")),
            KeyHash::of(&(7_u64, "ada".to_owned()))
        );
        assert_eq!(KeyHash::of(&"x".repeat(crate::MAX_KEY_BYTES + 1)), None);
        assert_eq!(
            TagHash::of("ada").to_string(),
            KeyHash::of("ada").unwrap().to_string()
        );
    }
}
