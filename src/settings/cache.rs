//! The settings of one cache: what may be set for it, and what that resolves to.

use std::time::Duration;

use super::problems::{Place, Problems};
use super::{Settings, bounds, table};
use crate::Error;

/// Overrides for one cache; a field that is `None` leaves the setting alone.
///
/// Each field means what the field of the same name in [`Settings`] means.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CacheSettings {
    /// Longest life of an entry.
    pub ttl: Option<Duration>,
    /// Part of the TTL by which an entry's life is shortened at random.
    pub ttl_jitter: Option<f64>,
    /// How old a hit may be after its invalidation; `Some(None)` turns the promise off.
    pub max_staleness: Option<Option<Duration>>,
    /// How long "does not exist" is remembered.
    pub negative_ttl: Option<Duration>,
    /// Most entries.
    pub capacity: Option<usize>,
    /// Most bytes; `Some(None)` takes the bound away.
    pub max_bytes: Option<Option<u64>>,
    /// How often expired entries are removed unread; `Some(None)` never.
    pub reap_interval: Option<Option<Duration>>,
    /// Part of the TTL after which a hit starts a reload; `Some(None)` never.
    pub refresh_ahead: Option<Option<f64>>,
    /// Time before an entry's end from which on a hit starts a reload; `Some(None)` never.
    pub refresh_before: Option<Option<Duration>>,
    /// Share of the hits that is compared with the source; `Some(None)` none.
    pub audit: Option<Option<f64>>,
    /// How long past its TTL an entry is served when its loader fails; `Some(None)` not at all.
    pub stale_if_error: Option<Option<Duration>>,
    /// Longest run of one load.
    pub load_timeout: Option<Duration>,
    /// Most loads under way at once.
    pub max_loads: Option<usize>,
    /// Loads a second, of keys that nothing in memory knows of, that may find nothing;
    /// `Some(None)` any number.
    pub unknown_loads: Option<Option<u32>>,
    /// Whether its shared tier, if it has one, is used.
    pub shared: Option<bool>,
    /// How long a value may live in Redis; `Some(None)` as long as its TTL.
    pub shared_ttl: Option<Option<Duration>>,
}

/// What one cache runs with, all sources resolved and all bounds checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CacheOptions {
    pub(crate) ttl: Duration,
    pub(crate) ttl_jitter: f64,
    pub(crate) max_staleness: Option<Duration>,
    pub(crate) negative_ttl: Duration,
    pub(crate) capacity: usize,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) reap_interval: Option<Duration>,
    pub(crate) refresh_ahead: Option<f64>,
    pub(crate) refresh_before: Option<Duration>,
    pub(crate) audit: Option<f64>,
    pub(crate) stale_if_error: Option<Duration>,
    pub(crate) load_timeout: Duration,
    pub(crate) max_loads: usize,
    pub(crate) unknown_loads: Option<u32>,
    pub(crate) shared: bool,
    pub(crate) shared_ttl: Option<Duration>,
}

/// Whether a cache may wait so long for another instance's load.
///
/// # Errors
///
/// `Settings`, as for a value of [`CacheSettings`] that is out of bounds.
#[cfg(feature = "shared")]
pub(crate) fn single_flight(cache: &str, wait: Duration) -> Result<(), Error> {
    let mut problems = Problems::in_code();
    if let Err(why) = bounds::call_timeout(&wait) {
        let place = Place::of_cache(cache, "fleet_single_flight");
        let shown = humantime::format_duration(wait).to_string();
        problems.report(place, &shown, why);
    }
    problems.into_result()
}

impl Settings {
    /// Resolves one cache's options: its own variables win over its builder's calls (`code`),
    /// which win over the settings for all caches.
    ///
    /// # Errors
    ///
    /// Lists the name, if it cannot be a cache's, and every value out of bounds, each by the
    /// variable or the builder option that set it.
    pub(crate) fn for_cache(
        &self,
        name: &str,
        code: &CacheSettings,
    ) -> Result<CacheOptions, Error> {
        let mut problems = Problems::in_code();
        if let Err(why) = bounds::cache_name(name) {
            problems.report(Place::of_cache(name, ""), "", why);
        }
        let unset = CacheSettings::default();
        let vars = self.caches.get(name).unwrap_or(&unset);
        for field in table::FIELDS {
            let Some(part) = &field.cache else { continue };
            let place = Place::of_cache(name, field.name);
            let (from, shown) = if let Some(shown) = (part.show)(vars) {
                problems.origin(place.clone(), place.variable());
                (vars, shown)
            } else if let Some(shown) = (part.show)(code) {
                (code, shown)
            } else {
                problems.origin(place, Place::global(field.name).variable());
                continue; // checked with the settings as a whole
            };
            if let Err(why) = (part.check)(from) {
                problems.report(place, &shown, why);
            }
        }
        let options = self.resolve(vars, code);
        bounds::promise(self, name, options.max_staleness, &mut problems);
        problems.into_result().map(|()| options)
    }

    fn resolve(&self, vars: &CacheSettings, code: &CacheSettings) -> CacheOptions {
        macro_rules! pick {
            ($field:ident) => {
                vars.$field.or(code.$field).unwrap_or(self.$field)
            };
        }
        CacheOptions {
            ttl: pick!(ttl),
            ttl_jitter: pick!(ttl_jitter),
            max_staleness: pick!(max_staleness),
            negative_ttl: pick!(negative_ttl),
            capacity: pick!(capacity),
            max_bytes: pick!(max_bytes),
            reap_interval: pick!(reap_interval),
            refresh_ahead: pick!(refresh_ahead),
            refresh_before: pick!(refresh_before),
            audit: pick!(audit),
            stale_if_error: pick!(stale_if_error),
            load_timeout: pick!(load_timeout),
            max_loads: pick!(max_loads),
            unknown_loads: pick!(unknown_loads),
            shared: pick!(shared),
            shared_ttl: pick!(shared_ttl),
        }
    }
}
