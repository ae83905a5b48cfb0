//! What values are called in Redis, and how each is known for its key's.
//!
//! All of it is keyed BLAKE3: without the secret, a reader of Redis learns neither keys nor which value
//! is whose, and a writer can neither forge a value nor give one another place or another life.

use std::fmt;

use crate::bus::tier::{Digest, Head, Name, Subject};
use crate::settings::Settings;

/// Separates the keys made here from all others that may be made of the same secret.
const CONTEXT: &str = "unstale 2026 v1 shared tier";

/// What separates the uses of a key.
const NAME: &[u8] = b"name";
const VALUE: &[u8] = b"value";
const HEAD: &[u8] = b"head";

/// URL-safe base64.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The secret of a namespace, ready for use.
pub(crate) struct Secret([u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Everything that the digest of a value covers.
#[derive(Clone, Copy)]
pub(crate) struct Content<'a> {
    pub(crate) cache: &'a str,
    /// The full name of the value's type.
    pub(crate) stored_type: &'a str,
    pub(crate) format: u32,
    /// The canonical bytes of the key.
    pub(crate) key: &'a [u8],
    pub(crate) tags: &'a [u64],
    pub(crate) body: &'a [u8],
}

impl Secret {
    /// Without a secret, one is made of the key that signs events; without that, of the namespace
    /// alone: names do not show keys at a glance then, but a reader who guesses a key can tell whether
    /// it is there, and any writer to Redis can forge a value.
    pub(crate) fn new(settings: &Settings) -> Self {
        let secret = settings.tier_secret.as_deref();
        let secret = secret.or(settings.signing_key.as_deref());
        Self::derive(settings, secret.unwrap_or_default())
    }

    /// The second secret, whose values count too while the first is being changed.
    pub(crate) fn accepted(settings: &Settings) -> Option<Self> {
        let accepted = match &settings.tier_secret {
            Some(_) => settings.tier_secret_accepted.as_deref(),
            None => settings.signing_key_accepted.as_deref(),
        };
        accepted.map(|secret| Self::derive(settings, secret))
    }

    /// Whether a reader of the settings' namespace alone could make it.
    pub(crate) fn is_public(settings: &Settings) -> bool {
        settings.tier_secret.is_none() && settings.signing_key.is_none()
    }

    fn derive(settings: &Settings, secret: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        part(&mut hasher, settings.namespace.as_bytes());
        part(&mut hasher, secret.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// A value's name, which the 64-bit hash of its key decides: of two keys with one hash the
    /// latest has the name, and the digest keeps the other from being served its value.
    pub(crate) fn name(&self, subject: Subject) -> Name {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        part(&mut hasher, NAME);
        hasher.update(&subject.packed());
        base64(first(&hasher))
    }

    /// Says that this key has this value: its own check, and a MAC of the whole.
    pub(crate) fn digest(&self, content: Content<'_>) -> Digest {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        part(&mut hasher, VALUE);
        part(&mut hasher, content.cache.as_bytes());
        part(&mut hasher, content.stored_type.as_bytes());
        hasher.update(&content.format.to_be_bytes());
        part(&mut hasher, content.key);
        hasher.update(&(content.tags.len() as u32).to_be_bytes());
        for tag in content.tags {
            hasher.update(&tag.to_be_bytes());
        }
        hasher.update(content.body);
        first(&hasher)
    }

    /// Returns the MAC of where and when the value of this digest was loaded, and of its end: an old value
    /// can claim neither a newer place, where no invalidation concerns it, nor a longer life.
    pub(crate) fn mac(&self, head: &Head) -> Digest {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        part(&mut hasher, HEAD);
        let position = head.position;
        for number in [position.epoch, position.sequence, head.born, head.expires] {
            hasher.update(&number.to_be_bytes());
        }
        hasher.update(&head.digest);
        first(&hasher)
    }

    /// Returns whether a value is authentic: its head was written with this content by an owner of the
    /// secret. It takes constant time.
    pub(crate) fn is_genuine(&self, head: &Head, content: Content<'_>) -> bool {
        same(&self.mac(head), &head.mac) && same(&self.digest(content), &head.digest)
    }
}

/// In constant time, which is how `Hash` compares.
fn same(one: &Digest, other: &Digest) -> bool {
    let wide = |digest: &Digest| {
        let mut bytes = [0; 32];
        bytes[..digest.len()].copy_from_slice(digest);
        blake3::Hash::from_bytes(bytes)
    };
    wide(one) == wide(other)
}

/// Its length in front keeps a part apart from what follows.
fn part(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}

fn first(hasher: &blake3::Hasher) -> Digest {
    let mut bytes = Digest::default();
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// 128 bits as 22 digits of six; the last has only two of them.
fn base64(bytes: Digest) -> Name {
    let number = u128::from_be_bytes(bytes);
    let mut name = Name::default();
    for (index, digit) in name.iter_mut().enumerate() {
        let bits = match 122_usize.checked_sub(6 * index) {
            Some(shift) => number >> shift,
            None => number << 4,
        };
        *digit = DIGITS[(bits & 63) as usize];
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Position;

    fn secret(text: Option<&str>, namespace: &str) -> Secret {
        Secret::new(&Settings {
            tier_secret: text.map(str::to_owned),
            namespace: namespace.to_owned(),
            ..Settings::default()
        })
    }

    fn subject(cache: u32, format: u32, hash: u64) -> Subject {
        Subject {
            cache,
            format,
            hash,
        }
    }

    fn head(secret: &Secret, content: Content<'_>) -> Head {
        let mut head = Head {
            position: Position {
                epoch: 7,
                sequence: 8,
            },
            born: 1_000,
            expires: 2_000,
            digest: secret.digest(content),
            mac: Digest::default(),
            tags: content.tags.into(),
        };
        head.mac = secret.mac(&head);
        head
    }

    #[test]
    fn another_secret_namespace_cache_format_or_key_has_another_name() {
        let mine = secret(Some("s3cret"), "a");
        let name = mine.name(subject(1, 2, 3));
        assert_eq!(name, secret(Some("s3cret"), "a").name(subject(1, 2, 3)));
        for other in [
            secret(Some("other"), "a").name(subject(1, 2, 3)),
            secret(None, "a").name(subject(1, 2, 3)),
            secret(Some("s3cret"), "b").name(subject(1, 2, 3)),
            mine.name(subject(9, 2, 3)),
            mine.name(subject(1, 9, 3)),
            mine.name(subject(1, 2, 9)),
        ] {
            assert_ne!(name, other);
        }
    }

    #[test]
    fn a_digest_covers_everything_and_keeps_parts_apart() {
        let mine = secret(Some("s3cret"), "a");
        let content = Content {
            cache: "rows",
            stored_type: "u64",
            format: 1,
            key: b"key",
            tags: &[1, 2],
            body: b"body",
        };
        let written = head(&mine, content);
        assert!(mine.is_genuine(&written, content));
        assert!(!secret(Some("other"), "a").is_genuine(&written, content));
        for other in [
            Content {
                cache: "rowsk",
                key: b"ey",
                ..content
            },
            Content {
                cache: "row",
                ..content
            },
            Content {
                stored_type: "u64",
                format: 2,
                ..content
            },
            Content {
                key: b"kez",
                ..content
            },
            Content {
                tags: &[1],
                ..content
            },
            Content {
                tags: &[2, 1],
                ..content
            },
            Content {
                body: b"bodz",
                ..content
            },
            Content {
                key: b"keyb",
                body: b"ody",
                ..content
            },
        ] {
            assert!(!mine.is_genuine(&written, other));
        }
    }

    #[test]
    fn no_value_can_claim_another_place_or_another_life() {
        let mine = secret(Some("s3cret"), "a");
        let content = Content {
            cache: "rows",
            stored_type: "u64",
            format: 1,
            key: b"key",
            tags: &[],
            body: b"body",
        };
        let change: [fn(&mut Head); 5] = [
            |head| head.position.epoch += 1,
            |head| head.position.sequence += 1,
            |head| head.born += 1,
            |head| head.expires += 1,
            |head| head.mac[0] ^= 1,
        ];
        for change in change {
            let mut other = head(&mine, content);
            change(&mut other);
            assert!(!mine.is_genuine(&other, content), "{other:?}");
        }
    }

    #[test]
    fn the_accepted_secret_is_of_the_same_kind_as_the_first() {
        let name = |secret: &Secret| secret.name(subject(1, 2, 3));
        let with = |tier: [Option<&str>; 2], signing: [Option<&str>; 2]| Settings {
            tier_secret: tier[0].map(str::to_owned),
            tier_secret_accepted: tier[1].map(str::to_owned),
            signing_key: signing[0].map(str::to_owned),
            signing_key_accepted: signing[1].map(str::to_owned),
            namespace: "a".to_owned(),
            ..Settings::default()
        };
        let both = with([Some("t1"), Some("t2")], [Some("s1"), Some("s2")]);
        let accepted = Secret::accepted(&both).unwrap();
        assert_eq!(name(&accepted), name(&secret(Some("t2"), "a")));
        let signed = with([None, None], [Some("s1"), Some("s2")]);
        let accepted = Secret::accepted(&signed).unwrap();
        assert_eq!(name(&accepted), name(&secret(Some("s2"), "a")));
        let own = with([Some("t1"), None], [Some("s1"), Some("s2")]);
        assert!(Secret::accepted(&own).is_none());
    }

    #[test]
    fn a_name_is_base64_of_all_bits() {
        assert_eq!(&base64([0; 16]), b"AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(&base64([0xff; 16]), b"_____________________w");
        let mut names = std::collections::BTreeSet::new();
        for bit in 0..128 {
            names.insert(base64((1_u128 << bit).to_be_bytes()));
        }
        assert_eq!(names.len(), 128);
    }

    #[test]
    fn nothing_printed_shows_the_secret() {
        assert_eq!(format!("{:?}", secret(Some("s3cret"), "a")), "Secret");
    }
}
