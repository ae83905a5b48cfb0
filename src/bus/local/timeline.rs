//! What happened on a local bus, in order: the truth by which a simulator judges.

use tokio::time::Instant;

use super::lane::Published;
use crate::Key;
use crate::Settings;
use crate::event::{NO_ORIGIN, Seal, What};
use crate::key::{cache_id, tag_hash};
use crate::store::stamps::lane_of;

/// Entries a timeline holds at most: more than ten minutes of a busy fleet, and a bound on a test's
/// memory. Reaching it is a mistake in the test.
const ENTRIES: usize = 1 << 20;

/// Everything that the servers of a bus did, in order.
#[derive(Clone, Debug, Default)]
pub struct Timeline(Vec<Entry>);

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
    /// Returns whether it drops this key of a cache, which has these tags.
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

impl Timeline {
    pub(super) fn note(&mut self, what: Happened) {
        assert!(self.0.len() < ENTRIES, "a timeline without an end");
        let at = Instant::now();
        self.0.push(Entry { at, what });
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns all of it, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }
}

impl Happened {
    /// A server gave an event its place; `None` if it does not decode.
    pub(super) fn published(from: usize, primary: bool, published: &Published) -> Option<Self> {
        // No simulation has a key: signed events name nothing here.
        let seal = Seal::new(&Settings::default());
        let (event, _) = seal.decode(published.lane, &published.payload).ok()?;
        let names = event.ops.into_iter();
        Some(Self::Published(Sequenced {
            lane: published.lane,
            epoch: published.position.epoch,
            sequence: published.position.sequence,
            primary,
            origin: (event.origin != NO_ORIGIN).then_some(from),
            names: names.map(|op| (op.cache, op.what)).collect(),
        }))
    }
}
