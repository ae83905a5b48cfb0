//! Tests of names, texts, layers and what is said of mistakes.

use super::*;

#[cfg(all(feature = "tls", feature = "prometheus"))]
const EVERY_VARIABLE: &[(&str, &str)] = &[
    ("UNSTALE_REDIS_URL", "rediss://app:pw@cache.example:6380/3"),
    ("UNSTALE_TLS_CA", "/etc/ca.pem"),
    ("UNSTALE_TLS_CERT", "/etc/cert.pem"),
    ("UNSTALE_TLS_KEY", "/etc/key.pem"),
    ("UNSTALE_NAMESPACE", "billing-2.eu_west"),
    ("UNSTALE_SIGNING_KEY", "sixteen bytes 16"),
    ("UNSTALE_SIGNING_KEY_ACCEPTED", "off the old secret"),
    ("UNSTALE_TTL", " 1m 30s "),
    ("UNSTALE_TTL_JITTER", "0"),
    ("UNSTALE_MAX_STALENESS", "OFF"),
    ("UNSTALE_NEGATIVE_TTL", "0s"),
    ("UNSTALE_CAPACITY", "1"),
    ("UNSTALE_MAX_BYTES", "64 MiB"),
    ("UNSTALE_REAP_INTERVAL", "off"),
    ("UNSTALE_REFRESH_AHEAD", "0.8"),
    ("UNSTALE_AUDIT", "0.001"),
    ("UNSTALE_STALE_IF_ERROR", "5m"),
    ("UNSTALE_LOAD_TIMEOUT", "250ms"),
    ("UNSTALE_MAX_LOADS", "8"),
    ("UNSTALE_UNKNOWN_LOADS", "50"),
    ("UNSTALE_TIER", "off"),
    ("UNSTALE_TIER_TTL", "10m"),
    ("UNSTALE_TIER_SECRET", "0123456789abcdef"),
    ("UNSTALE_VERIFY_INTERVAL", "100ms"),
    ("UNSTALE_LANES", "4"),
    ("UNSTALE_SUBSCRIBE_AT", "Reader.example:6380"),
    ("UNSTALE_JOURNAL", "1"),
    ("UNSTALE_OUTBOX", "1024"),
    ("UNSTALE_PUBLISH_TIMEOUT", "1s"),
    ("UNSTALE_MEMBER_TIMEOUT", "3s"),
    ("UNSTALE_WRITE_TIMEOUT", "10s"),
    ("UNSTALE_WRITE_POLICY", "Available"),
    ("UNSTALE_METRICS_ADDR", "[::1]:9100"),
    ("UNSTALE_CACHES__USERS_2__MAX_STALENESS", "off"),
    ("UNSTALE_CACHES__USERS_2__CAPACITY", "7"),
    ("PATH", "/bin"),
];

#[cfg(all(feature = "tls", feature = "prometheus"))]
#[test]
fn every_variable_reaches_its_field() {
    let settings = good(EVERY_VARIABLE);
    let users = CacheSettings {
        max_staleness: Some(Switch::Off),
        capacity: Some(7),
        ..CacheSettings::default()
    };
    let expected = Settings {
        redis_url: Some("rediss://app:pw@cache.example:6380/3".into()),
        tls_ca: Some("/etc/ca.pem".into()),
        tls_cert: Some("/etc/cert.pem".into()),
        tls_key: Some("/etc/key.pem".into()),
        namespace: "billing-2.eu_west".into(),
        signing_key: Some("sixteen bytes 16".into()),
        signing_key_accepted: Some("off the old secret".into()),
        ttl: Duration::from_secs(90),
        ttl_jitter: 0.0,
        max_staleness: None,
        negative_ttl: Duration::ZERO,
        capacity: 1,
        max_bytes: Some(64 << 20),
        reap_interval: None,
        refresh_ahead: Some(RefreshAhead::Share(0.8)),
        audit: Some(0.001),
        stale_if_error: Some(Duration::from_secs(300)),
        load_timeout: Duration::from_millis(250),
        max_loads: 8,
        unknown_loads: Some(50),
        tier: false,
        tier_ttl: Some(Duration::from_secs(600)),
        tier_secret: Some("0123456789abcdef".into()),
        verify_interval: Duration::from_millis(100),
        lanes: 4,
        subscribe_at: SubscribeAt::Server("Reader.example:6380".into()),
        journal: 1,
        outbox: 1024,
        publish_timeout: Duration::from_secs(1),
        member_timeout: Duration::from_secs(3),
        write_timeout: Duration::from_secs(10),
        write_policy: WritePolicy::Available,
        metrics_addr: Some("[::1]:9100".parse().expect("an address")),
        caches: [("users_2".to_string(), users)].into(),
        ..Settings::default()
    };
    assert_eq!(settings, expected);
}

