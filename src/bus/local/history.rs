//! What happened on a local bus, for judges that are told the truth.

use tokio::time::Instant;

use super::lane::Published;
use super::{LocalBus, State};
use crate::Key;
use crate::Settings;
use crate::event::{NOBODY, Seal, What};
use crate::key::{cache_id, tag_hash};
use crate::store::stamps::lane_of;

/// Entries a history holds at most: more than ten minutes of a busy fleet, and a bound on a test's
/// memory. Reaching it is a mistake in the test.
const ENTRIES: usize = 1 << 20;

/// Everything that the servers of a bus did, in order.
#[derive(Clone, Debug, Default)]
pub struct History(Vec<Entry>);

/// One thing that a server did.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// What.
    pub what: Happened,
}

/// What a server did.
#[derive(Clone, Debug)]
pub enum Happened {
    /// The instance with this number sent a verification, which may not have arrived.
    Asked(usize),
    /// The primary registered the instance with this number as alive.
    Seen(usize),
    /// An event was given a sequence.
    Published(Sequenced),
}

/// An event with its place, and whether the server that took it was the primary.
#[derive(Clone, Debug)]
pub struct Sequenced {
    /// Its lane.
    pub lane: u32,
    /// The life of the lane's counter.
    pub epoch: u64,
    /// Its number in that.
    pub sequence: u64,
    /// False on a server that has been replaced and does not know.
    pub primary: bool,
    /// The number of the instance that invalidated, and will not apply it again; `None`: it was
    /// published for one that is dead.
    pub origin: Option<usize>,
    names: Vec<(u32, What)>,
}

impl Sequenced {
    /// Whether it drops this key of a cache, which has these tags.
    #[must_use]
    pub fn drops(&self, lanes: u32, cache: &str, key: &(impl Key + ?Sized), tags: &[&str]) -> bool {
        let Some(hash) = key.digest() else {
            return false;
        };
        lane_of(hash, lanes) == self.lane
            && self.names.iter().any(|(of, what)| match what {
                What::Lane => true,
                _ if *of != cache_id(cache) => false,
                What::Keys(hashes) => hashes.contains(&hash),
                What::Tags(named) => tags.iter().any(|tag| named.contains(&tag_hash(tag))),
                What::Cache => true,
            })
    }
}

impl History {
    /// All of it, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }
}

impl State {
    fn note(&mut self, what: Happened) {
        if let Some(History(entries)) = &mut self.history {
            assert!(entries.len() < ENTRIES, "a history without an end");
            let at = Instant::now();
            entries.push(Entry { at, what });
        }
    }

    pub(super) fn note_asked(&mut self, number: usize) {
        self.note(Happened::Asked(number));
    }

    pub(super) fn note_seen(&mut self, number: usize) {
        if !self.isolated(number) {
            self.note(Happened::Seen(number));
        }
    }

    pub(super) fn note_published(&mut self, from: usize, published: &Published) {
        if self.history.is_none() {
            return;
        }
        let primary = !self.isolated(from);
        // Nobody signs in a simulation: signed events name nothing here.
        let seal = Seal::new(&Settings::default());
        let Ok((event, _)) = seal.decode(published.lane, &published.payload) else {
            return;
        };
        let names = event.ops.into_iter();
        self.note(Happened::Published(Sequenced {
            lane: published.lane,
            epoch: published.position.epoch,
            sequence: published.position.sequence,
            primary,
            origin: (event.origin != NOBODY).then_some(from),
            names: names.map(|op| (op.cache, op.what)).collect(),
        }));
    }
}

impl LocalBus {
    /// Begins to write down what happens.
    #[doc(hidden)]
    pub fn keep_history(&self) {
        self.0.lock().history.get_or_insert_default();
    }

    /// How much has happened so far: a moment between what came before and what comes after.
    #[doc(hidden)]
    #[must_use]
    pub fn moment(&self) -> usize {
        self.0
            .lock()
            .history
            .as_ref()
            .map_or(0, |history| history.0.len())
    }

    /// What has happened since [`keep_history`](Self::keep_history), or since this was last called.
    #[doc(hidden)]
    #[must_use]
    pub fn take_history(&self) -> History {
        self.0.lock().history.take().unwrap_or_default()
    }
}
