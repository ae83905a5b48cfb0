//! What is judged how.

use super::*;

fn info(lines: &[(&str, &str)]) -> Info {
    let pairs = lines.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn is(finding: &Finding, level: Level, word: &str) {
    assert_eq!(finding.level, level, "{finding:?}");
    let text = finding.lines(Paint::never()).join(" ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(word), "{word}: {text}");
    assert_eq!(finding.remedy.is_some(), level != Level::Ok, "{text}");
}

#[test]
fn only_a_primary_of_redis_7_that_fits_its_url_will_do() {
    let of = |version, mode, role| {
        let info = info(&[
            ("redis_version", version),
            ("redis_mode", mode),
            ("role", role),
            ("run_id", "a1"),
        ]);
        server(&info, false)
    };
    is(&of("7.0.15", "standalone", "master"), Level::Ok, "7.0.15");
    is(&of("10.1.0", "standalone", "master"), Level::Ok, "10.1");
    is(&of("6.2.9", "standalone", "master"), Level::Fail, "7.0");
    is(&of("7.2.0", "cluster", "master"), Level::Fail, "cluster");
    let node = info(&[
        ("redis_version", "7.2.0"),
        ("redis_mode", "cluster"),
        ("run_id", "a1"),
    ]);
    is(&server(&node, true), Level::Ok, "cluster");
    is(&of("7.2.0", "standalone", "slave"), Level::Fail, "primary");
    is(&server(&Info::new(), false), Level::Fail, "unknown");
}

#[test]
fn only_a_policy_that_evicts_keys_without_a_ttl_is_wrong_and_only_under_a_limit() {
    let of = |policy, limit| eviction(&info(&[("maxmemory_policy", policy), ("maxmemory", limit)]));
    is(&of("noeviction", "1048576"), Level::Ok, "1 MiB");
    is(&of("volatile-lru", "1048576"), Level::Ok, "volatile");
    is(&of("allkeys-lfu", "0"), Level::Warn, "noeviction");
    is(&of("allkeys-lru", "1048576"), Level::Fail, "noeviction");
}

#[test]
fn files_that_every_user_may_read_are_named() {
    assert!(exposed_files(&[]).is_none());
    let two = ["UNSTALE_SIGNING_KEY_FILE", "UNSTALE_TIER_SECRET_FILE"].map(str::to_owned);
    let found = exposed_files(&two).unwrap();
    is(&found, Level::Warn, "0400");
    is(&found, Level::Warn, "UNSTALE_TIER_SECRET_FILE");
}

#[test]
fn subscribers_need_a_buffer_that_is_bounded_and_large() {
    let of = |pubsub: &str| {
        let limit = format!("normal 0 0 0 slave 268435456 67108864 60 pubsub {pubsub}");
        output_buffer(Some(&limit))
    };
    is(&of("33554432 8388608 60"), Level::Ok, "33554432");
    is(&of("0 0 0"), Level::Warn, "fill the memory");
    is(&of("65536 0 0"), Level::Warn, "burst");
    is(&of("33554432 65536 1"), Level::Warn, "burst");
    is(&output_buffer(Some("strange")), Level::Warn, "strange");
    is(&output_buffer(None), Level::Ok, "not visible");
}

#[test]
fn replicas_must_be_needed_for_a_write_and_be_there() {
    let two = info(&[("connected_slaves", "2")]);
    let good = info(&[("connected_slaves", "2"), ("min_slaves_good_slaves", "2")]);
    is(&replicas(&Info::new(), Some("0"), None), Level::Ok, "none");
    is(&replicas(&two, Some("0"), Some("10")), Level::Warn, "off");
    is(&replicas(&two, None, None), Level::Warn, "off");
    is(&replicas(&good, None, None), Level::Ok, "on");
    is(&replicas(&good, Some("1"), Some("1")), Level::Ok, "on");
    is(&replicas(&good, Some("1"), Some("10")), Level::Warn, "10 s");
    is(
        &replicas(&good, Some("3"), Some("1")),
        Level::Fail,
        "3 needed",
    );
    let alone = info(&[("connected_slaves", "0"), ("min_slaves_good_slaves", "0")]);
    is(
        &replicas(&alone, Some("1"), Some("1")),
        Level::Fail,
        "refuses",
    );
}

#[test]
fn lanes_must_agree() {
    is(&lanes(None, 4), Level::Ok, "yet");
    is(&lanes(Some(4), 4), Level::Ok, "4");
    is(&lanes(Some(2), 4), Level::Fail, "UNSTALE_LANES=2");
}

#[test]
fn a_clock_that_steps_is_doubtful() {
    let second = Duration::from_secs(1);
    let of = |went, offset, beats_ahead| {
        clock(&Clocks {
            offset,
            went,
            elapsed: second,
            beats_ahead,
        })
    };
    let zero = Duration::ZERO;
    is(&of(Some(second), zero, zero), Level::Ok, "steady");
    is(&of(Some(second * 2), zero, zero), Level::Warn, "watched");
    is(&of(None, zero, zero), Level::Warn, "watched");
    is(&of(Some(second), second * 60, zero), Level::Warn, "NTP");
    is(&of(Some(second), zero, second * 5), Level::Warn, "set back");
}

#[test]
fn every_message_must_come_back_and_soon() {
    let bound = Duration::from_millis(500);
    let quick = Duration::from_millis(1);
    is(&echo(&[quick; 3], 3, bound), Level::Ok, "1.0 ms");
    is(&echo(&[quick, bound * 2], 2, bound), Level::Warn, "1.0 s");
    is(&echo(&[quick; 2], 3, bound), Level::Fail, "2 of 3");
    is(&echo(&[], 3, bound), Level::Fail, "none of 3");
}

#[test]
fn what_is_missing_is_said_with_its_remedy() {
    let lack = Lack {
        kind: ErrorKind::Auth,
        found: "Redis refuses user app: zadd".into(),
        remedy: "ACL SETUSER app +zadd".into(),
    };
    is(&rights(Some(&lack)), Level::Fail, "ACL SETUSER app +zadd");
    is(&rights(None), Level::Ok, "every command");
    is(&rehearsal(&Ok(())), Level::Ok, "published");
}
