//! What each value may be, and why. What holds between values is in `check.rs`.

use std::fmt::Display;
use std::time::Duration;

use super::text::Text;
use super::values::{RefreshAhead, SubscribeAt};
use crate::foreign::MOST_LANES;
use crate::url::{self, Address};

/// Nothing, or what would be right.
pub(super) type Check = Result<(), String>;

/// Different bytes that a secret has at least: 16 random hexadecimal digits have fewer once in a million.
const FEWEST_DIFFERENT: usize = 5;

/// Shortest life of anything: the clock's own step is a few milliseconds.
const SHORTEST: Duration = Duration::from_millis(1);
/// Longest life of anything. 32 bits of milliseconds hold 49.7 days; 45 leave room to add to it.
const LONGEST: Duration = Duration::from_secs(45 * 24 * 3600);
/// Most jitter: an entry keeps at least a tenth of its TTL, or jitter would be the TTL.
const MOST_JITTER: f64 = 0.9;
/// Most entries of a cache: more than any memory holds, and far below an overflow of sums.
const MOST_ENTRIES: u64 = 1 << 32;
/// Quickest sweep: each one visits the whole store, and the clock's step is 4 ms.
const QUICKEST_SWEEP: Duration = Duration::from_millis(10);
const SLOWEST_SWEEP: Duration = Duration::from_secs(24 * 3600);
/// Longest timeout of a call to a loader or to Redis: no caller waits longer.
const LONGEST_CALL: Duration = Duration::from_secs(3600);
/// Most loads at once: more never help a source of truth, and each is a task.
const MOST_LOADS: usize = 65_536;
/// Most loads of unknown keys a second: more protect no source, and a token stays worth whole
/// microseconds.
const MOST_UNKNOWN_LOADS: u32 = 1_000_000;
/// Quickest beat: a round trip per interval and node, from every instance.
const QUICKEST_BEAT: Duration = Duration::from_millis(10);
/// Slowest beat: `max_staleness` and `member_timeout` are at least twice as long.
const SLOWEST_BEAT: Duration = Duration::from_secs(60);
/// Quickest sign of life: a command per connection and second.
const QUICKEST_KEEPALIVE: Duration = Duration::from_secs(1);
/// Longest name of a host that DNS knows.
const LONGEST_HOST: usize = 253;
/// Longest journal: about 100 MB of Redis a lane, where a fence would be cheaper than the repair.
const LONGEST_JOURNAL: u32 = 1_000_000;
/// Smallest outbox: one full message, below which bursts would collapse at once.
const SMALLEST_OUTBOX: usize = 1024;
/// Largest outbox: 16 Mi keys of 8 bytes are 128 MiB waiting for a Redis that is away.
const LARGEST_OUTBOX: usize = 16 << 20;
/// Shortest secret: 128 bits cannot be guessed.
const SHORTEST_SECRET: usize = 16;
/// Longest wait for one commit, whose keys stay marked in Redis all the while.
const LONGEST_WRITE: Duration = Duration::from_secs(24 * 3600);
/// Shortest signing key: one signed event suffices to try keys offline, so it has at least 128 bits.
const SHORTEST_KEY: usize = 16;
/// Longest signing key: bytes beyond 32 random ones add nothing, and a whole file is a mistake.
const LONGEST_KEY: usize = 1024;
/// Longest name of a namespace or a cache: names travel with channels and metrics.
const LONGEST_NAME: usize = 64;

/// Longest name of a replication slot.
const LONGEST_SLOT: usize = 63;

/// Whether a Redis URL says that there is none.
pub(super) fn is_none(url: &str) -> bool {
    url.eq_ignore_ascii_case("none")
}

pub(super) fn redis_url(url: &str) -> Check {
    if is_none(url) {
        return Ok(());
    }
    let address = Address::parse(url).map_err(|why| why.to_string())?;
    if cfg!(not(feature = "redis")) {
        return Err("this build lacks the feature `redis`".into());
    }
    if address.tls && cfg!(not(feature = "tls")) {
        return Err("this build lacks the feature `tls`".into());
    }
    Ok(())
}

pub(super) fn server_name(name: &str) -> Check {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    if (1..=LONGEST_HOST).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err("must be a host's name or an address without a port, as in redis.example".into())
}

pub(super) fn subscribe_at(value: &SubscribeAt) -> Check {
    match value {
        SubscribeAt::Server(server) => url::server(server).map(drop).map_err(|_| {
            "must be primary, replicas, or a host and a port, as in redis-reader.example:6379"
                .into()
        }),
        _ => Ok(()),
    }
}

pub(super) fn keepalive(value: &Duration) -> Check {
    within(*value, QUICKEST_KEEPALIVE, LONGEST_CALL)
}

pub(super) fn signing_key(value: &str) -> Check {
    if (SHORTEST_KEY..=LONGEST_KEY).contains(&value.len()) && !is_monotonous(value) {
        return Ok(());
    }
    Err(format!(
        "must be a random secret of {SHORTEST_KEY} to {LONGEST_KEY} bytes, as `openssl rand -hex 32` makes"
    ))
}

/// `aaaaaaaaaaaaaaaa` is no secret: a MAC that is public is guessed offline.
fn is_monotonous(secret: &str) -> bool {
    let different: std::collections::BTreeSet<u8> = secret.bytes().collect();
    different.len() < FEWEST_DIFFERENT
}

pub(super) fn source(value: &str) -> Check {
    namespace(value)
}

