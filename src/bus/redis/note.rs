//! What an instance says of itself, as Redis keeps it: with which key it signs, and which caches it has. By the
//! notes an operator learns that no instance has a cache of a name, and a writer that no instance would accept its events.
//!
//! Nothing of the protocol depends on it. It travels with a verification of lane 0, once for each change.
//!
//! ```text
//! note = number of keys (1 byte), the fingerprint of each (4), the first signs; of each cache id and format (4 + 4)
//! ```

use bytes::Bytes;

use crate::bus::CacheFormat;
use crate::event::KeyPrint;
use crate::lock::Lock;

/// Most caches in a note: 8 KiB. A note of more caches ends with the id 0, which no cache has.
const MOST: usize = 1_024;

/// The note that was sent last, and the one that is to be sent.
#[derive(Debug)]
pub(super) struct Announced(Lock<State>);

#[derive(Debug)]
struct State {
    keys: Vec<KeyPrint>,
    packed: Bytes,
    sent: bool,
}

impl Announced {
    /// Makes the note of an instance that signs with the first of these keys and accepts all of them.
    pub(super) fn new(keys: Vec<KeyPrint>) -> Self {
        let packed = pack(&keys, &[]);
        Self(Lock::new(State {
            keys,
            packed,
            sent: false,
        }))
    }

    /// The keys were changed.
    pub(super) fn set_keys(&self, keys: Vec<KeyPrint>) {
        let mut state = self.0.lock();
        // All that is packed behind the keys is the caches.
        let caches = 1 + size_of::<KeyPrint>() * state.keys.len();
        let packed = [&pack(&keys, &[]), &state.packed[caches..]].concat();
        state.packed = packed.into();
        state.keys = keys;
        state.sent = false;
    }

    /// Sets which caches the instance has. Returns whether the note is to be sent.
    pub(super) fn set(&self, caches: &[CacheFormat]) -> bool {
        let mut state = self.0.lock();
        let packed = pack(&state.keys, caches);
        if state.packed != packed {
            state.packed = packed;
            state.sent = false;
        }
        !state.sent
    }

    /// Returns the note that is to be sent with the next verification.
    pub(super) fn pending(&self) -> Option<Bytes> {
        let state = self.0.lock();
        (!state.sent).then(|| state.packed.clone())
    }

    /// The server has taken this.
    pub(super) fn taken(&self, packed: &Bytes) {
        let mut state = self.0.lock();
        state.sent = state.packed == *packed;
    }

    /// The server did not know this instance, and has nothing of it.
    pub(super) fn forgotten(&self) {
        self.0.lock().sent = false;
    }
}

fn pack(keys: &[KeyPrint], caches: &[CacheFormat]) -> Bytes {
    let mut packed = vec![keys.len() as u8];
    packed.extend(keys.as_flattened());
    let others = (caches.len() > MOST).then_some(CacheFormat { id: 0, format: 0 });
    for CacheFormat { id, format } in caches.iter().take(MOST).copied().chain(others) {
        packed.extend_from_slice(&id.to_be_bytes());
        packed.extend_from_slice(&format.to_be_bytes());
    }
    packed.into()
}

/// What [`pack`] has packed, of any member.
#[cfg(feature = "cli")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) keys: Vec<KeyPrint>,
    pub(crate) caches: Vec<CacheFormat>,
}

#[cfg(feature = "cli")]
impl Note {
    /// Reads a note; `None` if these bytes are not one. Trailing bytes that do not make up a cache are left out.
    pub(super) fn unpack(packed: &[u8]) -> Option<Self> {
        let (number, rest) = packed.split_first()?;
        let (keys, rest) = rest.split_at_checked(size_of::<KeyPrint>() * usize::from(*number))?;
        let (caches, _) = rest.as_chunks::<8>();
        let cache = |bytes: &[u8; 8]| {
            let both = u64::from_be_bytes(*bytes);
            CacheFormat {
                id: (both >> 32) as u32,
                format: both as u32,
            }
        };
        Some(Self {
            keys: keys.as_chunks().0.to_vec(),
            caches: caches.iter().map(cache).collect(),
        })
    }

    /// Returns whether this member and one with those keys accept each other's events.
    pub(crate) fn agrees(&self, keys: &[KeyPrint]) -> bool {
        match (self.keys.first(), keys.first()) {
            (None, None) => true,
            (Some(theirs), Some(ours)) => keys.contains(theirs) && self.keys.contains(ours),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [KeyPrint; 2] = [*b"new!", *b"old!"];

    fn cache(id: u32) -> CacheFormat {
        CacheFormat { id, format: id + 1 }
    }

    fn note(packed: &[u8]) -> Note {
        Note::unpack(packed).unwrap()
    }

    #[test]
    fn a_changed_note_is_sent_once_and_again_after_the_server_forgot_it() {
        let announced = Announced::new(KEYS.to_vec());
        let alone = announced.pending().unwrap();
        assert_eq!(
            (note(&alone).keys, note(&alone).caches),
            (KEYS.to_vec(), vec![])
        );
        assert!(announced.set(&[cache(1)]));
        let first = announced.pending().unwrap();
        announced.taken(&first);
        assert_eq!(announced.pending(), None);
        assert!(!announced.set(&[cache(1)]));
        assert!(announced.set(&[cache(1), cache(2)]));
        // An answer to the one before says nothing of this one.
        announced.taken(&first);
        assert_eq!(
            note(&announced.pending().unwrap()).caches,
            [cache(1), cache(2)]
        );
        announced.taken(&pack(&KEYS, &[cache(1), cache(2)]));
        assert_eq!(announced.pending(), None);
        announced.forgotten();
        assert!(announced.pending().is_some());
    }

    #[test]
    fn a_note_of_too_many_caches_says_that_there_are_more() {
        let many: Vec<_> = (1..2_000).map(cache).collect();
        let listed = note(&pack(&[], &many)).caches;
        assert_eq!(listed[..MOST], many[..MOST]);
        assert_eq!(listed[MOST..], [CacheFormat { id: 0, format: 0 }]);
        for hostile in [&b""[..], b"\x01abc", b"\xff"] {
            assert_eq!(Note::unpack(hostile), None);
        }
        assert_eq!(note(b"\0short").caches, []);
    }

    #[test]
    fn instances_agree_when_each_accepts_the_key_that_the_other_signs_with() {
        let of = |keys: &[KeyPrint]| note(&pack(keys, &[]));
        let [new, old] = KEYS;
        for (one, other, agree) in [
            (&[][..], &[][..], true),
            (&[], &[old], false),
            (&[old], &[old, new], true),
            (&[old, new], &[new, old], true),
            (&[new, old], &[new], true),
            (&[old], &[new, old], false),
            (&[old], &[new], false),
        ] {
            assert_eq!(of(one).agrees(other), agree, "{one:?} {other:?}");
            assert_eq!(of(other).agrees(one), agree, "{other:?} {one:?}");
        }
    }
}
