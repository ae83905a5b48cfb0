//! Tests of the settings: defaults, bounds, precedence.

mod reading;
mod redaction;
mod rows;

use std::time::Duration;

use super::options::{CacheField, FIELDS, Field};
use super::*;
use crate::{Error, ErrorKind};

/// A password no error, log or description may repeat.
const SECRET: &str = "hunter2hunter2";

fn read(vars: &[(&str, &str)]) -> Result<Settings, Error> {
    Settings::from_vars(
        vars.iter()
            .map(|(name, value)| (name.to_string(), value.to_string())),
    )
}

fn good(vars: &[(&str, &str)]) -> Settings {
    read(vars).expect("good settings")
}

/// The lines of the error, without the heading.
fn bad(vars: &[(&str, &str)]) -> Vec<String> {
    let error = read(vars).expect_err("bad settings");
    assert_eq!(error.kind(), ErrorKind::Settings);
    lines(&error)
}

fn lines(error: &Error) -> Vec<String> {
    error
        .to_string()
        .lines()
        .skip(1)
        .map(|line| line.trim_start().to_string())
        .collect()
}

/// The only line of the error about one variable.
fn why(name: &str, value: &str) -> String {
    let lines = bad(&[(name, value)]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].clone()
}

fn with_file(text: &str, vars: &[(&str, &str)]) -> Result<Settings, Error> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("unstale.toml");
    std::fs::write(&path, text).expect("a file");
    let mut vars = vars.to_vec();
    vars.push(("UNSTALE_FILE", path.to_str().expect("UTF-8")));
    read(&vars)
}

#[test]
fn bounds_hold_at_both_ends() {
    for (name, inside, outside) in [
        (
            "UNSTALE_TTL",
            &["1ms", "45days"][..],
            &["0s", "999us", "46days"][..],
        ),
        ("UNSTALE_TTL_JITTER", &["0", "0.9"], &["-0.1", "0.91", "1"]),
        ("UNSTALE_MAX_STALENESS", &["1s", "45d"], &["999ms", "46d"]),
        ("UNSTALE_NEGATIVE_TTL", &["0s", "45d"], &["46d"]),
        (
            "UNSTALE_CAPACITY",
            &["1", "4294967296"],
            &["0", "4294967297"],
        ),
        ("UNSTALE_MAX_BYTES", &["1", "off", "1GB"], &["0", "0MiB"]),
        (
            "UNSTALE_REAP_INTERVAL",
            &["10ms", "1day"],
            &["9ms", "0s", "25h"],
        ),
        (
            "UNSTALE_REFRESH_AHEAD",
            &["0.01", "0.99", "1ms", "45d"],
            &["0", "1", "-1", "0s", "46d"],
        ),
        ("UNSTALE_AUDIT", &["0.00001", "1"], &["0", "1.1", "-1"]),
        ("UNSTALE_STALE_IF_ERROR", &["1ms", "45d"], &["0s", "46d"]),
        ("UNSTALE_LOAD_TIMEOUT", &["1ms", "1h"], &["0s", "61m"]),
        ("UNSTALE_MAX_LOADS", &["1", "65536"], &["0", "65537"]),
        ("UNSTALE_VERIFY_INTERVAL", &["10ms", "1s"], &["9ms", "61s"]),
        ("UNSTALE_LANES", &["1", "1024"], &["0", "1025"]),
        ("UNSTALE_JOURNAL", &["0", "1000000"], &["1000001"]),
        (
            "UNSTALE_OUTBOX",
            &["1024", "16777216"],
            &["1023", "16777217"],
        ),
        ("UNSTALE_PUBLISH_TIMEOUT", &["1ms", "1h"], &["0s", "61m"]),
        ("UNSTALE_MEMBER_TIMEOUT", &["1s", "30s"], &["999ms"]),
        ("UNSTALE_WRITE_TIMEOUT", &["5s", "1day"], &["4999ms", "25h"]),
        (
            "UNSTALE_NAMESPACE",
            &["a", "A-z_0.9"],
            &["a b", "a:b", "a{b}", "\u{e9}"],
        ),
        (
            "UNSTALE_RELAY_SLOT",
            &["a", "shop_1"],
            &["Shop", "a-b", "a b"],
        ),
    ] {
        for value in inside {
            good(&[(name, value)]);
        }
        for value in outside {
            let line = why(name, value);
            assert!(line.starts_with(name) && line.contains("must be"), "{line}");
        }
    }
    good(&[("UNSTALE_NAMESPACE", &"n".repeat(64))]);
    why("UNSTALE_NAMESPACE", &"n".repeat(65));
}

