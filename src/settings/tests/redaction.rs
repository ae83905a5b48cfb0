//! Tests that nothing secret is shown, whatever the variables hold.

use proptest::prelude::*;

use super::problems::Place;
use super::*;

#[cfg(feature = "redis")]
#[test]
fn describe_shows_defaults_values_and_overrides() {
    let settings = good(&[
        (
            "UNSTALE_REDIS_URL",
            &format!("redis://app:{SECRET}@h:6379/0"),
        ),
        ("UNSTALE_TTL", "10m"),
        ("UNSTALE_CACHES__USERS__MAX_BYTES", "2MiB"),
    ]);
    let rows = settings.describe();
    let row = |name: &str| rows.iter().find(|row| row.variable == name).expect(name);
    assert_eq!(row("UNSTALE_REDIS_URL").value, "redis://***@h:6379/0");
    assert_eq!(
        (
            row("UNSTALE_TTL").default.as_str(),
            row("UNSTALE_TTL").value.as_str()
        ),
        ("60s", "10m")
    );
    assert_eq!(row("UNSTALE_VERIFY_INTERVAL").value, "500ms");
    assert_eq!(row("UNSTALE_METRICS_ADDR").value, "unset");
    assert_eq!(row("UNSTALE_CACHES__USERS__MAX_BYTES").value, "2MiB");
    assert_eq!(rows.len(), FIELDS.len() + 1);
    assert!(
        rows.iter()
            .all(|row| row.help.ends_with('.') && !row.help.contains("  "))
    );
    let debug = format!("{settings:?}");
    assert!(
        debug.contains("***@h") && !debug.contains(SECRET),
        "{debug}"
    );
}

#[test]
fn secrets_are_hidden_wherever_they_stand() {
    for value in [
        format!("redis://u:{SECRET}@h"),
        format!("redis://:{SECRET}"),
        format!("redis://u:{SECRET}/x?y#z@h:1"),
        format!("redis://h?password={SECRET}"),
        format!("redis://u:a@{SECRET}@h"),
        format!("redis//u:{SECRET}@h"),
        format!("redis:{SECRET}"),
        format!("{SECRET}:x://h"),
    ] {
        for name in ["redis_url", "namespace", "ttl"] {
            let shown = redact::value(name, &value);
            let plain = name != "redis_url" && !value.contains(['@', '/']);
            assert!(
                plain || !shown.contains(SECRET),
                "{name}: {value} -> {shown}"
            );
        }
    }
    for name in ["tls_key", "UNSTALE_PASSWORD", "api_token", "my_secret"] {
        assert_eq!(redact::value(name, SECRET), "***");
    }
    assert_eq!(redact::value("namespace", "a b"), "a b");
    for url in [
        format!("redis-sentinel://h1:1,h2/0?service=m&sentinel_password={SECRET}"),
        // A @ that is not percent-encoded.
        format!("redis-sentinel://h1?service=m&sentinel_password=a@{SECRET}"),
        format!("unix:///run/redis.sock?password={SECRET}"),
        format!("redis+unix:///run/redis.sock?pass=a@{SECRET}"),
        format!("unix://:{SECRET}@/run/redis.sock"),
        format!("unix://:a/{SECRET}@/run/redis.sock"),
        format!("unix://a@{SECRET}"),
    ] {
        let shown = redact::value("redis_url", &url);
        assert!(!shown.contains(SECRET), "{shown}");
    }
    let socket = "unix:///run/redis/redis.sock";
    assert_eq!(redact::value("redis_url", socket), socket);
    let hosts = "redis-cluster://h1:1,h2:2";
    assert_eq!(redact::value("redis_url", hosts), hosts);
    assert_eq!(
        redact::value("redis_url", "localhost:6379"),
        "localhost:6379"
    );
    assert_eq!(
        redact::value("redis_url", "redis://[::1]:6379/0"),
        "redis://[::1]:6379/0"
    );
}

#[test]
fn values_cannot_forge_log_lines_or_flood_them() {
    let line = why("UNSTALE_NAMESPACE", "a\nUNSTALE_TTL=1: fine\u{1b}[2J");
    assert!(line.contains("a\\nUNSTALE_TTL"), "{line}");
    assert!(!line.contains('\u{1b}'));
    assert!(why("UNSTALE_NAMESPACE", &"x".repeat(10_000)).len() < 300);
}

/// Names that matter, near misses, and anything at all.
fn names() -> impl Strategy<Value = String> {
    let known: Vec<String> = FIELDS
        .iter()
        .flat_map(|field| {
            [
                Place::global(field.name).variable(),
                Place::of_cache("a", field.name).variable(),
            ]
        })
        .collect();
    prop_oneof![
        4 => proptest::sample::select(known),
        2 => "UNSTALE_[A-Za-z0-9_.\\[\\]-]{0,40}",
        1 => "UNSTALE_CACHES__[A-Za-z0-9_]{0,20}__[A-Z_]{0,12}",
        1 => "UNSTALE_\\PC{0,20}",
    ]
}

/// Values with and without a password in a URL, encoded or not.
fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "\\PC{0,40}",
        2 => "[0-9]{1,22}(ms|s|m|h|d|MiB|GB|)",
        1 => Just("off".to_string()),
        3 => ("(redis|rediss|http|redis-cluster|x y)", "[a-z]{0,3}", "[@:/?#a]{0,2}", "[@:/?#a]{0,2}", "[a-z:/0-9]{0,9}")
            .prop_map(|(scheme, user, before, after, host)| {
                format!("{scheme}://{user}:{before}{SECRET}{after}@{host}")
            }),
    ]
}

/// A cache of that name can be built, whatever its code can do.
fn resolves(settings: &Settings, name: &str) -> bool {
    let can = Abilities {
        weighs: true,
        compares: true,
    };
    settings
        .for_cache(name, &CacheSettings::default(), can)
        .is_ok()
}

proptest! {
    #[test]
    fn no_variables_panic_and_no_password_leaks(
        vars in proptest::collection::vec((names(), values()), 0..12),
    ) {
        // UNSTALE_FILE would read whatever the value names.
        let vars: Vec<_> = vars.into_iter().filter(|(name, _)| name != "UNSTALE_FILE").collect();
        match Settings::from_vars(vars) {
            Ok(settings) => {
                prop_assert!(settings.validate().is_ok());
                let shown = format!("{settings:?}{:?}", settings.describe());
                prop_assert!(!shown.contains(SECRET));
                for name in settings.caches.keys() {
                    prop_assert!(resolves(&settings, name));
                }
            }
            Err(error) => {
                let shown = format!("{error:?} {error}");
                prop_assert!(!shown.contains(SECRET));
            }
        }
    }
}
