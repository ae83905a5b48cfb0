//! What each value may be, and why.

use std::fmt::Display;
use std::time::Duration;

use super::problems::{Place, Problems};
use super::text::Text;
use super::{Settings, url};

/// Nothing, or what would be right.
pub(super) type Check = Result<(), String>;

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
/// Longest timeout of a call to a loader or to Redis: beyond it a caller is gone anyway.
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
/// Most lanes: each costs a channel, a journal and a part of every beat.
const MOST_LANES: u32 = 1024;
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
/// Shortest key: whoever hears one signed event may try keys at leisure, so it has 128 bits at least.
const SHORTEST_KEY: usize = 16;
/// Longest key: every byte beyond 32 random ones adds nothing, and a whole file is a mistake.
const LONGEST_KEY: usize = 1024;
/// Longest name of a namespace or a cache: names travel with channels and metrics.
const LONGEST_NAME: usize = 64;

pub(super) fn redis_url(value: &Option<String>) -> Check {
    value.as_deref().map_or(Ok(()), url::check)
}

pub(super) fn key(value: &Option<String>) -> Check {
    let Some(value) = value else { return Ok(()) };
    if (SHORTEST_KEY..=LONGEST_KEY).contains(&value.len()) {
        return Ok(());
    }
    Err(format!(
        "must be a random secret of {SHORTEST_KEY} to {LONGEST_KEY} bytes, as `openssl rand -hex 32` makes"
    ))
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

/// The lower bound depends on `verify_interval`: see [`together`].
pub(super) fn max_staleness(value: &Option<Duration>) -> Check {
    optional(*value, SHORTEST, LONGEST)
}

pub(super) fn negative_ttl(value: &Duration) -> Check {
    within(*value, Duration::ZERO, LONGEST)
}

pub(super) fn capacity(value: &usize) -> Check {
    between(u64::try_from(*value).unwrap_or(u64::MAX), 1, MOST_ENTRIES)
}

pub(super) fn max_bytes(value: &Option<u64>) -> Check {
    if *value == Some(0) {
        return Err("must be at least 1, or off".to_string());
    }
    Ok(())
}

pub(super) fn reap_interval(value: &Option<Duration>) -> Check {
    optional(*value, QUICKEST_SWEEP, SLOWEST_SWEEP)
}

pub(super) fn refresh_ahead(value: &Option<f64>) -> Check {
    if value.is_none_or(|part| part > 0.0 && part < 1.0) {
        return Ok(());
    }
    Err("must be above 0 and below 1, as in 0.8, or off".to_string())
}

pub(super) fn refresh_before(value: &Option<Duration>) -> Check {
    optional(*value, SHORTEST, LONGEST)
}

pub(super) fn audit(value: &Option<f64>) -> Check {
    if value.is_none_or(|share| share > 0.0 && share <= 1.0) {
        return Ok(());
    }
    Err("must be above 0 and at most 1, as in 0.001, or off".to_string())
}

pub(super) fn stale_if_error(value: &Option<Duration>) -> Check {
    optional(*value, SHORTEST, LONGEST)
}

pub(super) fn call_timeout(value: &Duration) -> Check {
    within(*value, SHORTEST, LONGEST_CALL)
}

pub(super) fn max_loads(value: &usize) -> Check {
    between(*value, 1, MOST_LOADS)
}

pub(super) fn unknown_loads(value: &Option<u32>) -> Check {
    if value.is_none_or(|loads| (1..=MOST_UNKNOWN_LOADS).contains(&loads)) {
        return Ok(());
    }
    Err(format!("must be from 1 to {MOST_UNKNOWN_LOADS}, or off"))
}

pub(super) fn shared_ttl(value: &Option<Duration>) -> Check {
    optional(*value, SHORTEST, LONGEST)
}

pub(super) fn shared_secret(value: &Option<String>) -> Check {
    let long_enough = |secret: &String| secret.len() >= SHORTEST_SECRET;
    if value.as_ref().is_none_or(long_enough) {
        return Ok(());
    }
    Err(format!("must have at least {SHORTEST_SECRET} bytes"))
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

/// The lower bound depends on `verify_interval`: see [`together`].
pub(super) fn member_timeout(value: &Duration) -> Check {
    within(*value, QUICKEST_BEAT, LONGEST_CALL)
}

/// The lower bound depends on `member_timeout`: see [`together`].
pub(super) fn write_timeout(value: &Duration) -> Check {
    within(*value, QUICKEST_BEAT, LONGEST_WRITE)
}

pub(super) fn metrics_addr<T>(value: &Option<T>) -> Check {
    if value.is_some() && cfg!(not(feature = "prometheus")) {
        return Err("this build lacks the feature `prometheus`".to_string());
    }
    Ok(())
}

pub(super) fn any<T>(_: &T) -> Check {
    Ok(())
}

/// What holds between settings. A value found wrong by itself is not compared with others.
pub(super) fn together(settings: &Settings, problems: &mut Problems) {
    tls(settings, problems);
    keys(settings, problems);
    if problems.blames(&Place::global("verify_interval")) {
        return;
    }
    let beat = settings.verify_interval;
    if settings.member_timeout < beat.saturating_mul(2) {
        let why = twice("or one late beat makes an instance count as dead", beat);
        problems.report(
            Place::global("member_timeout"),
            &settings.member_timeout.show(),
            why,
        );
    }
    if settings.write_timeout < settings.member_timeout
        && !problems.blames(&Place::global("member_timeout"))
    {
        let why = format!(
            "must be at least member_timeout ({}), or a write is over before peers may finish it",
            settings.member_timeout.show()
        );
        problems.report(
            Place::global("write_timeout"),
            &settings.write_timeout.show(),
            why,
        );
    }
    bound_holds(
        Place::global("max_staleness"),
        settings.max_staleness,
        beat,
        problems,
    );
    for (name, cache) in &settings.caches {
        promise(settings, name, cache.max_staleness.flatten(), problems);
    }
}

/// The promise of one cache can only be kept if verifications come often enough.
pub(super) fn promise(
    settings: &Settings,
    cache: &str,
    bound: Option<Duration>,
    problems: &mut Problems,
) {
    let place = Place::of_cache(cache, "max_staleness");
    bound_holds(place, bound, settings.verify_interval, problems);
}

fn bound_holds(place: Place, bound: Option<Duration>, beat: Duration, problems: &mut Problems) {
    if let Some(bound) = bound
        && bound < beat.saturating_mul(2)
    {
        let why = twice(
            "or one late verification makes every entry a miss; or off",
            beat,
        );
        problems.report(place, &bound.show(), why);
    }
}

fn keys(settings: &Settings, problems: &mut Problems) {
    if settings.key.is_none() && settings.key_accepted.is_some() {
        problems.report(Place::global("key_accepted"), "", "needs key as well");
    }
    if settings.key.is_some() && settings.journal == 0 {
        let why = "needs a journal, which alone says which event has which sequence: set journal";
        problems.report(Place::global("key"), "", why);
    }
}

fn twice(reason: &str, beat: Duration) -> String {
    format!(
        "must be at least twice verify_interval ({}), {reason}",
        beat.show()
    )
}

fn tls(settings: &Settings, problems: &mut Problems) {
    let certificate = settings.tls_cert.is_some();
    let key = settings.tls_key.is_some();
    if certificate && !key {
        problems.report(Place::global("tls_cert"), "", "needs tls_key as well");
    }
    if key && !certificate {
        problems.report(Place::global("tls_key"), "", "needs tls_cert as well");
    }
    let plain = |url: &String| {
        let url = url.to_ascii_lowercase();
        url.starts_with("redis") && !url.starts_with("rediss")
    };
    if !settings.redis_url.as_ref().is_some_and(plain) {
        return;
    }
    for (name, path) in [
        ("tls_ca", &settings.tls_ca),
        ("tls_cert", &settings.tls_cert),
        ("tls_key", &settings.tls_key),
    ] {
        if path.is_some() {
            let why = "has no effect without TLS: redis_url must begin with rediss://";
            problems.report(Place::global(name), "", why);
        }
    }
}

fn within(value: Duration, low: Duration, high: Duration) -> Check {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(format!(
        "must be from {} to {}",
        low.show(),
        humantime::format_duration(high)
    ))
}

fn optional(value: Option<Duration>, low: Duration, high: Duration) -> Check {
    value
        .map_or(Ok(()), |value| within(value, low, high))
        .map_err(|why| format!("{why}, or off"))
}

fn between<T: PartialOrd + Display>(value: T, low: T, high: T) -> Check {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(format!("must be from {low} to {high}"))
}
