//! Settings: plain values with defaults, bounds and help.
//!
//! [`Settings`] is what an instance starts with; [`Settings::from_env`] fills it from `UNSTALE_*`.
//! One table (`settings/table.rs`) gives each setting its name, default, bounds and help, so that
//! reading, checking and describing cannot disagree.

mod bounds;
mod cache;
mod env;
mod problems;
mod table;
mod text;
mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Error;
use problems::{Place, Problems};

pub(crate) use cache::CacheOptions;
pub use cache::CacheSettings;
#[cfg(feature = "shared")]
pub(crate) use cache::single_flight;

/// What an instance starts with.
///
/// Every field is named like its variable: `ttl` is `UNSTALE_TTL`.
/// Precedence for one cache: its own variable (`UNSTALE_CACHES__ACCOUNTS__TTL`), then the options
/// of its builder, then these fields, so that operators have the last word.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use unstale::Settings;
///
/// # fn main() -> Result<(), unstale::Error> {
/// let mut settings = Settings::default();
/// settings.namespace = "billing".into();
/// settings.ttl = Duration::from_secs(300);
/// settings.validate()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// Where Redis is: `redis://` or `rediss://`. `None` shares events inside this process only.
    pub redis_url: Option<String>,
    /// PEM file of the authorities to trust for `rediss://`; `None` trusts the system's.
    pub tls_ca: Option<PathBuf>,
    /// PEM file of the client certificate for `rediss://`; needs [`tls_key`](Self::tls_key).
    pub tls_cert: Option<PathBuf>,
    /// PEM file of the client certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Instances with the same namespace share events. Defaults to `default`.
    pub namespace: String,
    /// A secret that all instances and writers of the namespace share: events are signed with it,
    /// and nothing else is believed. Needs a journal. Defaults to `None`, no signatures.
    pub key: Option<String>,
    /// Another secret whose signatures are believed too, while the key is being changed.
    pub key_accepted: Option<String>,
    /// Longest life of an entry; the net for writers that tell nobody. Defaults to 60 s.
    pub ttl: Duration,
    /// Part of the TTL by which an entry's life is shortened at random. Defaults to 0.1.
    pub ttl_jitter: f64,
    /// How old a hit may be after its invalidation, whatever fails; `None` is TTL only.
    /// Defaults to 2 s.
    pub max_staleness: Option<Duration>,
    /// How long "does not exist" is remembered; zero remembers nothing. Defaults to 5 s.
    pub negative_ttl: Duration,
    /// Most entries of one cache. Defaults to 10,000.
    pub capacity: usize,
    /// Most bytes of one cache, as its weigher counts them. Defaults to `None`, no bound.
    pub max_bytes: Option<u64>,
    /// How often expired entries are removed unread; `None` leaves them to reads and to
    /// eviction. Defaults to 1 s.
    pub reap_interval: Option<Duration>,
    /// Part of the TTL after which a hit starts one reload in the background.
    /// Defaults to `None`, never.
    pub refresh_ahead: Option<f64>,
    /// Time before an entry's end from which on a hit starts one reload in the background; counts at
    /// most half of the entry's life. With `refresh_ahead` the earlier wins.
    /// Defaults to `None`, never.
    pub refresh_before: Option<Duration>,
    /// Share of the hits that is compared with the source in the background, in caches that can
    /// ([`CacheBuilder::audit`](crate::CacheBuilder::audit)). Defaults to `None`, none.
    pub audit: Option<f64>,
    /// How long past its TTL an entry is served when its loader fails. Defaults to `None`, not.
    pub stale_if_error: Option<Duration>,
    /// Longest run of one load. Defaults to 5 s.
    pub load_timeout: Duration,
    /// Most loads of one cache under way at once. Defaults to 64.
    pub max_loads: usize,
    /// Loads a second and cache, of keys that nothing in memory knows of, that may find nothing.
    /// Defaults to `None`, any number.
    pub unknown_loads: Option<u32>,
    /// Whether caches that have a shared tier use it. Defaults to true.
    pub shared: bool,
    /// How long a value may live in Redis since its load began. Defaults to `None`, as long as `ttl`.
    pub shared_ttl: Option<Duration>,
    /// A secret of the namespace: without it nobody can tell whose a value in Redis is, or make one
    /// up. Defaults to `None`: `key` is used, and without that only the namespace's name.
    pub shared_secret: Option<String>,
    /// How often Redis is asked whether any event was missed. Defaults to 500 ms.
    pub verify_interval: Duration,
    /// Ordered streams of events; the same on every instance. Defaults to 1.
    pub lanes: u32,
    /// Latest events that Redis keeps for each lane, for repair; 0 keeps none. Defaults to 4096.
    pub journal: u32,
    /// Most keys that wait to be published. Defaults to 65,536.
    pub outbox: usize,
    /// Longest wait of an invalidation for Redis. Defaults to 2 s.
    pub publish_timeout: Duration,
    /// Silence after which peers finish an instance's open writes for it. Defaults to 5 s.
    pub member_timeout: Duration,
    /// Longest run of the commit of one write. Defaults to 30 s.
    pub write_timeout: Duration,
    /// Whether a write may commit while Redis cannot be told of it. Defaults to `Strict`.
    pub write_policy: WritePolicy,
    /// Where to serve Prometheus metrics. Defaults to `None`, nowhere.
    pub metrics_addr: Option<SocketAddr>,
    /// Overrides for single caches, by their names; they win over the builder's options.
    pub caches: BTreeMap<String, CacheSettings>,
}

