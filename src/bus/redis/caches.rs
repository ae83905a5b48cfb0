//! Which caches an instance has, as Redis knows it: what tells an operator that no instance has a cache of that
//! name.
//!
//! Nothing of the protocol depends on it. It travels with a verification of lane 0, once for each change.

use bytes::Bytes;

use crate::bus::CacheFormat;
use crate::lock::Lock;

/// Caches that are told at most: 8 KiB. What has more says so by a cache with the id 0, which none has.
const MOST: usize = 1_024;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Announced(Lock<State>);

#[derive(Debug, Default)]
struct State {
    /// Nothing before the first cache is built.
    packed: Option<Bytes>,
    told: bool,
}

impl Announced {
    /// Sets what the instance has; whether that is to be told.
    pub(super) fn set(&self, caches: &[CacheFormat]) -> bool {
        let packed = pack(caches);
        let mut state = self.0.lock();
        if state.packed.as_ref() != Some(&packed) {
            state.packed = Some(packed);
            state.told = false;
        }
        !state.told
    }

    /// What is to be told with the next verification.
    pub(super) fn pending(&self) -> Option<Bytes> {
        let state = self.0.lock();
        state.packed.clone().filter(|_| !state.told)
    }

    /// The server has taken this.
    pub(super) fn told(&self, packed: &Bytes) {
        let mut state = self.0.lock();
        state.told = state.packed.as_ref() == Some(packed);
    }

    /// The server did not know this instance, and has nothing of it.
    pub(super) fn forgotten(&self) {
        self.0.lock().told = false;
    }
}

/// Eight bytes each: id and format, big-endian.
fn pack(caches: &[CacheFormat]) -> Bytes {
    let others = (caches.len() > MOST).then_some(CacheFormat { id: 0, format: 0 });
    let told = caches.iter().take(MOST).copied().chain(others);
    told.flat_map(|CacheFormat { id, format }| {
        (u64::from(id) << 32 | u64::from(format)).to_be_bytes()
    })
    .collect()
}

/// What [`pack`] has packed; a rest that is no cache is left out.
#[cfg(feature = "cli")]
pub(super) fn unpack(packed: &[u8]) -> Vec<CacheFormat> {
    let (caches, _) = packed.as_chunks::<8>();
    let cache = |bytes: &[u8; 8]| {
        let both = u64::from_be_bytes(*bytes);
        CacheFormat {
            id: (both >> 32) as u32,
            format: both as u32,
        }
    };
    caches.iter().map(cache).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(id: u32) -> CacheFormat {
        CacheFormat { id, format: id + 1 }
    }

    #[test]
    fn what_changes_is_told_once_and_again_where_it_was_forgotten() {
        let announced = Announced::default();
        assert_eq!(announced.pending(), None);
        assert!(announced.set(&[cache(1)]));
        let first = announced.pending().unwrap();
        announced.told(&first);
        assert_eq!(announced.pending(), None);
        assert!(!announced.set(&[cache(1)]));
        assert!(announced.set(&[cache(1), cache(2)]));
        // An answer to the one before says nothing of this one.
        announced.told(&first);
        assert_eq!(unpack(&announced.pending().unwrap()), [cache(1), cache(2)]);
        announced.told(&pack(&[cache(1), cache(2)]));
        announced.forgotten();
        assert!(announced.pending().is_some());
    }

    #[test]
    fn more_than_can_be_told_is_told_as_more() {
        let many: Vec<_> = (1..2_000).map(cache).collect();
        let told = unpack(&pack(&many));
        assert_eq!(told[..MOST], many[..MOST]);
        assert_eq!(told[MOST..], [CacheFormat { id: 0, format: 0 }]);
        assert_eq!(
            unpack(b"too short"),
            [CacheFormat {
                id: 0x746f_6f20,
                format: 0x7368_6f72
            }]
        );
        assert_eq!(unpack(b"short"), []);
    }
}
