//! The table of all settings: name, default, bounds and help of each, in the documentation's order.

use super::bounds::{self, Check};
use super::text::Text;
use super::{CacheSettings, Settings};

/// One setting.
pub(super) struct Field {
    /// The field's name; its variable is `UNSTALE_` and the name in upper case.
    pub(super) name: &'static str,
    /// As one would write it in the variable.
    pub(super) default: &'static str,
    pub(super) help: &'static str,
    pub(super) set: fn(&mut Settings, &str) -> Check,
    pub(super) show: fn(&Settings) -> String,
    pub(super) check: fn(&Settings) -> Check,
    /// How to override it for one cache, where that has a meaning.
    pub(super) cache: Option<CacheField>,
}

/// The same setting in the overrides of one cache, where it may be absent.
pub(super) struct CacheField {
    pub(super) set: fn(&mut CacheSettings, &str) -> Check,
    pub(super) show: fn(&CacheSettings) -> Option<String>,
    pub(super) check: fn(&CacheSettings) -> Check,
}

/// The field of that name.
pub(super) fn field(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

macro_rules! fields {
    ($($scope:ident $name:ident = $default:literal, $check:path: $help:literal;)*) => {
        &[$(Field {
            name: stringify!($name),
            default: $default,
            help: $help,
            set: |settings, text| {
                settings.$name = Text::parse(text)?;
                Ok(())
            },
            show: |settings| settings.$name.show(),
            check: |settings| $check(&settings.$name),
            cache: cache_field!($scope $name, $check),
        }),*]
    };
}

macro_rules! cache_field {
    (global $name:ident, $check:path) => {
        None
    };
    (cache $name:ident, $check:path) => {
        Some(CacheField {
            set: |cache, text| {
                cache.$name = Some(Text::parse(text)?);
                Ok(())
            },
            show: |cache| cache.$name.as_ref().map(Text::show),
            check: |cache| cache.$name.as_ref().map_or(Ok(()), $check),
        })
    };
}

/// `cache` marks what may be overridden for one cache.
pub(super) static FIELDS: &[Field] = fields! {
    global redis_url = "unset", bounds::redis_url:
        "Where Redis is: redis://, redis-sentinel:// or redis-cluster:// (rediss with TLS); unset shares events inside the process only.";
    global tls_ca = "unset", bounds::any:
        "PEM file of the authorities to trust for rediss://; unset trusts the system's.";
    global tls_cert = "unset", bounds::any:
        "PEM file of the client certificate for rediss://.";
    global tls_key = "unset", bounds::any:
        "PEM file of the client certificate's private key.";
    global namespace = "default", bounds::namespace:
        "Instances with the same namespace share events.";
    global key = "unset", bounds::key:
        "Secret of the namespace, at least 16 bytes: events are signed with it, and nothing else \
         is believed. Needs a journal.";
    global key_accepted = "unset", bounds::key:
        "Another secret whose signatures are believed too, while key is being changed.";
    cache ttl = "60s", bounds::ttl:
        "Longest life of an entry; the net for writers that tell nobody.";
    cache ttl_jitter = "0.1", bounds::ttl_jitter:
        "Part of the TTL by which an entry's life is shortened at random.";
    cache max_staleness = "2s", bounds::max_staleness:
        "How old a hit may be after its invalidation, whatever fails; or off for TTL only. At \
         least twice verify_interval.";
    cache negative_ttl = "5s", bounds::negative_ttl:
        "How long \"does not exist\" is remembered, in at most a tenth of the capacity.";
    cache capacity = "10000", bounds::capacity:
        "Most entries of one cache.";
    cache max_bytes = "off", bounds::max_bytes:
        "Most bytes of one cache, as its weigher counts them (64MiB, say); or off.";
    cache reap_interval = "1s", bounds::reap_interval:
        "How often expired entries are removed unread; or off.";
    cache refresh_ahead = "off", bounds::refresh_ahead:
        "Part of the TTL after which a hit starts one reload in the background (0.8, say); or \
         off.";
    cache refresh_before = "off", bounds::refresh_before:
        "Time before an entry's end from which on a hit starts one reload in the background (30s, \
         say), at most half of its life; or off. With refresh_ahead, the earlier wins.";
    cache audit = "off", bounds::audit:
        "Share of the hits that is compared with the source in the background (0.001, say), in \
         caches that can; or off.";
    cache stale_if_error = "off", bounds::stale_if_error:
        "How long past its TTL an entry is served when its loader fails, never after an \
         invalidation; or off.";
    cache load_timeout = "5s", bounds::call_timeout:
        "Longest run of one load.";
    cache max_loads = "64", bounds::max_loads:
        "Most loads of one cache under way at once.";
    cache unknown_loads = "off", bounds::unknown_loads:
        "Most loads a second of one cache, of keys that nothing in memory knows of, that find \
         nothing; beyond it such keys are refused. Or off.";
    cache shared = "on", bounds::any:
        "Whether caches that have a shared tier use it: on or off.";
    cache shared_ttl = "off", bounds::shared_ttl:
        "How long a value may live in Redis since its load began; off for as long as ttl.";
    global shared_secret = "unset", bounds::shared_secret:
        "Secret of the namespace, at least 16 bytes: the names and checks of values in Redis are \
         made with it. Unset makes them with key, and without that of the namespace's name.";
    global verify_interval = "500ms", bounds::verify_interval:
        "How often Redis is asked whether any event was missed.";
    global lanes = "1", bounds::lanes:
        "Ordered streams of events; the same on every instance.";
    global journal = "4096", bounds::journal:
        "Latest events that Redis keeps for each lane, for repair; 0 keeps none.";
    global outbox = "65536", bounds::outbox:
        "Most keys that wait to be published; beyond it they become whole caches.";
    global publish_timeout = "2s", bounds::call_timeout:
        "Longest wait of an invalidation for Redis; it is kept and retried after that.";
    global member_timeout = "5s", bounds::member_timeout:
        "Silence after which peers finish an instance's open writes for it. At least twice \
         verify_interval.";
    global write_timeout = "30s", bounds::write_timeout:
        "Longest run of the commit of one write. At least member_timeout.";
    global write_policy = "strict", bounds::any:
        "What a write does while Redis is away: strict refuses it before its commit, available \
         commits.";
    global metrics_addr = "unset", bounds::metrics_addr:
        "Where to serve Prometheus metrics, such as 0.0.0.0:9100; unset does not.";
};