#[test]
fn values_that_do_not_parse_are_refused_with_what_would_be_right() {
    for (name, value, hint) in [
        (
            "UNSTALE_TTL",
            "30",
            "UNSTALE_TTL=30: add a unit, as in 30s, 500ms or 1m",
        ),
        (
            "UNSTALE_TTL",
            "1.5",
            "UNSTALE_TTL=1.5: add a unit, as in 30s, 500ms or 1m",
        ),
        ("UNSTALE_TTL", "off", "must be a number and a unit"),
        ("UNSTALE_TTL", "-1s", "must be a number and a unit"),
        (
            "UNSTALE_TTL",
            "99999999999999999999s",
            "must be a number and a unit",
        ),
        (
            "UNSTALE_MAX_STALENESS",
            "none",
            "must be a number and a unit",
        ),
        ("UNSTALE_CAPACITY", "10k", "must be a whole number"),
        ("UNSTALE_CAPACITY", "-1", "must be a whole number"),
        ("UNSTALE_MAX_BYTES", "1.5GiB", "as in 64MiB"),
        ("UNSTALE_MAX_BYTES", "99999999999GiB", "as in 64MiB"),
        ("UNSTALE_MAX_BYTES", "MiB", "as in 64MiB"),
        ("UNSTALE_TTL_JITTER", "10%", "must be a fraction"),
        ("UNSTALE_TTL_JITTER", "NaN", "must be a fraction"),
        (
            "UNSTALE_WRITE_POLICY",
            "lenient",
            "must be strict or available",
        ),
        ("UNSTALE_METRICS_ADDR", "9100", "0.0.0.0:9100"),
        ("UNSTALE_METRICS_ADDR", "localhost:9100", "0.0.0.0:9100"),
    ] {
        let line = why(name, value);
        assert!(line.starts_with(&format!("{name}={value}: ")), "{line}");
        assert!(line.contains(hint), "{line}");
    }
}

#[test]
fn one_error_lists_everything() {
    let lines = bad(&[
        ("UNSTALE_TTL", "30"),
        ("UNSTALE_LANES", "0"),
        ("UNSTALE_TLL", "30s"),
        ("UNSTALE_CACHES__A__TTL", "never"),
        ("UNSTALE_CACHES__A__LANES", "2"),
        ("UNSTALE_CACHES__1A__TTL", "2s"),
    ]);
    assert_eq!(lines.len(), 6, "{lines:#?}");
    for part in [
        "UNSTALE_TTL=30: ",
        "UNSTALE_LANES=0: must be from 1 to 1024",
        "UNSTALE_TLL: no such setting; the nearest is UNSTALE_TTL",
        "UNSTALE_CACHES__A__TTL=never: ",
        "UNSTALE_CACHES__A__LANES: cannot be set for one cache; use UNSTALE_LANES",
        "UNSTALE_CACHES__1A__TTL: a cache's name must be",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(part)),
            "{part} in {lines:#?}"
        );
    }
    let message = read(&[("UNSTALE_TTL", "1"), ("UNSTALE_LANES", "x")])
        .expect_err("bad")
        .to_string();
    assert!(
        message.starts_with("2 settings are not valid:\n  "),
        "{message}"
    );
}

