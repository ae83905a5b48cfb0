//! Checks of settings as a whole: every value by itself, and what holds between them.

use std::time::Duration;

use super::bounds;
use super::options::{CacheOptions, FIELDS, Settings};
use super::problems::{Place, Problems};
use super::text::Text;
use super::values::{SubscribeAt, Switch};
use crate::error::Error;
use crate::url::{Address, Deployment, NO_PASSWORD};

impl Settings {
    /// Checks every bound, for settings that code has made. [`Instance::start`](crate::Instance::start)
    /// checks them too.
    ///
    /// # Errors
    ///
    /// Returns one error of kind [`Settings`](crate::ErrorKind::Settings) that lists every field that is
    /// wrong.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use unstale::Settings;
    ///
    /// let mut settings = Settings::default();
    /// settings.verify_interval = Duration::from_secs(5);
    /// let error = settings.validate().unwrap_err().to_string();
    /// assert!(error.contains("max_staleness=2s: must be at least twice verify_interval (5s)"));
    /// ```
    pub fn validate(&self) -> Result<(), Error> {
        let mut problems = Problems::in_code();
        self.check(&mut problems);
        problems.into_result()
    }

    /// Returns the URL of the server; `None` where none is named, or `none` is.
    pub(crate) fn server_url(&self) -> Option<&str> {
        self.redis_url
            .as_deref()
            .filter(|url| !bounds::is_none(url))
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        for field in FIELDS {
            if let Err(why) = (field.check)(self) {
                problems.report(Place::global(field.name), &(field.show)(self), why);
            }
        }
        for (name, cache) in &self.caches {
            if let Err(why) = bounds::cache_name(name) {
                problems.report(Place::of_cache(name, ""), "", why);
            }
            for field in FIELDS {
                let Some(part) = &field.cache else { continue };
                if let Err(why) = (part.check)(cache) {
                    let value = (part.show)(cache).unwrap_or_default();
                    problems.report(Place::of_cache(name, field.name), &value, why);
                }
            }
        }
        together(self, problems);
    }
}

/// Checks whether a cache can have that name.
///
/// # Errors
///
/// `Settings`, with what the name must be.
#[cfg(feature = "cli")]
pub(crate) fn check_cache_name(name: &str) -> Result<(), Error> {
    bounds::cache_name(name).map_err(|why| Error::new(crate::error::ErrorKind::Settings, why))
}

/// Checks whether a cache may wait so long for another instance's load.
///
/// # Errors
///
/// `Settings`, as for a value of `CacheSettings` that is out of bounds.
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

/// What holds between settings. A value found wrong by itself is not compared with others.
fn together(settings: &Settings, problems: &mut Problems) {
    tls(settings, problems);
    subscribes(settings, problems);
    passwords(settings, problems);
    secrets(settings, problems);
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
        let bound = cache.max_staleness.and_then(Switch::into_option);
        promise(settings, name, bound, problems);
    }
}

/// Checks that verifications come often enough for one cache's bound.
pub(super) fn promise(
    settings: &Settings,
    cache: &str,
    bound: Option<Duration>,
    problems: &mut Problems,
) {
    let place = Place::of_cache(cache, "max_staleness");
    bound_holds(place, bound, settings.verify_interval, problems);
}

/// Checks that marks come often enough for the bound of a cache that names a source: one verification is counted, the
/// next one returns its mark, and another one may be on its way then.
pub(super) fn source(
    settings: &Settings,
    cache: &str,
    options: &CacheOptions,
    problems: &mut Problems,
) {
    let beat = settings.verify_interval;
    let (Some(_), Some(bound)) = (&options.source, options.max_staleness) else {
        return;
    };
    if bound < beat.saturating_mul(3) && bound >= beat.saturating_mul(2) {
        let why = format!(
            "must be at least three times verify_interval ({}) in a cache that names a source, or its entries are \
             proven too seldom",
            beat.show()
        );
        problems.report(Place::of_cache(cache, "max_staleness"), &bound.show(), why);
    }
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

fn subscribes(settings: &Settings, problems: &mut Problems) {
    let place = Place::global("subscribe_at");
    let url = settings.server_url().map(Address::parse);
    if let (SubscribeAt::Server(server), Some(Ok(address))) = (&settings.subscribe_at, url)
        && address.deployment != Deployment::Single
        && !problems.blames(&place)
    {
        let why = "must be primary or replicas, because redis_url names a Sentinel or a cluster, not one \
                   server";
        problems.report(place, server, why);
    }
}

fn secrets(settings: &Settings, problems: &mut Problems) {
    let pairs = [
        (
            "signing_key",
            &settings.signing_key,
            "signing_key_accepted",
            &settings.signing_key_accepted,
        ),
        (
            "tier_secret",
            &settings.tier_secret,
            "tier_secret_accepted",
            &settings.tier_secret_accepted,
        ),
    ];
    for (first, one, second, other) in pairs {
        if other.is_some() && one.is_none() {
            problems.report(Place::global(second), "", format!("needs {first} as well"));
        } else if other.is_some() && one == other {
            let why = format!(
                "is the same as {first}: it holds another secret, while {first} is being changed"
            );
            problems.report(Place::global(second), "", why);
        }
    }
    if settings.signing_key.is_some() && settings.journal == 0 {
        let why = "needs a journal, which proves the sequence of each event: set journal above 0";
        problems.report(Place::global("signing_key"), "", why);
    }
}

fn twice(reason: &str, beat: Duration) -> String {
    format!(
        "must be at least twice verify_interval ({}), {reason}",
        beat.show()
    )
}

/// The password for Redis comes from one place.
fn passwords(settings: &Settings, problems: &mut Problems) {
    const ONE_PLACE: &str = "put the password in one place only";
    let file = Place::global("redis_password_file");
    let callback = Place::global("credentials");
    let (in_file, called) = (
        settings.redis_password_file.is_some(),
        settings.credentials.is_some(),
    );
    let Some(url) = &settings.redis_url else {
        for (place, _) in [(file, in_file), (callback, called)]
            .iter()
            .filter(|(_, set)| *set)
        {
            problems.report(place.clone(), "", "has no effect without redis_url");
        }
        return;
    };
    let Ok(address) = Address::parse(url) else {
        return;
    };
    let in_url = address.login.password.is_some();
    if in_file && in_url {
        let why = format!("redis_url has a password too: {ONE_PLACE}");
        problems.report(file, "", why);
    }
    if called && (in_file || in_url) {
        let other = if in_file {
            "redis_password_file"
        } else {
            "redis_url"
        };
        let why = format!("{other} has a password too: {ONE_PLACE}");
        problems.report(callback, "", why);
    }
    if address.login.username.is_some() && !(in_url || in_file || called) {
        problems.report(Place::global("redis_url"), url, NO_PASSWORD);
    }
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
        bounds::is_none(url) || Address::parse(url).is_ok_and(|address| !address.tls)
    };
    if !settings.redis_url.as_ref().is_some_and(plain) {
        return;
    }
    for (name, path) in [
        ("tls_ca", &settings.tls_ca),
        ("tls_cert", &settings.tls_cert),
        ("tls_key", &settings.tls_key),
        (
            "tls_server_name",
            &settings.tls_server_name.clone().map(Into::into),
        ),
    ] {
        if path.is_some() {
            let why = "has no effect without TLS: redis_url must begin with rediss://";
            problems.report(Place::global(name), "", why);
        }
    }
}
