//! The options of a cache in one run.

use std::io;

use unstale::{CacheBuilder, Instance, Loaded, RefreshAhead};

use crate::fleet::ms;
use crate::mind::{self, Facts, Id, Row, Spot};
use crate::source::{Reads, Source};

/// How a cache of all instances is built. Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CacheOptions {
    pub(crate) capacity: usize,
    /// Every value weighs a third of this.
    pub(crate) max_bytes: Option<u64>,
    /// In hundredths of a life; counts without `refresh_before`.
    pub(crate) refresh_ahead: Option<u64>,
    pub(crate) refresh_before: Option<u64>,
    pub(crate) stale_if_error: Option<u64>,
    pub(crate) stale_if_slow: Option<u64>,
    pub(crate) unknown_loads: Option<u32>,
    /// As the instance's TTL without one.
    pub(crate) negative_ttl: Option<u64>,
    /// The TTL on an instance whose own TTL is longer.
    pub(crate) ttl: Option<u64>,
    /// The TTL that comes with every other version.
    pub(crate) own_ttl: Option<u64>,
    pub(crate) load_timeout: u64,
    pub(crate) max_loads: usize,
    pub(crate) reap: Option<u64>,
    pub(crate) batch: Batch,
    /// Every hit is compared with the source.
    pub(crate) audit: bool,
    pub(crate) tier: bool,
    /// A relay watches its source: the promise counts from the commit.
    pub(crate) source: bool,
    /// Its loaders read a replica of it, which is so many milliseconds late.
    pub(crate) replica: Option<u64>,
    /// How long an instance waits for the load of another.
    pub(crate) claim: Option<u64>,
}

/// What the relay watches.
pub(crate) const SOURCE: &str = "database";

/// Which loaders a cache has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    No,
    Too,
    Only,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            capacity: 64,
            max_bytes: None,
            refresh_ahead: None,
            refresh_before: None,
            stale_if_error: None,
            stale_if_slow: None,
            unknown_loads: None,
            negative_ttl: None,
            ttl: None,
            own_ttl: None,
            load_timeout: 5_000,
            max_loads: 64,
            reap: None,
            batch: Batch::No,
            audit: false,
            tier: false,
            source: false,
            replica: None,
            claim: None,
        }
    }
}

impl CacheOptions {
    /// All keys of a cache fit at once, and nothing refuses to be read.
    pub(crate) fn is_roomy(&self) -> bool {
        self.capacity >= 64
            && self.max_bytes.is_none()
            && self.unknown_loads.is_none()
            && self.negative_ttl.is_none_or(|ttl| ttl >= 300)
    }

    /// The time within which a read always ends: three rounds, for the first load that it joins may
    /// be too old for it, and so may a value of the tier that it finds then. A round waits for a
    /// verification (0.25 s), its turn at the tier (0.5 s), the tier (2 s with the wait for a record)
    /// and the other instance, a token or a place among the loads, the load and a stand-in for each
    /// key (1.5 s).
    pub(crate) fn longest_read(&self) -> u64 {
        3 * (4_250 + self.claim.unwrap_or(0) + 4 * self.load_timeout)
    }