#[test]
fn unknown_names_are_errors_with_the_nearest_name() {
    for (name, nearest) in [
        ("UNSTALE_REDIS_ULR", "UNSTALE_REDIS_URL"),
        ("UNSTALE_REDIS", "UNSTALE_REDIS_URL"),
        ("UNSTALE_ttl", "UNSTALE_TTL"),
        ("UNSTALE_MAX_STALNESS", "UNSTALE_MAX_STALENESS"),
        ("UNSTALE_MAXBYTES", "UNSTALE_MAX_BYTES"),
        ("UNSTALE_FILES", "UNSTALE_FILE"),
        ("UNSTALE_CACHE__USERS__TTL", "UNSTALE_CACHES__USERS__TTL"),
        ("UNSTALE_CACHES__USERS__TLL", "UNSTALE_CACHES__USERS__TTL"),
        ("UNSTALE_CACHES__users__TTL", "UNSTALE_CACHES__USERS__TTL"),
        ("UNSTALE_TTL.X", "UNSTALE_TTL"),
    ] {
        let line = why(name, "30s");
        assert_eq!(
            line,
            format!("{name}: no such setting; the nearest is {nearest}")
        );
    }
    for name in [
        "UNSTALE_",
        "UNSTALE_CACHES",
        "UNSTALE_CACHES__A",
        "UNSTALE_A__B__C__D",
    ] {
        assert!(why(name, "1").contains("no such setting; the nearest is UNSTALE_"));
    }
}