#[test]
fn settings_are_checked_against_each_other() {
    let slow = bad(&[("UNSTALE_VERIFY_INTERVAL", "3s")]);
    assert_eq!(slow.len(), 2, "{slow:?}");
    assert!(slow[0].starts_with("UNSTALE_MEMBER_TIMEOUT=5s: must be at least twice"));
    assert!(slow[1].starts_with("UNSTALE_MAX_STALENESS=2s: must be at least twice"));
    let cache = bad(&[("UNSTALE_CACHES__A__MAX_STALENESS", "999ms")]);
    assert!(
        cache[0].starts_with("UNSTALE_CACHES__A__MAX_STALENESS=999ms: "),
        "{cache:?}"
    );
    let long = bad(&[("UNSTALE_MEMBER_TIMEOUT", "1m")]);
    assert!(long[0].starts_with("UNSTALE_WRITE_TIMEOUT=30s: must be at least member_timeout"));
    // A value that is wrong by itself is blamed once, and nothing is derived from it.
    assert_eq!(bad(&[("UNSTALE_VERIFY_INTERVAL", "2h")]).len(), 1);
    assert_eq!(
        bad(&[
            ("UNSTALE_VERIFY_INTERVAL", "3s"),
            ("UNSTALE_MEMBER_TIMEOUT", "x")
        ])
        .len(),
        2
    );
    let cert = bad(&[("UNSTALE_TLS_CERT", "/c.pem")]);
    assert_eq!(cert, ["UNSTALE_TLS_CERT: needs tls_key as well"]);
}

