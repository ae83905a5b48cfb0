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
    /// The settings that an instance starts with.
    ///
    /// Each field has the name of its variable in lower case: `ttl` is `UNSTALE_TTL`.
    /// [`from_env`](Settings::from_env) reads the variables, [`describe`](Settings::describe) lists them.
    ///
    /// For the options of a cache, such as `ttl`, the first of these counts that is set:
    ///
    /// 1. the variable of the cache, `UNSTALE_CACHES__ACCOUNTS__TTL`, or its field in
    ///    [`caches`](Settings::caches),
    /// 2. the call of the cache's builder in code,
    /// 3. the field here or its variable `UNSTALE_TTL`, the default for all caches.
    ///
    /// An operator can therefore override code for one cache, but not for all caches at once.
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

    /// Overrides of settings for one cache. A field that is `None` overrides nothing.
    ///
    /// Each field means what the field of the same name in [`Settings`] means.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use unstale::{CacheSettings, Settings, Switch};
    ///
    /// let mut accounts = CacheSettings::default();
    /// accounts.ttl = Some(Duration::from_secs(300));
    /// accounts.unknown_loads = Some(Switch::On(50));
    ///
    /// let mut settings = Settings::default();
    /// settings.caches.insert("accounts".into(), accounts);
    /// assert!(settings.validate().is_ok());
    /// ```
    CacheSettings

    first {
        unset redis_url: String = None, bounds::redis_url,
            "URL of the fleet's Redis: redis://, redis-sentinel://, redis-cluster:// or unix:// (rediss:// and so on for TLS; valkey works as redis). none keeps events inside the process; unset does too, and logs a warning.";
        unset redis_password_file: PathBuf = None, bounds::any,
            "File that holds the password for Redis, if redis_url has none. It is read again at each connect and when it changes, so that a new password needs no restart.";
        unset tls_ca: PathBuf = None, bounds::any,
            "PEM file of the certificate authorities to trust for TLS to Redis. unset trusts those of the system.";
        unset tls_cert: PathBuf = None, bounds::any,
            "PEM file of the client certificate, for a Redis that asks for one. It needs tls_key.";
        unset tls_key: PathBuf = None, bounds::any,
            "PEM file of the private key that belongs to tls_cert.";
        unset tls_server_name: String = None, bounds::server_name,
            "Name that the certificate of every Redis server must have. Set it for tunnels, and where nodes or Sentinels are known by IP addresses. unset expects the host of redis_url, or the name that a server announces.";
        plain start_wait: Duration = Duration::from_secs(2), bounds::call_timeout,
            "Maximum time that a start waits for Redis. After that, the instance starts degraded and goes on connecting.";
        plain connect_timeout: Duration = Duration::from_secs(5), bounds::call_timeout,
            "Maximum time for one attempt to connect to Redis: name lookup, TLS, login and first answer, about eight round trips. Raise it for a Redis that is far away.";
        plain command_timeout: Duration = Duration::from_secs(1), bounds::call_timeout,
            "Maximum time for one command to Redis. After two commands without an answer, the connection is replaced.";
        plain keepalive: Duration = Duration::from_secs(10), bounds::keepalive,
            "How long a connection to Redis may be silent before it is probed. Set it below the idle timeout of every proxy and firewall on the way.";
        plain subscribe_at: SubscribeAt = SubscribeAt::Primary, bounds::subscribe_at,
            "Where instances subscribe to events: primary, replicas, or the host and port of one endpoint for readers. With many instances, replicas take load off the primary.";
        plain namespace: String = "default".to_string(), bounds::namespace,
            "Name of the fleet. Instances share events with all instances of the same namespace; services and environments that share a Redis need one each.";
        unset signing_key: String = None, bounds::signing_key,
            "Secret of the fleet, at least 16 bytes. Instances sign their events with it and reject all others. It needs a journal. unset signs nothing and trusts every client that may publish in this Redis.";
        unset signing_key_accepted: String = None, bounds::signing_key,
            "Second secret whose signatures are accepted too, while the fleet changes its signing_key. unset accepts signing_key only.";
    }
    caches {
        plain ttl: Duration = Duration::from_secs(60), bounds::ttl, "90s" not "0s",
            "Maximum lifetime of an entry. It limits how long a change stays unnoticed that no writer has invalidated: lower it for such writers, raise it for more hits.";
        plain ttl_jitter: f64 = 0.1, bounds::ttl_jitter, "0.2" not "1",
            "Share of the TTL by which each entry's lifetime is shortened at random, so that entries loaded together do not expire together. 0 shortens none.";
        switch max_staleness: Duration = Some(Duration::from_secs(2)), bounds::max_staleness, "3s" not "999ms",
            "Maximum time that an old value is served after its invalidation, whatever fails; at least twice verify_interval. Raise it for more hits while Redis is away. off leaves only the TTL.";
        switch source: String = None, bounds::source, "orders" not "two words",
            "Name of the database that `unstale relay` watches for the cache. max_staleness then counts from the commit, and is at least three times verify_interval. off counts it from the invalidation.";
        plain negative_ttl: Duration = Duration::from_secs(5), bounds::negative_ttl, "0s" not "46d",
            "Maximum time that the answer \"does not exist\" is served from memory. A writer that creates the row should invalidate its key.";
        switch negative_capacity: usize = None, bounds::capacity, "7" not "0",
            "Maximum number of \"does not exist\" answers in memory, beside the entries that capacity counts. off allows as many as capacity. Where max_bytes is set, they take at most a tenth of it.";
        plain capacity: usize = 10_000, bounds::capacity, "7" not "0",
            "Maximum number of entries in memory. Above it, entries are evicted. Raise it if unstale_evictions_total grows and there is memory.";
        switch max_bytes: u64 = None, bounds::max_bytes, "64MiB" not "0",
            "Maximum size of all entries in memory as the cache's weigher counts it, such as 64MiB. Caches without a weigher ignore the default for all caches. off sets no maximum.";
        switch reap_interval: Duration = Some(Duration::from_secs(1)), bounds::reap_interval, "2s" not "9ms",
            "How often expired entries are removed from memory. off removes one only when a read finds it or its place is needed.";
        switch refresh_ahead: RefreshAhead = None, bounds::refresh_ahead, "0.8" not "1.5",
            "When a hit starts one reload in the background, so that no read waits: after a share of the entry's lifetime (0.8), or a time before its end (30s), but not in its first half. off reloads after the end.";
        switch audit: f64 = None, bounds::audit, "0.001" not "1.5",
            "Share of hits that are compared with the source in the background, such as 0.001, to find writers that do not invalidate. Only caches whose code has `.audit(...)` can compare. off compares none.";
        switch stale_if_error: Duration = None, bounds::stale_if_error, "5m" not "0s",
            "How long past its TTL an entry is served while its loader fails. An invalidated entry is never served. off serves none.";
        switch stale_if_slow: Duration = Some(Duration::from_millis(250)), bounds::stale_if_slow, "100ms" not "90m",
            "How long a read waits for its load before it gets an expired entry, if stale_if_error allows one. An invalidated entry is never served. off waits for the load.";
        plain error_ttl: Duration = Duration::from_secs(1), bounds::error_ttl, "0s" not "90m",
            "How long after a failed load reads of its key get the same error, or what stale_if_error allows, before the source is asked again. An invalidation ends it.";
        plain confirm_absent: bool = false, bounds::any, "on" not "maybe",
            "Whether the answer \"does not exist\" from memory is confirmed with one round trip to Redis, which concurrent reads share: on or off. on finds a row that another instance has just created.";
        plain load_timeout: Duration = Duration::from_secs(5), bounds::call_timeout, "1s" not "90m",
            "Maximum time for one load. A load that takes longer has failed.";
        plain max_loads: usize = 64, bounds::max_loads, "8" not "0",
            "Maximum number of loads of one cache that run at once; others wait. It protects the source: set it to what the connection pool of the loader allows.";
        switch unknown_loads: u32 = None, bounds::unknown_loads, "50" not "0",
            "How many loads a second may find nothing, for keys that this instance does not know. Above it, unknown keys are rejected, which protects the source from guessed keys. off sets no maximum.";
        plain tier: bool = true, bounds::any, "off" not "maybe",
            "Whether caches that have a shared tier (values kept in Redis as well) use it: on or off.";
        switch tier_ttl: Duration = None, bounds::tier_ttl, "10m" not "46d",
            "Maximum lifetime of a value in Redis, counted from the beginning of its load. off uses ttl.";
    }
    last {
        plain tier_timeout: Duration = Duration::from_millis(100), bounds::call_timeout,
            "Maximum time that a load waits for the shared tier before it asks the source. Set it above the round trip to Redis.";
        unset tier_secret: String = None, bounds::tier_secret,
            "Random secret of at least 16 bytes, the same on every instance. It authenticates the values in Redis and hides their keys. unset uses signing_key, or else the namespace, which is no secret.";
        unset tier_secret_accepted: String = None, bounds::tier_secret,
            "Second secret whose values are used too, while the fleet changes its tier_secret. unset uses values of tier_secret only.";
        plain verify_interval: Duration = Duration::from_millis(500), bounds::verify_interval,
            "How often an instance asks Redis whether it has missed an event. A shorter interval finds lost events sooner and sends more commands; max_staleness and member_timeout are at least twice as long.";
        plain verification_wait: Duration = Duration::from_millis(250), bounds::call_timeout,
            "Maximum time that a read waits for the question to Redis whether an event was missed. After that, the read loads from the source.";
        plain lanes: u32 = 1, bounds::lanes,
            "Number of lanes, the ordered streams over which the events of keys are spread; the same on every instance. In a Redis Cluster, use several for each primary.";
        plain journal: u32 = 4096, bounds::journal,
            "Number of recent events that Redis keeps for each lane. An instance that missed events reads them there; if they are gone, it drops everything of the lane. 0 keeps none.";
        plain outbox: usize = 65_536, bounds::outbox,
            "Maximum number of keys that wait to be published, while Redis is away for example. Above it, whole caches are invalidated in their place.";
        plain publish_timeout: Duration = Duration::from_secs(2), bounds::call_timeout,
            "Maximum time that a caller waits until Redis has acknowledged its invalidation. After that, the invalidation is kept and retried.";
        plain member_timeout: Duration = Duration::from_secs(5), bounds::member_timeout,
            "How long an instance may be silent before the others finish its open writes for it; at least twice verify_interval.";
        plain write_timeout: Duration = Duration::from_secs(30), bounds::write_timeout,
            "Maximum time for the commit of one write; at least member_timeout. A commit that takes longer is abandoned.";
        plain write_policy: WritePolicy = WritePolicy::Strict, bounds::any,
            "What a write does while Redis is unreachable: strict refuses it before its commit; available commits it, and other instances may serve the old value until Redis is back, for at most a TTL.";
        unset relay_database_url: String = None, bounds::any,
            "URL of the PostgreSQL database whose log `unstale relay` reads: postgres://user:password@host:5432/database, with ?sslrootcert=FILE for a certificate authority of your own.";
        unset relay_rules: PathBuf = None, bounds::any,
            "File of the rules by which `unstale relay` finds the cache and the key of a changed row.";
        unset relay_slot: String = None, bounds::relay_slot,
            "Permanent replication slot of `unstale relay`, created if missing. A start then waits for no open transaction, but the database keeps log for it: set max_slot_wal_keep_size. unset creates a temporary one at each start.";
        unset metrics_addr: SocketAddr = None, bounds::metrics_addr,
            "Address at which Prometheus metrics are served, such as 0.0.0.0:9100. unset serves none.";
    }
}
