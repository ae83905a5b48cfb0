//! A store of one key and its source of truth, as an instance would use them.

use std::sync::Arc;

use shuttle::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::metrics::CacheMetrics;
use crate::mutants::{Mechanism, Without};
use crate::store::entry::{Meta, Stored};
use crate::store::packed::Packed;
use crate::store::stamps::Stamps;
use crate::store::{Insertion, Store, StoreOptions};
use crate::time::{Clock, Nanos};
use crate::wait::until_verified;

const CACHE: u32 = 7;
const KEY: u64 = 5;
const HASH: u64 = 0x0123_4567_89AB_CDEF;
const TAG: u64 = 0xFEDC_BA98_7654_3210;

const SECOND: Nanos = 1_000_000_000;

/// The time, which stands still.
const NOW: Nanos = 100 * SECOND;

/// Hits are at most so old, where a test says that they are bounded.
const BOUND: Nanos = 10 * SECOND;

/// What an invalidation names.
#[derive(Clone, Copy, Debug)]
pub enum What {
    Key,
    Tag,
    Cache,
    Lane,
}

/// What a read was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Version(u64),
    Absent,
    Nothing,
}

/// When a load takes its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    BeforeTheLoad,
    /// A mistake: nothing that came during the load is above it.
    AfterTheLoad,
}

/// When a read begins to wait for a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    BeforeTheTest,
    /// A mistake: a verification between the two wakes nothing.
    AfterTheTest,
}

/// Shared by the threads of a test.
#[derive(Clone, Debug)]
pub struct Instance {
    store: Arc<Store<u64, u64>>,
    stamps: Arc<Stamps>,
    /// The key's version in the source of truth; 0 may mean that there is none.
    truth: Arc<AtomicU64>,
}

impl Instance {
    /// `bounded`: what was loaded in this test's past needs a verification to be served.
    #[must_use]
    pub fn new(bounded: bool) -> Self {
        let stamps = Arc::new(Stamps::new(1, crate::sync::STRIPES));
        let options = StoreOptions {
            cache: CACHE,
            capacity: 16,
            negative_capacity: 16,
            max_bytes: None,
            max_staleness: bounded.then_some(BOUND),
            source: None,
            refresh: None,
            remember_known: false,
            clock: Clock(NOW),
            contain: Arc::default(),
        };
        Self {
            store: Arc::new(Store::new(
                options,
                stamps.clone(),
                Arc::new(CacheMetrics::default()),
            )),
            stamps,
            truth: Arc::default(),
        }
    }

    /// A load, and what becomes of its value. Returns whether it was stored.
    pub fn load(&self, token: Token) -> bool {
        self.load_at(NOW, token, false)
    }

    /// As [`load`](Self::load), where version 0 does not exist.
    pub fn load_absence(&self) -> bool {
        self.load_at(NOW, Token::BeforeTheLoad, true)
    }

    /// As [`load`](Self::load), so long ago that only a verification lets it be served.
    pub fn load_long_ago(&self) -> bool {
        self.load_at(NOW - 2 * BOUND, Token::BeforeTheLoad, false)
    }

    fn load_at(&self, loaded_at: Nanos, when: Token, absent: bool) -> bool {
        let before = self.stamps.token();
        let version = self.truth.load(SeqCst);
        let token = match when {
            Token::BeforeTheLoad => before,
            Token::AfterTheLoad => self.stamps.token(),
        };
        let meta = Meta {
            packed: Packed::new(token, loaded_at, 1_000 * SECOND, 0, false),
            tags: Some(Arc::new(Box::new([TAG]))),
        };
        let stored = Stored {
            hash: HASH,
            key: KEY,
        };
        let value = (!absent || version > 0).then_some(version);
        self.store.insert(&stored, value, meta) == Insertion::Stored
    }

    /// A write of the next version, and its invalidation.
    pub fn write(&self, what: What) {
        self.commit();
        self.invalidate(what);
    }

    /// The write alone.
    pub fn commit(&self) {
        self.truth.fetch_add(1, SeqCst);
    }

    /// The invalidation alone.
    pub fn invalidate(&self, what: What) {
        match what {
            What::Key => {
                self.store.invalidate_key(HASH);
            }
            What::Tag => self.store.invalidate_tag(TAG),
            What::Cache => self.store.invalidate_all(),
            What::Lane => self.stamps.fence(0),
        }
    }

    /// A mistake: the stamp without the removal.
    pub fn stamp_key_only(&self) {
        let now = self.stamps.tick();
        self.stamps.key(CACHE, HASH).fetch_max(now, SeqCst);
    }

    /// Everything published before now has been applied.
    pub fn verify(&self) {
        self.stamps.lane_at(0).verify(NOW);
    }

    #[must_use]
    pub fn read(&self) -> Answer {
        match self.store.lookup(HASH, &KEY) {
            Ok(found) => found.value.map_or(Answer::Absent, Answer::Version),
            Err(_) => Answer::Nothing,
        }
    }

    /// The reaper passes.
    pub fn sweep(&self) {
        self.store.sweep(NOW, 0);
    }

    /// Entries and bytes held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits as a read does until the lane is verified, and asks for that each time.
    pub fn wait(&self, wait: Wait, ask: impl Fn()) {
        let _without =
            (wait == Wait::AfterTheTest).then(|| Without::new(Mechanism::WaitBeforeTest));
        let lane = self.stamps.lane(HASH);
        let ask = || {
            ask();
            true
        };
        let verified = || (lane.verified_at() > 0).then_some(());
        let waited = shuttle::future::block_on(until_verified(lane, ask, verified));
        assert_eq!(waited, Some(()));
    }
}
