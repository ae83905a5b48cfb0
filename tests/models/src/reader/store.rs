//! The one key that is cached: its entry, and its load.

use crate::model::Model;
use crate::mutants::{Mechanism, without};
use crate::state::{Seen, State, Version};

/// One key. That the value of a load is fresh as of its beginning needs no check: it reads later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) entry: Option<Entry>,
    pub(crate) load: Option<Load>,
    /// The version that was due when the last verification was sent.
    pub(crate) verified: Version,
    /// The newest version whose invalidation has been applied.
    pub(crate) applied: Version,
    /// A read got an older version than the newest whose invalidation was applied before it began.
    pub(crate) went_back: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Load {
    read: Option<Version>,
    /// Something that concerns it was invalidated since it began.
    outdated: bool,
    /// The newest version whose invalidation was applied before the latest of its readers began.
    wanted: Version,
}

impl Store {
    pub(crate) fn invalidate(&mut self, version: Version) {
        self.entry = None;
        if let Some(load) = &mut self.load {
            load.outdated = true;
        }
        self.applied = self.applied.max(version);
    }

    /// Whether the load under way has read the database.
    pub(crate) fn load_has_read(&self) -> Option<bool> {
        let load = self.load.as_ref()?;
        Some(load.read.is_some())
    }

    pub(super) fn fence(&mut self) {
        self.entry = None;
        if let Some(load) = &mut self.load
            && !without(Mechanism::FenceOfLoadsInFlight)
        {
            load.outdated = true;
        }
    }
}

/// The steps of a load; each says whether it could be taken.
impl Model {
    /// A read finds nothing, and no load to join.
    pub(crate) fn load_begins(&self, state: &mut State) -> bool {
        let store = &mut state.reader.store;
        if store.entry.is_some() {
            return false;
        }
        if let Some(load) = &mut store.load {
            if !load.outdated {
                return false;
            }
            if self.bounds.join_invalidated {
                load.wanted = store.applied;
                return true;
            }
        }
        // A load that was invalidated goes on for the readers that wait for it, and is not stored.
        if without(Mechanism::TokenAtInsert) && store.load.is_some() {
            return false;
        }
        store.load = Some(Load {
            read: (!self.bounds.slow_loads).then_some(state.database),
            outdated: false,
            wanted: store.applied,
        });
        true
    }

    pub(crate) fn load_reads(&self, state: &mut State) -> bool {
        let newest = state.database;
        match &mut state.reader.store.load {
            Some(load) if load.read.is_none() => load.read = Some(newest),
            _ => return false,
        }
        true
    }

    pub(crate) fn load_ends(&self, state: &mut State) -> bool {
        let store = &mut state.reader.store;
        let Some(Load {
            read: Some(version),
            outdated,
            wanted,
        }) = store.load
        else {
            return false;
        };
        store.load = None;
        store.went_back |= version < wanted;
        if outdated && !without(Mechanism::TokenAtInsert) {
            self.witness.note(Seen::Discarded);
        } else {
            store.entry = Some(Entry { version });
        }
        true
    }
}