#[cfg(feature = "redis")]
#[test]
fn a_password_for_redis_is_in_one_place() {
    let file = ("UNSTALE_REDIS_PASSWORD_FILE", "/run/secrets/redis");
    let both = bad(&[("UNSTALE_REDIS_URL", "redis://:hunter2@h"), file]);
    assert!(both[0].starts_with("UNSTALE_REDIS_PASSWORD_FILE: redis_url has a password too"));
    assert_eq!(
        bad(&[file]),
        ["UNSTALE_REDIS_PASSWORD_FILE: has no effect without redis_url"]
    );
    let user = bad(&[("UNSTALE_REDIS_URL", "redis://hunter2@h")]);
    assert!(user[0].contains("names a user but no password"), "{user:?}");
    assert!(!user[0].contains("hunter2"), "{user:?}");
    let vars = [("UNSTALE_REDIS_URL", "redis://app@h"), file];
    let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut settings = Settings::from_vars(vars).expect("a user, and a file with the password");
    let ask = || async { Ok(crate::Credentials::new("hunter2")) };
    settings.credentials = Some(crate::CredentialsProvider::new(ask));
    let error = settings.validate().expect_err("a file and a callback");
    assert!(
        error
            .to_string()
            .contains("credentials: redis_password_file has a password too")
    );
    settings.redis_password_file = None;
    settings.validate().expect("only a callback");
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn a_secret_may_be_in_a_file_of_its_own() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let read = |vars: &[(&str, &str)]| {
        let vars = vars.iter();
        Settings::from_vars(vars.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    };
    let key = file("key", "a signing key of some bytes\n");
    let secret = file("secret", "a tier secret of some bytes");
    let settings = read(&[
        ("UNSTALE_SIGNING_KEY_FILE", &key),
        ("UNSTALE_TIER_SECRET_FILE", &secret),
    ]);
    let settings = settings.expect("two secrets");
    assert_eq!(
        settings.signing_key.as_deref(),
        Some("a signing key of some bytes")
    );
    assert_eq!(
        settings.tier_secret.as_deref(),
        Some("a tier secret of some bytes")
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path, mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, mode).expect("its mode");
        };
        mode(&key, 0o644);
        mode(&secret, 0o440);
        let vars = [
            ("UNSTALE_SIGNING_KEY_FILE", &*key),
            ("UNSTALE_TIER_SECRET_FILE", &*secret),
        ];
        let exposed = read(&vars).expect("two secrets").exposed;
        assert_eq!(exposed, ["UNSTALE_SIGNING_KEY_FILE"]);
    }
    let wrong = |vars: &[(&str, &str)]| read(vars).expect_err("wrong").to_string();
    let both = [
        ("UNSTALE_SIGNING_KEY_FILE", &*key),
        ("UNSTALE_SIGNING_KEY", "another key of some bytes"),
    ];
    let said = wrong(&both);
    assert!(said.contains("UNSTALE_SIGNING_KEY is set too"), "{said}");
    let empty = file("empty", "\n");
    for (path, why) in [("/no/such/file", "cannot be read"), (&*empty, "is empty")] {
        let said = wrong(&[("UNSTALE_SIGNING_KEY_FILE", path)]);
        assert!(said.contains(why), "{said}");
    }
    let short = file("short", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    let said = wrong(&[("UNSTALE_TIER_SECRET_FILE", &short)]);
    assert!(said.contains("openssl rand"), "{said}");
    assert!(!said.contains("aaaaaaaa"), "{said}");
    let said = wrong(&[("UNSTALE_TTL_FILE", &key)]);
    assert!(said.contains("no such setting"), "{said}");
}

#[test]
fn secrets_in_files_are_read_again() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("key");
    let write = |text: &str| std::fs::write(&path, text).expect("a file");
    write("a signing key of some bytes\n");
    let name = "UNSTALE_SIGNING_KEY_FILE".to_owned();
    let settings = Settings::from_vars([(name, path.display().to_string())]).expect("a key");
    let again = || settings.with_secrets_read_again();
    assert!(again().expect("the same").is_none());
    write("another key of some bytes");
    let changed = again().expect("a good key").expect("another one");
    let key = changed.signing_key.as_deref();
    assert_eq!(key, Some("another key of some bytes"));
    assert_eq!(changed.namespace, settings.namespace);
    for (text, why) in [
        ("", "is empty"),
        ("abababababababababababab", "openssl rand"),
    ] {
        write(text);
        let said = again().expect_err("no good");
        assert!(said.contains("UNSTALE_SIGNING_KEY_FILE: "), "{said}");
        assert!(said.contains(why) && !said.contains("abab"), "{said}");
    }
}

#[test]
fn the_second_secret_is_another_one() {
    let same = "0123456789abcdef0123456789abcdef";
    for first in ["UNSTALE_SIGNING_KEY", "UNSTALE_TIER_SECRET"] {
        let second = format!("{first}_ACCEPTED");
        let both = bad(&[(first, same), (&second, same)]);
        assert!(both[0].contains("is the same as"), "{both:?}");
        let alone = bad(&[(&second, same)]);
        assert!(alone[0].contains("as well"), "{alone:?}");
    }
}