pub(super) fn namespace(value: &str) -> Check {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if (1..=LONGEST_NAME).contains(&value.len()) && value.bytes().all(plain) {
        return Ok(());
    }
    Err(format!(
        "must be 1 to {LONGEST_NAME} letters, digits, `_`, `.` or `-`"
    ))
}

/// What PostgreSQL takes for a slot's name.
pub(super) fn relay_slot(name: &str) -> Check {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if (1..=LONGEST_SLOT).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(format!("must be 1 to {LONGEST_SLOT} of a-z, 0-9 and `_`"))
}

/// A cache's name must survive the way through a variable: upper case, with `__` between parts.
pub(super) fn cache_name(name: &str) -> Check {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if (1..=LONGEST_NAME).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(plain)
        && !name.contains("__")
        && !name.ends_with('_')
    {
        return Ok(());
    }
    Err(format!(
        "a cache's name must be 1 to {LONGEST_NAME} of a-z, 0-9 and `_`, begin with a letter, \
         not end with `_` and not contain `__`"
    ))
}

pub(super) fn ttl(value: &Duration) -> Check {
    within(*value, SHORTEST, LONGEST)
}

pub(super) fn ttl_jitter(value: &f64) -> Check {
    between(*value, 0.0, MOST_JITTER)
}

/// The lower bound depends on `verify_interval`: see `check.rs`.
pub(super) fn max_staleness(value: &Duration) -> Check {
    within(*value, SHORTEST, LONGEST)
}

pub(super) fn negative_ttl(value: &Duration) -> Check {
    within(*value, Duration::ZERO, LONGEST)
}

pub(super) fn capacity(value: &usize) -> Check {
    between(u64::try_from(*value).unwrap_or(u64::MAX), 1, MOST_ENTRIES)
}

pub(super) fn max_bytes(value: &u64) -> Check {
    if *value == 0 {
        return Err("must be at least 1".to_string());
    }
    Ok(())
}

pub(super) fn reap_interval(value: &Duration) -> Check {
    within(*value, QUICKEST_SWEEP, SLOWEST_SWEEP)
}

pub(super) fn refresh_ahead(value: &RefreshAhead) -> Check {
    match *value {
        RefreshAhead::Share(share) if share > 0.0 && share < 1.0 => Ok(()),
        RefreshAhead::Share(_) => Err(
            "must be a share above 0 and below 1, as in 0.8, or a time with a unit, as in 30s"
                .to_string(),
        ),
        RefreshAhead::Before(time) => within(time, SHORTEST, LONGEST),
    }
}

pub(super) fn audit(value: &f64) -> Check {
    if *value > 0.0 && *value <= 1.0 {
        return Ok(());
    }
    Err("must be above 0 and at most 1, as in 0.001".to_string())
}

pub(super) fn stale_if_error(value: &Duration) -> Check {
    within(*value, SHORTEST, LONGEST)
}

pub(super) fn stale_if_slow(value: &Duration) -> Check {
    within(*value, SHORTEST, LONGEST_CALL)
}

pub(super) fn error_ttl(value: &Duration) -> Check {
    within(*value, Duration::ZERO, LONGEST_CALL)
}

pub(super) fn call_timeout(value: &Duration) -> Check {
    within(*value, SHORTEST, LONGEST_CALL)
}

pub(super) fn max_loads(value: &usize) -> Check {
    between(*value, 1, MOST_LOADS)
}

pub(super) fn unknown_loads(value: &u32) -> Check {
    between(*value, 1, MOST_UNKNOWN_LOADS)
}

pub(super) fn tier_ttl(value: &Duration) -> Check {
    within(*value, SHORTEST, LONGEST)
}

pub(super) fn tier_secret(value: &str) -> Check {
    if value.len() >= SHORTEST_SECRET && !is_monotonous(value) {
        return Ok(());
    }
    Err(format!(
        "must be a random secret of at least {SHORTEST_SECRET} bytes, as `openssl rand -hex 32` makes"
    ))
}

pub(super) fn verify_interval(value: &Duration) -> Check {
    within(*value, QUICKEST_BEAT, SLOWEST_BEAT)
}

pub(super) fn lanes(value: &u32) -> Check {
    between(*value, 1, MOST_LANES)
}

pub(super) fn journal(value: &u32) -> Check {
    between(*value, 0, LONGEST_JOURNAL)
}

pub(super) fn outbox(value: &usize) -> Check {
    between(*value, SMALLEST_OUTBOX, LARGEST_OUTBOX)
}

/// The lower bound depends on `verify_interval`: see `check.rs`.
pub(super) fn member_timeout(value: &Duration) -> Check {
    within(*value, QUICKEST_BEAT, LONGEST_CALL)
}

/// The lower bound depends on `member_timeout`: see `check.rs`.
pub(super) fn write_timeout(value: &Duration) -> Check {
    within(*value, QUICKEST_BEAT, LONGEST_WRITE)
}

pub(super) fn metrics_addr<T>(_: &T) -> Check {
    if cfg!(not(feature = "prometheus")) {
        return Err("this build lacks the feature `prometheus`".to_string());
    }
    Ok(())
}

pub(super) fn any<T>(_: &T) -> Check {
    Ok(())
}

/// A check of a value that may also be off, and says so.
pub(super) fn or_off(check: Check) -> Check {
    check.map_err(|why| format!("{why}, or off"))
}

fn within(value: Duration, low: Duration, high: Duration) -> Check {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(format!("must be from {} to {}", low.show(), high.show()))
}

fn between<T: PartialOrd + Display>(value: T, low: T, high: T) -> Check {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(format!("must be from {low} to {high}"))
}
