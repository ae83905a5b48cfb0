//! The table of all settings, in the documentation's order. A new setting is a new row.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::bounds::{self, Check};
use super::file::UrlInFile;
use super::table::{field, of_kind, settings};
use super::text::Text;
use super::values::{HiddenSetting, RefreshAhead, SubscribeAt, Switch, WritePolicy};
use crate::credentials::CredentialsProvider;

/// One setting.
pub(super) struct Field {
    /// The field's name; its variable is `UNSTALE_` and the name in upper case.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) set: fn(&mut Settings, &str) -> Check,
    /// The value as text, as one would write it in the variable, or `unset`.
    pub(super) show: fn(&Settings) -> String,
    pub(super) check: fn(&Settings) -> Check,
    /// How to override it for one cache; `None` for a setting of the instance.
    pub(super) cache: Option<CacheField>,
}

/// The same setting in the overrides of one cache, where it may be absent.
pub(super) struct CacheField {
    pub(super) set: fn(&mut CacheSettings, &str) -> Check,
    pub(super) show: fn(&CacheSettings) -> Option<String>,
    pub(super) check: fn(&CacheSettings) -> Check,
    #[cfg(test)]
    pub(super) resolved: fn(&CacheOptions) -> String,
    /// A value that is valid and not the default.
    #[cfg(test)]
    pub(super) good: &'static str,
    #[cfg(test)]
    pub(super) bad: &'static str,
}

