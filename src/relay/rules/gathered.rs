//! What one transaction invalidates, in bounded memory, however many rows it has.

use std::collections::BTreeMap;

use super::names::Name;
// Hashes of all caches together: 2 MiB. Beyond that the cache with the most is dropped whole: 256 messages of keys on
// each of many lanes cost instances more than the loads they would save. Caches: messages name them, and nothing else
// bounds those.
use crate::instance::statement::{MOST_CACHES, MOST_HASHES};

/// Collects names until the transaction commits.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// By cache and format.
    caches: BTreeMap<(u32, u32), Held>,
    /// Hashes held, some of them twice.
    held: usize,
    most: usize,
    everything: bool,
    collapses: u64,
}

#[derive(Debug, Default)]
struct Held {
    keys: Vec<u64>,
    tags: Vec<u64>,
    all: bool,
}

/// What to invalidate of one cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drops {
    pub(crate) cache: u32,
    pub(crate) format: u32,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The hashes of keys and of tags, each once, in ascending order.
    Named {
        keys: Vec<u64>,
        tags: Vec<u64>,
    },
    All,
}

/// What a transaction invalidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Every cache of the namespace; `drops` is empty then.
    pub(crate) everything: bool,
    pub(crate) drops: Vec<Drops>,
    /// How often a cache had too many names and is dropped whole, or there were too many caches.
    pub(crate) collapses: u64,
}

impl Default for Gathered {
    fn default() -> Self {
        Self::with_bound(MOST_HASHES)
    }
}

impl Gathered {
    fn with_bound(most: usize) -> Self {
        Self {
            caches: BTreeMap::new(),
            held: 0,
            most,
            everything: false,
            collapses: 0,
        }
    }

    pub(crate) fn add(&mut self, name: Name) {
        if self.everything {
            return;
        }
        let (cache, format) = match name {
            Name::Key { cache, format, .. }
            | Name::Tag { cache, format, .. }
            | Name::All { cache, format } => (cache, format),
            Name::Everything => return self.drop_everything(),
        };
        let held = self.caches.entry((cache, format)).or_default();
        if held.all {
            return;
        }
        self.held += match name {
            Name::Key { hash, .. } => push(&mut held.keys, hash),
            Name::Tag { hash, .. } => push(&mut held.tags, hash),
            Name::All { .. } | Name::Everything => {
                let freed = held.collapse();
                self.held = self.held.saturating_sub(freed);
                0
            }
        };
        if self.caches.len() > MOST_CACHES {
            self.collapses += 1;
            self.drop_everything();
        } else if self.held > self.most {
            self.shrink();
        }
    }

    fn drop_everything(&mut self) {
        self.caches.clear();
        self.held = 0;
        self.everything = true;
    }

    /// Leaves out what is there twice. Where that frees less than half, caches collapse, the largest first,
    /// so that the sorting is paid by as many names as it sorts.
    fn shrink(&mut self) {
        for held in self.caches.values_mut() {
            held.sort();
        }
        self.held = self.caches.values().map(Held::len).sum();
        while self.held > self.most / 2 {
            let Some(largest) = self.caches.values_mut().max_by_key(|held| held.len()) else {
                return;
            };
            let freed = largest.collapse();
            if freed == 0 {
                return;
            }
            self.held = self.held.saturating_sub(freed);
            self.collapses += 1;
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.caches.is_empty() && !self.everything
    }

    /// Takes everything out; the next transaction begins with nothing.
    pub(crate) fn drain(&mut self) -> Drained {
        let caches = std::mem::take(&mut self.caches);
        self.held = 0;
        let drops = caches.into_iter().map(|((cache, format), mut held)| {
            held.sort();
            let what = if held.all {
                What::All
            } else {
                What::Named {
                    keys: held.keys,
                    tags: held.tags,
                }
            };
            Drops {
                cache,
                format,
                what,
            }
        });
        Drained {
            drops: drops.collect(),
            everything: std::mem::take(&mut self.everything),
            collapses: std::mem::take(&mut self.collapses),
        }
    }
}

impl Extend<Name> for Gathered {
    fn extend<I: IntoIterator<Item = Name>>(&mut self, names: I) {
        for name in names {
            self.add(name);
        }
    }
}

impl Held {
    fn len(&self) -> usize {
        self.keys.len() + self.tags.len()
    }

    fn sort(&mut self) {
        for hashes in [&mut self.keys, &mut self.tags] {
            hashes.sort_unstable();
            hashes.dedup();
        }
    }

    /// Returns how many hashes it held.
    fn collapse(&mut self) -> usize {
        let freed = self.len();
        *self = Self {
            all: true,
            ..Self::default()
        };
        freed
    }
}

/// Returns how many hashes were added: an update often names the same key twice in a row.
fn push(hashes: &mut Vec<u64>, hash: u64) -> usize {
    if hashes.last() == Some(&hash) {
        return 0;
    }
    hashes.push(hash);
    1
}

#[cfg(test)]
mod tests;