    /// How often each option is in use, for the totals.
    pub(crate) fn used(&self) -> [(&'static str, bool); 16] {
        [
            ("with_capacity", self.capacity < 64),
            ("with_max_bytes", self.max_bytes.is_some()),
            ("with_refresh_ahead", self.refresh_ahead.is_some()),
            ("with_refresh_before", self.refresh_before.is_some()),
            ("with_stale_if_error", self.stale_if_error.is_some()),
            ("with_stale_if_slow", self.stale_if_slow.is_some()),
            ("with_unknown_loads", self.unknown_loads.is_some()),
            ("with_negative_ttl", self.negative_ttl.is_some()),
            ("with_ttl", self.ttl.is_some()),
            ("with_own_ttl", self.own_ttl.is_some()),
            ("with_max_loads", self.max_loads < 64),
            ("with_reap", self.reap.is_some()),
            ("with_batch", self.batch != Batch::No),
            ("with_audit", self.audit),
            ("with_claim", self.claim.is_some()),
            ("with_source", self.source),
        ]
    }

    fn refresh(&self) -> Option<RefreshAhead> {
        let share = |part| RefreshAhead::Share(part as f64 / 100.0);
        let before = self.refresh_before.map(ms).map(RefreshAhead::Before);
        before.or(self.refresh_ahead.map(share))
    }

    pub(crate) fn build(
        &self,
        instance: &Instance,
        name: &str,
        place: usize,
        source: &Source,
    ) -> unstale::Cache<Id, Row> {
        let mut cache = instance
            .cache::<Id, Row>(name)
            .capacity(self.capacity)
            .load_timeout(ms(self.load_timeout))
            .max_loads(self.max_loads)
            .reap_interval(self.reap.map(ms))
            .refresh_ahead(self.refresh())
            .stale_if_error(self.stale_if_error.map(ms))
            .stale_if_slow(self.stale_if_slow.map(ms))
            .unknown_loads(self.unknown_loads);
        if self.source {
            cache = cache.source(SOURCE);
        }
        if let Some(ttl) = self.ttl {
            cache = cache.ttl(ms(ttl));
        }
        if let Some(ttl) = self.negative_ttl {
            cache = cache.negative_ttl(ms(ttl));
        }
        if let Some(bytes) = self.max_bytes {
            cache = cache.max_bytes(bytes).weigher(move |_: &Id, row: &Row| {
                mind::at(row.node(), Spot::Weigher);
                bytes / 3
            });
        }
        // A replica would say that what is served is too new.
        if self.audit && self.replica.is_none() {
            cache = cache.audit(|served: &Row, source: &Row| {
                mind::at(served.node(), Spot::Compare);
                served.facts().version == source.facts().version
            });
        }
        let cache = self.loaders(cache, place, source);
        self.tier(cache, place)
            .build()
            .expect("the options are valid and the name is new")
    }

    /// What its loaders ask of the source.
    pub(crate) fn reads(&self) -> Reads {
        Reads {
            own_ttl: self.own_ttl,
            replica: self.replica.map(ms),
        }
    }

    fn loaders(
        &self,
        mut cache: CacheBuilder<Id, Row>,
        place: usize,
        source: &Source,
    ) -> CacheBuilder<Id, Row> {
        let reads = self.reads();
        if self.batch != Batch::Only {
            let source = source.clone();
            cache = cache.loader(move |id: Id| {
                let (source, key) = (source.clone(), id.into_key());
                async move {
                    mind::load(place, Spot::Loader).await;
                    Ok(source.load(place, key, reads).await?)
                }
            });
        }
        if self.batch == Batch::No {
            return cache;
        }
        let source = source.clone();
        cache.batch_loader(move |ids: Vec<Id>| {
            let source = source.clone();
            let keys: Vec<u64> = ids.into_iter().map(Id::into_key).collect();
            async move {
                mind::load(place, Spot::BatchLoader).await;
                let mut loaded: Vec<(Id, io::Result<Loaded<Row>>)> = Vec::new();
                for row in source.load_many(place, &keys, reads).await? {
                    loaded.push((Id::new(row.0, place), row.1));
                }
                Ok(loaded)
            }
        })
    }

    #[cfg(feature = "shared")]
    fn tier(&self, cache: CacheBuilder<Id, Row>, place: usize) -> CacheBuilder<Id, Row> {
        if !self.tier {
            return cache;
        }
        let to = |row: &Row| {
            mind::at(row.node(), Spot::ToShared);
            let Facts {
                version,
                born,
                life,
            } = row.facts();
            (version, born, life)
        };
        let from = move |(version, born, life): (u64, u64, u64)| {
            mind::at(place, Spot::FromShared);
            let facts = Facts {
                version,
                born,
                life,
            };
            Row::new(facts, place)
        };
        let shared = unstale::SharedTier::projection(to, from);
        cache.tier(match self.claim {
            Some(claim) => shared.fleet_single_flight(ms(claim)),
            None => shared,
        })
    }

    #[cfg(not(feature = "shared"))]
    fn tier(&self, cache: CacheBuilder<Id, Row>, _: usize) -> CacheBuilder<Id, Row> {
        cache
    }
}