#[cfg(feature = "redis")]
#[test]
fn only_the_url_of_the_file_is_read_again_from_the_file() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("unstale.toml");
    std::fs::write(&path, "redis_url = \"redis://:one@h\"\n").expect("a file");
    let file = ("UNSTALE_FILE".to_owned(), path.display().to_string());
    let settings = Settings::from_vars([file.clone()]).expect("a good file");
    let known = settings.file.as_ref().expect("it has the URL");
    assert_eq!((&known.path, &*known.url), (&path, "redis://:one@h"));
    let url = ("UNSTALE_REDIS_URL".to_owned(), "redis://:two@h".to_owned());
    let settings = Settings::from_vars([file, url]).expect("a variable wins");
    assert_ne!(settings.file.map(|file| file.url), settings.redis_url);
}

#[cfg(feature = "tls")]
#[test]
fn the_urls_scheme_and_shape_are_checked() {
    for url in [
        "redis://localhost",
        "redis://127.0.0.1:6379",
        "redis://127.0.0.1:6379/",
        "REDIS://h:1/15",
        "rediss://user:p%40ss@[::1]:6380/0",
        "redis://:pw@h",
        "redis-sentinel://u:p@s1:26379,s2,[::1]:3/4?service=mymaster",
        "rediss-sentinel://s1?sentinel_user=u&sentinel_password=p%26&service=m",
        "redis-cluster://h1:7001,h2:7002,h3",
        "unix:///run/redis/redis.sock?db=3",
        "unix://app:pw@/run/redis.sock",
        "rediss-cluster://:p@h1/0",
        "valkey://h",
        "valkeys-cluster://h1,h2",
        "redis://h:6379\n",
    ] {
        good(&[("UNSTALE_REDIS_URL", url)]);
    }
    for (url, hint) in [
        ("localhost:6379", "must begin with redis://"),
        (
            "redis-sentinel://h:26379",
            "must name what the sentinels watch",
        ),
        ("redis-sentinel://h?service=m&db=1", "nothing else"),
        ("redis-sentinel://h,?service=m", "the host is missing"),
        ("redis-sentinel://h/x?service=m", "the number of a database"),
        ("redis-cluster://h:6379/1", "only database 0"),
        ("redis-cluster://h,h:0", "the port must be"),
        ("redis-cluster://h?service=m", "no options"),
        ("redis-other://h", "the scheme must be redis,"),
        ("http://h", "the scheme must be redis,"),
        ("redis://", "the host is missing"),
        ("redis://:pw@", "the host is missing"),
        ("redis://:6379", "the host is missing"),
        ("redis://h:0", "the port must be"),
        ("redis://h:66000", "the port must be"),
        ("redis://[::1", "closing ]"),
        ("redis://h/abc", "the number of a database"),
        ("redis://h//0", "the number of a database"),
        ("redis://h?protocol=3", "no options"),
        ("redis://u:p/w@h", "percent-encode"),
        ("redis://u:p w@h", "white space"),
        ("redis://a,b", "several hosts"),
        ("redis://user@h", "no password"),
        ("redis-cluster://a,a:6379", "one host twice"),
    ] {
        let line = why("UNSTALE_REDIS_URL", url);
        assert!(line.contains(hint), "{url}: {line}");
    }
    for url in ["redis-cluster://h", "valkey://h"] {
        let plain = bad(&[("UNSTALE_REDIS_URL", url), ("UNSTALE_TLS_CA", "/ca.pem")]);
        assert!(
            plain[0].starts_with("UNSTALE_TLS_CA: has no effect without TLS"),
            "{plain:?}"
        );
    }
}

#[test]
fn a_caches_variable_wins_over_code_and_code_over_all_caches() {
    let mut settings = Settings {
        capacity: 5,
        max_loads: 6,
        ..Settings::default()
    };
    let variable = CacheSettings {
        ttl: Some(Duration::from_secs(1)),
        ..Default::default()
    };
    settings.caches.insert("users".into(), variable);
    let code = CacheSettings {
        ttl: Some(Duration::from_secs(2)),
        capacity: Some(7),
        max_staleness: Some(Switch::Off),
        ..Default::default()
    };
    let users = settings
        .for_cache("users", &code, Abilities::default())
        .expect("good options");
    assert_eq!(
        (users.ttl, users.capacity, users.max_loads),
        (Duration::from_secs(1), 7, 6)
    );
    assert_eq!(users.max_staleness, None);
    assert_eq!(users.load_timeout, Duration::from_secs(5));
    let others = settings
        .for_cache("others", &code, Abilities::default())
        .expect("good options");
    assert_eq!(others.ttl, Duration::from_secs(2));
}