#[test]
fn what_kubernetes_makes_up_is_no_setting() {
    good(&[
        ("UNSTALE_SERVICE_HOST", "10.0.0.1"),
        ("UNSTALE_REDIS_SERVICE_HOST", "10.0.0.1"),
        ("UNSTALE_REDIS_SERVICE_PORT", "6379"),
        ("UNSTALE_REDIS_SERVICE_PORT_METRICS", "9121"),
        ("UNSTALE_REDIS_PORT", "tcp://10.0.0.1:6379"),
        ("UNSTALE_PORT", "tcp://10.0.0.1:6379"),
        ("UNSTALE_PORT_6379_TCP", "tcp://10.0.0.1:6379"),
        ("UNSTALE_REDIS_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ("UNSTALE_SERVICE_PORT", ""),
        ("NOT_UNSTALE_TTL", "x"),
        ("unstale_ttl", "x"),
    ]);
    why("UNSTALE_REPORT_X", "1");
    why("UNSTALE_SUPPORT", "1");
}

#[test]
fn a_variable_that_is_present_but_empty_stops_the_start_and_is_named() {
    let all = Settings::default().describe();
    let all = all.iter().map(|row| row.variable.as_str());
    for name in all.chain(["UNSTALE_FILE", "UNSTALE_CACHES__ACCOUNTS__TTL"]) {
        for nothing in ["", "  ", "\n"] {
            let line = why(name, nothing);
            assert!(line.starts_with(&format!("{name}: is empty: ")), "{line}");
        }
    }
    let url = why("UNSTALE_REDIS_URL", "");
    for right in ["redis://127.0.0.1:6379", "none"] {
        assert!(url.contains(right), "{url}");
    }
    assert!(why("UNSTALE_TYPO", "").contains("no such setting"));
    // With the others, in one error.
    let lines = bad(&[("UNSTALE_REDIS_URL", ""), ("UNSTALE_TTL", "30")]);
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn none_is_no_server_and_no_mistake() {
    for none in ["none", "NONE", " none "] {
        let settings = good(&[("UNSTALE_REDIS_URL", none)]);
        assert_eq!(settings.server_url(), None);
        assert!(settings.redis_url.is_some());
    }
    assert_eq!(good(&[]).server_url(), None);
    let no_tls = [("UNSTALE_REDIS_URL", "none"), ("UNSTALE_TLS_CA", "/ca.pem")];
    assert!(bad(&no_tls)[0].contains("has no effect without TLS"));
}

#[test]
fn variables_win_over_the_file() {
    let text = "ttl = \"30s\"\ncapacity = 20_000\nttl_jitter = 0.2\n\
                [caches.accounts]\nttl = \"5s\"\nmax_loads = 3\n";
    let file = with_file(text, &[]).expect("a good file");
    assert_eq!(file.ttl, Duration::from_secs(30));
    assert_eq!((file.capacity, file.ttl_jitter), (20_000, 0.2));
    assert_eq!(file.caches["accounts"].ttl, Some(Duration::from_secs(5)));
    let vars = [
        ("UNSTALE_TTL", "40s"),
        ("UNSTALE_CACHES__ACCOUNTS__TTL", "6s"),
    ];
    let both = with_file(text, &vars).expect("a good file");
    assert_eq!(both.ttl, Duration::from_secs(40));
    assert_eq!(both.capacity, 20_000);
    let accounts = &both.caches["accounts"];
    assert_eq!(
        (accounts.ttl, accounts.max_loads),
        (Some(Duration::from_secs(6)), Some(3))
    );
}

#[test]
fn the_files_mistakes_are_listed_with_the_variables() {
    let text = "ttl = 30\nTTL = \"30s\"\nlanes = [1]\nnamespace = \"\"\n\"a[9999999999]\" = 1\n\
                [caches.accounts]\nlanes = 2\ntlt = \"1s\"\n[caches.\"a.b\"]\nttl = \"1s\"\n";
    let error = with_file(text, &[("UNSTALE_CAPACITY", "0")]).expect_err("bad");
    let lines = lines(&error);
    for part in [
        "unstale.toml: ttl=30: add a unit",
        "unstale.toml: TTL: no such setting; the nearest is ttl",
        "unstale.toml: lanes: must be one value",
        "unstale.toml: namespace: is empty: leave it out",
        "unstale.toml: a[9999999999]: no such setting",
        "unstale.toml: caches.accounts.lanes: no such setting",
        "unstale.toml: caches.accounts.tlt: no such setting; the nearest is ttl",
        "unstale.toml: caches.a.b: a cache's name must be",
        "UNSTALE_CAPACITY=0: must be from 1",
    ] {
        assert!(
            lines.iter().any(|line| line.contains(part)),
            "{part} in {lines:#?}"
        );
    }
    assert_eq!(lines.len(), 9, "{lines:#?}");
    for text in ["caches = 1", "[caches]\na = 1"] {
        assert!(
            with_file(text, &[])
                .expect_err("bad")
                .to_string()
                .contains("[caches.<name>]")
        );
    }
}

#[test]
fn a_broken_or_missing_file_stops_the_start_without_repeating_it() {
    let broken = with_file(
        &format!("lanes = 1\nredis_url = redis://:{SECRET}@h\n"),
        &[],
    );
    let error = broken.expect_err("bad");
    assert!(
        error.to_string().contains("is not valid TOML at line 2"),
        "{error}"
    );
    assert!(!format!("{error:?}").contains(SECRET));
    let missing = bad(&[("UNSTALE_FILE", "/nonexistent/unstale.toml")]);
    assert!(missing[0].starts_with("UNSTALE_FILE: /nonexistent/unstale.toml cannot be read: "));
    let device = bad(&[("UNSTALE_FILE", "/dev/zero")]);
    assert!(device[0].contains("cannot be read"), "{device:?}");
}

#[cfg(unix)]
#[test]
fn what_is_not_utf8_is_refused_and_what_is_not_ours_ignored() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let error = super::env::from_os_vars([
        (os(b"UNSTALE_NAMESPACE"), os(b"a\xff")),
        (os(b"UNSTALE_\xff"), os(b"1")),
        (os(b"OTHER"), os(b"\xff")),
        (os(b"\xff"), os(b"\xff")),
        (os(b"UNSTALE_TTL"), os(b"1s")),
    ])
    .expect_err("not UTF-8");
    let found = lines(&error);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], "UNSTALE_NAMESPACE: is not UTF-8");
    assert!(found[1].ends_with("no such setting"), "{found:?}");
}