/// Returns the field of that name.
pub(super) fn field(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

settings! {
    /// What an instance starts with.
    ///
    /// Every field is named like its variable: `ttl` is `UNSTALE_TTL`.
    /// Precedence for one cache: its own variable (`UNSTALE_CACHES__ACCOUNTS__TTL`), then the options
    /// of its builder, then these fields, which are the defaults for all caches.
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
    Settings

    /// Overrides for one cache; a field that is `None` overrides nothing.
    ///
    /// Each field means what the field of the same name in [`Settings`] means.
    CacheSettings

    first {
        unset redis_url: String = None, bounds::redis_url,
            "Address of Redis: redis://, redis-sentinel:// or redis-cluster:// (rediss with TLS; valkey and valkeys are the same), or unix:// with the path of a socket; or none, which shares events inside the process only, as unset does with a warning.";
        unset redis_password_file: PathBuf = None, bounds::any,
            "File with the password for Redis, in place of one in redis_url; read again at each connect and when it changes.";
        unset tls_ca: PathBuf = None, bounds::any,
            "PEM file of the certificate authorities to trust for rediss://; unset trusts the system's.";
        unset tls_cert: PathBuf = None, bounds::any,
            "PEM file of the client certificate for rediss://.";
        unset tls_key: PathBuf = None, bounds::any,
            "PEM file of the client certificate's private key.";
        unset tls_server_name: String = None, bounds::server_name,
            "Name that the certificate of every server must have, in place of the host in redis_url and of what servers announce; for tunnels, and for nodes and sentinels that are named by addresses.";
        plain start_wait: Duration = Duration::from_secs(2), bounds::call_timeout,
            "Maximum wait of a start for Redis; after it, the instance starts degraded.";
        plain connect_timeout: Duration = Duration::from_secs(5), bounds::call_timeout,
            "Maximum duration of one attempt to connect to Redis: lookup, TLS, login and first answer, some eight round trips.";
        plain command_timeout: Duration = Duration::from_secs(1), bounds::call_timeout,
            "Maximum duration of one command to Redis; after two in vain the connection is made again.";
        plain keepalive: Duration = Duration::from_secs(10), bounds::keepalive,
            "Silence after which a connection to Redis is asked for a sign of life; below the idle timeout of every proxy on the way.";
        plain subscribe_at: SubscribeAt = SubscribeAt::Primary, bounds::subscribe_at,
            "Where events are subscribed to: primary, replicas, or the host and port of one server for readers; replicas take the load of many instances off the primary.";
        plain namespace: String = "default".to_string(), bounds::namespace,
            "Name of the fleet: instances with the same namespace share events.";
        unset signing_key: String = None, bounds::signing_key,
            "Secret of the fleet, at least 16 bytes: events are signed with it, and others are rejected. Requires a journal.";
        unset signing_key_accepted: String = None, bounds::signing_key,
            "Second secret whose signatures are accepted too, while signing_key is being changed.";
    }
    caches {
        plain ttl: Duration = Duration::from_secs(60), bounds::ttl, "90s" not "0s",
            "Maximum lifetime of an entry; the backstop for writers that do not invalidate.";
        plain ttl_jitter: f64 = 0.1, bounds::ttl_jitter, "0.2" not "1",
            "Share of the TTL by which an entry's lifetime is shortened at random.";
        switch max_staleness: Duration = Some(Duration::from_secs(2)), bounds::max_staleness, "3s" not "999ms",
            "Maximum age of a hit after its invalidation, whatever fails, at least twice verify_interval; or off for TTL only.";
        switch source: String = None, bounds::source, "orders" not "two words",
            "Name of the source that a relay watches: max_staleness, at least three times verify_interval, then counts from the commit; or off.";
        plain negative_ttl: Duration = Duration::from_secs(5), bounds::negative_ttl, "0s" not "46d",
            "How long \"does not exist\" is remembered.";
        switch negative_capacity: usize = None, bounds::capacity, "7" not "0",
            "Maximum number of entries that say \"does not exist\", beside those of capacity; or off for as many. Where max_bytes is set they take a tenth of it at most.";
        plain capacity: usize = 10_000, bounds::capacity, "7" not "0",
            "Maximum number of entries.";
        switch max_bytes: u64 = None, bounds::max_bytes, "64MiB" not "0",
            "Maximum number of bytes, as the cache's weigher counts them, such as 64MiB; or off. For all caches: of those that have a weigher.";
        switch reap_interval: Duration = Some(Duration::from_secs(1)), bounds::reap_interval, "2s" not "9ms",
            "Interval at which expired entries are removed; or off, which leaves them to reads and to eviction.";
        switch refresh_ahead: RefreshAhead = None, bounds::refresh_ahead, "0.8" not "1.5",
            "When a hit starts one reload in the background: after a share of the entry's life (0.8), or a time before its end (30s), at most half of its life; or off.";
        switch audit: f64 = None, bounds::audit, "0.001" not "1.5",
            "Share of hits that are compared with the source in the background, such as 0.001, in caches that can compare; or off.";
        switch stale_if_error: Duration = None, bounds::stale_if_error, "5m" not "0s",
            "How long past its TTL an entry is served when its loader fails, never after an invalidation; or off.";
        switch stale_if_slow: Duration = Some(Duration::from_millis(250)), bounds::stale_if_slow, "100ms" not "90m",
            "How long a read waits for a load before an entry answers that stale_if_error may serve, never after an invalidation; or off.";
        plain error_ttl: Duration = Duration::from_secs(1), bounds::error_ttl, "0s" not "90m",
            "How long the error of a load answers reads of its key, or what stale_if_error may serve does, before the source is asked again; an invalidation ends it.";
        plain confirm_absent: bool = false, bounds::any, "on" not "maybe",
            "Whether an answer \"does not exist\" from memory is confirmed: one round trip to Redis, which all such reads of the moment share; on or off.";
        plain load_timeout: Duration = Duration::from_secs(5), bounds::call_timeout, "1s" not "90m",
            "Maximum duration of one load.";
        plain max_loads: usize = 64, bounds::max_loads, "8" not "0",
            "Maximum number of loads that run at once.";
        switch unknown_loads: u32 = None, bounds::unknown_loads, "50" not "0",
            "Maximum rate, per second, of loads for unknown keys that find nothing; above it, unknown keys are rejected; or off.";
        plain tier: bool = true, bounds::any, "off" not "maybe",
            "Whether caches that have a shared tier use it: on or off.";
        switch tier_ttl: Duration = None, bounds::tier_ttl, "10m" not "46d",
            "Maximum lifetime of a value in Redis since its load began; off for as long as ttl.";
    }
    last {
        plain tier_timeout: Duration = Duration::from_millis(100), bounds::call_timeout,
            "Maximum wait of a load for an answer of the shared tier, after which it goes to the source; above the round trip to Redis.";
        unset tier_secret: String = None, bounds::tier_secret,
            "Random secret of 16 bytes or more, the same on every instance: it authenticates the values in Redis, and hides their keys; unset uses signing_key, and without that the namespace, which anyone knows.";
        unset tier_secret_accepted: String = None, bounds::tier_secret,
            "Second secret whose values are used too, while tier_secret is being changed.";
        plain verify_interval: Duration = Duration::from_millis(500), bounds::verify_interval,
            "Interval at which Redis is asked whether an event was missed.";
        plain verification_wait: Duration = Duration::from_millis(250), bounds::call_timeout,
            "Maximum wait of a read for a verification that is under way; after it, the read loads.";
        plain lanes: u32 = 1, bounds::lanes,
            "Number of ordered streams of events; the same on every instance.";
        plain journal: u32 = 4096, bounds::journal,
            "Number of recent events that Redis keeps for each lane, for repair; 0 keeps none.";
        plain outbox: usize = 65_536, bounds::outbox,
            "Maximum number of keys that wait to be published; above it, they collapse to whole caches.";
        plain publish_timeout: Duration = Duration::from_secs(2), bounds::call_timeout,
            "Maximum wait of an invalidation for Redis; after it, the invalidation is kept and retried.";
        plain member_timeout: Duration = Duration::from_secs(5), bounds::member_timeout,
            "Silence after which peers finish an instance's open writes for it, at least twice verify_interval.";
        plain write_timeout: Duration = Duration::from_secs(30), bounds::write_timeout,
            "Maximum duration of the commit of one write, at least member_timeout.";
        plain write_policy: WritePolicy = WritePolicy::Strict, bounds::any,
            "What a write does while Redis is unreachable: strict refuses it before its commit, available commits.";
        unset relay_database_url: String = None, bounds::any,
            "Address of the database whose log `unstale relay` reads: postgres://user:password@host:5432/database; with ?sslrootcert= for a CA of your own.";
        unset relay_rules: PathBuf = None, bounds::any,
            "File of the rules by which `unstale relay` names what was changed.";
        unset relay_slot: String = None, bounds::relay_slot,
            "Replication slot that outlives `unstale relay`, made where there is none: a start waits for no open transaction, and the database keeps log for it, so bound max_slot_wal_keep_size; unset makes a temporary slot at each start.";
        unset metrics_addr: SocketAddr = None, bounds::metrics_addr,
            "Address at which Prometheus metrics are served, such as 0.0.0.0:9100; unset serves none.";
    }
}