#[test]
fn a_caches_errors_name_the_variable_or_the_option() {
    let mut settings = Settings::default();
    let variable = CacheSettings {
        ttl: Some(Duration::ZERO),
        ..Default::default()
    };
    settings.caches.insert("users".into(), variable);
    let code = CacheSettings {
        ttl: Some(Duration::MAX), // loses against the variable, so it is not blamed
        capacity: Some(0),
        max_staleness: Some(Switch::On(Duration::from_millis(5))),
        ..Default::default()
    };
    let error = settings
        .for_cache("users", &code, Abilities::default())
        .expect_err("bad");
    let found = lines(&error);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[0].starts_with("UNSTALE_CACHES__USERS__TTL=0s: must be from 1ms"),
        "{found:?}"
    );
    assert!(
        found[1].starts_with("capacity of cache users=0: must be from 1"),
        "{found:?}"
    );
    assert!(
        found[2].starts_with("max_staleness of cache users=5ms: "),
        "{found:?}"
    );
    for name in ["", "A", "1a", "a__b", "a_", "a-b", "a\nb", &"a".repeat(65)] {
        let error = settings
            .for_cache(name, &CacheSettings::default(), Abilities::default())
            .expect_err("bad name");
        assert!(
            error.to_string().contains("a cache's name must be"),
            "{error}"
        );
        assert_eq!(
            error.to_string().lines().count(),
            2,
            "one line, whatever the name: {error:?}"
        );
    }
    settings
        .for_cache(
            &"a".repeat(64),
            &CacheSettings::default(),
            Abilities::default(),
        )
        .expect("a good name");
}

#[test]
fn validate_checks_settings_made_in_code() {
    let mut settings = Settings {
        ttl: Duration::ZERO,
        ttl_jitter: f64::NAN,
        ..Default::default()
    };
    settings
        .caches
        .insert("Bad".into(), CacheSettings::default());
    let one = CacheSettings {
        max_loads: Some(0),
        ..Default::default()
    };
    settings.caches.insert("one".into(), one);
    let error = settings.validate().expect_err("bad");
    let found = lines(&error);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(
        found[0].starts_with("ttl=0s: must be from 1ms to "),
        "{found:?}"
    );
    assert!(found[1].starts_with("ttl_jitter=NaN: "), "{found:?}");
    assert!(
        found[2].starts_with("cache Bad: a cache's name must be"),
        "{found:?}"
    );
    assert!(
        found[3].starts_with("max_loads of cache one=0: "),
        "{found:?}"
    );
    let huge = Settings {
        verify_interval: Duration::MAX,
        ..Default::default()
    };
    assert!(huge.validate().is_err());
}

#[test]
fn text_reads_back_as_it_was_shown() {
    use super::text::Text;
    for ms in [
        0, 1, 499, 1_000, 1_500, 60_000, 90_000, 120_000, 121_000, 600_000, 5_400_000, 86_400_000,
    ] {
        let time = Duration::from_millis(ms);
        assert_eq!(Duration::parse(&time.show()), Ok(time), "{}", time.show());
    }
    for bytes in [1, 1000, 1024, 1536, 1 << 20, 5 << 30, u64::MAX] {
        assert_eq!(u64::parse(&bytes.show()), Ok(bytes), "{}", bytes.show());
    }
    assert_eq!(u64::parse("3 kb"), Ok(3_000));
    assert_eq!(u64::parse("2GB"), Ok(2_000_000_000));
    assert_eq!(Duration::from_secs(60).show(), "60s");
}