/// What a write does when it cannot be announced to Redis before its commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WritePolicy {
    /// It is refused, and nothing is committed: no peer can become stale.
    #[default]
    Strict,
    /// It commits and is counted: peers may serve the old value until Redis is back, at most a TTL.
    Available,
}

/// One row of [`Settings::describe`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// The variable's name, such as `UNSTALE_TTL`.
    pub variable: String,
    /// The default, as one would write it in the variable, or `unset`.
    pub default: &'static str,
    /// The present value in the same form, with secrets redacted.
    pub value: String,
    /// What it does, in a sentence.
    pub help: &'static str,
}

impl Settings {
    /// Reads `UNSTALE_*` over the TOML file that `UNSTALE_FILE` names.
    ///
    /// The file has the same names in lower case, `ttl = "30s"`, and a table for each cache with
    /// settings of its own, `[caches.accounts]`. White space around a value is ignored, and an
    /// empty variable counts as unset.
    ///
    /// # Errors
    ///
    /// One error of kind [`Settings`](crate::ErrorKind::Settings) lists everything that is wrong:
    /// values that do not parse or are out of bounds, and names that do not exist, each with what
    /// would be right. Secrets are redacted.
    pub fn from_env() -> Result<Self, Error> {
        env::from_process()
    }

    /// As [`from_env`](Self::from_env), with these variables in place of the process's own.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), unstale::Error> {
    /// let vars = [("UNSTALE_TTL".to_string(), "30s".to_string())];
    /// let settings = unstale::Settings::from_vars(vars)?;
    /// assert_eq!(settings.ttl.as_secs(), 30);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        env::from_vars(vars, Problems::in_env())
    }

    /// Checks every bound, for settings made in code; `Instance::start` does it too.
    ///
    /// # Errors
    ///
    /// One error of kind [`Settings`](crate::ErrorKind::Settings) lists every field that is wrong.
    pub fn validate(&self) -> Result<(), Error> {
        let mut problems = Problems::in_code();
        self.check(&mut problems);
        problems.into_result()
    }

    /// Every setting with its default and present value, in the order of the documentation, then
    /// the overrides for single caches.
    #[must_use]
    pub fn describe(&self) -> Vec<Setting> {
        let mut rows: Vec<Setting> = table::FIELDS
            .iter()
            .map(|field| Setting {
                variable: Place::global(field.name).variable(),
                default: field.default,
                value: self.shown(field),
                help: field.help,
            })
            .collect();
        for (cache, settings) in &self.caches {
            rows.extend(table::FIELDS.iter().filter_map(|field| {
                let value = (field.cache.as_ref()?.show)(settings)?;
                Some(Setting {
                    variable: Place::of_cache(cache, field.name).variable(),
                    default: "unset",
                    value,
                    help: field.help,
                })
            }));
        }
        rows
    }

    /// The value as text, redacted; the default in the table's own words.
    fn shown(&self, field: &table::Field) -> String {
        let value = (field.show)(self);
        if value == (field.show)(&Self::default()) {
            return field.default.to_string();
        }
        url::redact(field.name, &value)
    }

    fn check(&self, problems: &mut Problems) {
        for field in table::FIELDS {
            if let Err(why) = (field.check)(self) {
                problems.report(Place::global(field.name), &(field.show)(self), why);
            }
        }
        for (name, cache) in &self.caches {
            if let Err(why) = bounds::cache_name(name) {
                problems.report(Place::of_cache(name, ""), "", why);
            }
            for field in table::FIELDS {
                let Some(part) = &field.cache else { continue };
                if let Err(why) = (part.check)(cache) {
                    let value = (part.show)(cache).unwrap_or_default();
                    problems.report(Place::of_cache(name, field.name), &value, why);
                }
            }
        }
        bounds::together(self, problems);
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            redis_url: None,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            namespace: "default".to_string(),
            key: None,
            key_accepted: None,
            ttl: Duration::from_secs(60),
            ttl_jitter: 0.1,
            max_staleness: Some(Duration::from_secs(2)),
            negative_ttl: Duration::from_secs(5),
            capacity: 10_000,
            max_bytes: None,
            reap_interval: Some(Duration::from_secs(1)),
            refresh_ahead: None,
            refresh_before: None,
            audit: None,
            stale_if_error: None,
            load_timeout: Duration::from_secs(5),
            max_loads: 64,
            unknown_loads: None,
            shared: true,
            shared_ttl: None,
            shared_secret: None,
            verify_interval: Duration::from_millis(500),
            lanes: 1,
            journal: 4096,
            outbox: 65_536,
            publish_timeout: Duration::from_secs(2),
            member_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            write_policy: WritePolicy::Strict,
            metrics_addr: None,
            caches: BTreeMap::new(),
        }
    }
}

/// Whether a cache can have that name.
#[cfg(feature = "cli")]
pub(crate) fn check_cache_name(name: &str) -> Result<(), Error> {
    bounds::cache_name(name).map_err(|why| Error::new(crate::ErrorKind::Settings, why))
}

/// Redacts what [`Settings::describe`] redacts: the URL's password, the keys, the TLS key's path.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Settings");
        for field in table::FIELDS {
            out.field(field.name, &format_args!("{}", self.shown(field)));
        }
        out.field("caches", &self.caches).finish()
    }
}

#[cfg(test)]
mod tests;
