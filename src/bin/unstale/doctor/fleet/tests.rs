//! What two services could have set differently.

use super::*;
use crate::colour::Paint;
use crate::doctor::checks::Level;

fn own() -> Own {
    Own {
        namespace: "shop".to_owned(),
        database: Some(0),
        lanes: 1,
        redis: "redis://one:6379".to_owned(),
        members: BTreeSet::from(["0000000a".to_owned(), "0000000b".to_owned()]),
    }
}

/// As an instance serves them, with one label changed, and further lines.
fn instance(change: (&str, &str), more: &str) -> Instance {
    let mut labels = BTreeMap::from([
        ("id", "0000000a"),
        ("fleet", "shop"),
        ("bus", "redis"),
        ("redis", "redis://***@one.zone:6379"),
        ("lanes", "1"),
        ("journal", "4096"),
        ("verify_interval", "500ms"),
        ("member_timeout", "5s"),
        ("version", "0.1.0"),
    ]);
    labels.insert(change.0, change.1);
    let version = labels.remove("version").unwrap_or_default();
    let labels: Vec<_> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    let text = format!(
        "unstale_settings_info{{{}}} 1\nunstale_build_info{{version=\"{version}\"}} 1\n{more}",
        labels.join(",")
    );
    Instance {
        from: "http://a:9100/metrics".to_owned(),
        samples: scrape::parse(&text),
    }
}

fn is(finding: &Finding, level: Level, word: &str) {
    let text = finding.lines(Paint::never()).join(" ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(finding.level, level, "{text}");
    assert!(text.contains(word), "{word}: {text}");
}

#[test]
fn what_a_second_service_has_set_otherwise_is_found() {
    is(
        &member(&own(), &instance(("id", "0000000a"), "")),
        Level::Ok,
        "is a member",
    );
    for (label, value, says) in [
        ("bus", "local", "has no Redis"),
        ("fleet", "shopp", "in namespace shopp, and this is shop"),
        ("lanes", "4", "UNSTALE_LANES"),
        (
            "redis",
            "redis://one:6379/2",
            "in database 2, and this is 0",
        ),
        ("id", "0000000c", "is no member here"),
    ] {
        is(
            &member(&own(), &instance((label, value), "")),
            Level::Fail,
            says,
        );
    }
    let unreadable = "unstale_events_dropped_total{reason=\"undecodable\"} 3\n";
    is(
        &member(&own(), &instance(("id", "0000000a"), unreadable)),
        Level::Warn,
        "UNSTALE_SIGNING_KEY",
    );
    let own_events =
        "unstale_events_dropped_total{reason=\"own\"} 3\nunstale_clock_jumps_total 0\n";
    is(
        &member(&own(), &instance(("id", "0000000a"), own_events)),
        Level::Ok,
        "is a member",
    );
    let jumped = "unstale_clock_jumps_total 7\n";
    is(
        &member(&own(), &instance(("id", "0000000a"), jumped)),
        Level::Warn,
        "7 times",
    );
}

#[test]
fn versions_and_settings_that_differ_are_counted() {
    let all = [
        instance(("id", "0000000a"), ""),
        instance(("version", "0.2.0"), ""),
    ];
    let found = together(&own(), &all);
    is(&found[0], Level::Warn, "0.1.0 (1), 0.2.0 (1)");
    is(&found[1], Level::Ok, "4096 (2)");
    is(&found[4], Level::Ok, "1 member without --metrics: 0000000b");
    let all = [
        instance(("member_timeout", "10s"), ""),
        instance(("id", "0000000b"), ""),
    ];
    let found = together(&own(), &all);
    is(&found[3], Level::Warn, "UNSTALE_MEMBER_TIMEOUT");
    assert_eq!(found.len(), 4, "every member is looked at");
    assert!(together(&own(), &[]).is_empty());
}

#[test]
fn a_namespace_in_two_databases_is_doubtful_and_another_is_named() {
    let heard = |namespace: &str, database| Neighbour {
        namespace: namespace.to_owned(),
        database: Some(database),
    };
    let alone = BTreeSet::from([heard("shop", 0)]);
    is(&neighbours(&own(), &alone), Level::Ok, "no other");
    let typo = BTreeSet::from([heard("shop", 0), heard("shopp", 0)]);
    is(&neighbours(&own(), &typo), Level::Ok, "shopp in database 0");
    let split = BTreeSet::from([heard("shop", 0), heard("shop", 1)]);
    is(
        &neighbours(&own(), &split),
        Level::Warn,
        "shop in database 1",
    );
}

#[test]
fn the_number_of_a_database_is_the_end_of_its_url() {
    for (url, number) in [
        ("redis://one:6379", Some(0)),
        ("redis://one:6379/", Some(0)),
        ("redis://***@one:6379/3", Some(3)),
        ("redis-sentinel://one,two/2***", None),
        ("unset", None),
    ] {
        assert_eq!(database(url), number, "{url}");
    }
}
