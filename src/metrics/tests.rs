use std::collections::BTreeSet;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::*;

mod exposition;

use exposition::Families;

const CACHE: CacheInfo = CacheInfo {
    ttl: Duration::from_secs(60),
    max_staleness: None,
    negative_ttl: Duration::from_millis(2500),
    capacity: 10_000,
};

fn info() -> InstanceInfo {
    InstanceInfo {
        namespace: "shop \"eu\"".to_owned(),
        lanes: 2,
        journal: 4096,
        verify_interval: Duration::from_millis(500),
        member_timeout: Duration::from_secs(5),
    }
}

/// A recorder as a program would install it.
fn recorder() -> PrometheusRecorder {
    set_buckets(PrometheusBuilder::new())
        .unwrap()
        .build_recorder()
}

fn read(recorder: &PrometheusRecorder) -> Families {
    exposition::parse(&recorder.handle().render()).unwrap()
}

/// The sample of this name with all of these labels.
fn value(families: &Families, name: &str, labels: &[(&str, &str)]) -> f64 {
    let matches = |sample: &&exposition::Sample| {
        sample.name == name
            && labels
                .iter()
                .all(|(label, value)| sample.labels.get(*label).is_some_and(|v| v == value))
    };
    let samples = || families.values().flat_map(|family| &family.samples);
    let found: Vec<_> = samples().filter(matches).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
    found[0].value
}

#[test]
fn every_series_is_there_from_the_first_fold_on() {
    let metrics = Metrics::new(info());
    metrics.cache(
        "accounts",
        CacheInfo {
            ttl: Duration::ZERO,
            negative_ttl: Duration::ZERO,
            capacity: 0,
            ..CACHE
        },
    );
    let recorder = recorder();
    metrics.fold_into(&recorder);
    let families = read(&recorder);

    let described: BTreeSet<&str> = describe().iter().map(Series::name).collect();
    assert_eq!(described.len(), describe().len(), "names are unique");
    assert_eq!(
        families.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        described
    );
    for series in describe() {
        let family = &families[series.name()];
        assert_eq!(family.help, series.help());
        assert_eq!(family.kind, format!("{:?}", series.kind()).to_lowercase());
        let labels: BTreeSet<&str> = series.labels().map(|label| label.name).collect();
        for sample in &family.samples {
            let there = sample
                .labels
                .keys()
                .map(String::as_str)
                .filter(|label| *label != "le");
            assert_eq!(there.collect::<BTreeSet<_>>(), labels, "{sample:?}");
            let expected = if series.name().ends_with("_info") {
                1.0
            } else {
                0.0
            };
            assert_eq!(sample.value, expected, "{sample:?}");
        }
        if series.kind() == SeriesKind::Counter {
            let combinations: usize = series
                .labels()
                .map(|label| label.values.len().max(1))
                .product();
            assert_eq!(family.samples.len(), combinations, "{}", series.name());
        }
    }
    assert_eq!(
        families["unstale_verified_age_seconds"].samples.len(),
        2,
        "one for each lane"
    );
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        value(&families, "unstale_build_info", &[("version", version)]),
        1.0
    );
    let settings = [
        ("namespace", "shop \"eu\""),
        ("lanes", "2"),
        ("journal", "4096"),
        ("verify_interval", "500ms"),
        ("member_timeout", "5s"),
    ];
    assert_eq!(value(&families, "unstale_settings_info", &settings), 1.0);
}

#[test]
fn names_follow_the_conventions() {
    for series in describe() {
        let name = series.name();
        let snake = |char: char| char.is_ascii_lowercase() || char == '_';
        assert!(
            name.starts_with("unstale_") && name.chars().all(snake),
            "{name}"
        );
        assert_eq!(
            name.ends_with("_total"),
            series.kind() == SeriesKind::Counter,
            "{name}"
        );
        for reserved in ["_sum", "_count", "_bucket"] {
            assert!(!name.ends_with(reserved), "{name}");
        }
        for unit in [
            "_ms", "_us", "_ns", "_millis", "_micros", "_nanos", "_kb", "_mb", "_minutes",
            "_percent",
        ] {
            assert!(
                !format!("{name}_").contains(&format!("{unit}_")),
                "{name} is not in a base unit"
            );
        }
        let histogram = series.kind() == SeriesKind::Histogram;
        assert_eq!(!series.buckets().is_empty(), histogram, "{name}");
        assert!(!histogram || name.ends_with("_seconds"), "{name}");
        assert!(series.buckets().is_sorted_by(|a, b| a < b), "{name}");
        assert!(series.help().ends_with('.'), "{name}");
        for label in series.labels() {
            assert!(
                label.name.chars().all(snake) && label.name != "le",
                "{name} {label:?}"
            );
            let values: BTreeSet<_> = label.values.iter().collect();
            assert_eq!(values.len(), label.values.len(), "{name} {label:?}");
            assert!(
                label.values.iter().all(|value| value.chars().all(snake)),
                "{name} {label:?}"
            );
        }
    }
}

#[test]
fn a_recommended_naming_scheme_does_not_rename_anything() {
    let metrics = Metrics::new(info());
    metrics.cache("accounts", CACHE);
    let builder = set_buckets(PrometheusBuilder::new().with_recommended_naming(true)).unwrap();
    let recorder = builder.build_recorder();
    metrics.fold_into(&recorder);
    let text = recorder.handle().render();
    for series in describe() {
        assert!(
            text.contains(&format!("# TYPE {} ", series.name())),
            "{}",
            series.name()
        );
    }
}

#[test]
fn counters_fold_exactly_once() {
    let metrics = Metrics::new(info());
    let cache = metrics.cache("accounts", CACHE);
    let recorder = recorder();
    for round in 1..=3_u64 {
        metrics.gaps[Gap::Lagged].inc();
        metrics.traffic().sent(Kind::Verify, 100);
        metrics.traffic().received(Kind::Connect, 7);
        cache.invalidations[(Op::Tag, From::Remote)].add(5);
        cache.hit(3_000_000);
        metrics.fold_into(&recorder);
        metrics.fold_into(&recorder);
        let families = read(&recorder);
        let times = |n: u64| (round * n) as f64;
        assert_eq!(
            value(&families, "unstale_gaps_total", &[("cause", "lagged")]),
            times(1)
        );
        assert_eq!(
            value(
                &families,
                "unstale_bus_sent_bytes_total",
                &[("kind", "verify")]
            ),
            times(100)
        );
        assert_eq!(
            value(
                &families,
                "unstale_bus_received_bytes_total",
                &[("kind", "connect")]
            ),
            times(7)
        );
        let labels = [("cache", "accounts"), ("kind", "tag"), ("from", "remote")];
        assert_eq!(
            value(&families, "unstale_invalidations_total", &labels),
            times(5)
        );
        assert_eq!(
            value(&families, "unstale_hits_total", &[("cache", "accounts")]),
            times(1)
        );
        assert_eq!(
            value(&families, "unstale_hit_age_seconds_count", &[]),
            times(1)
        );
    }
    // Nothing ended up under another value of the same label.
    let families = read(&recorder);
    let sum = |name: &str| {
        families[name]
            .samples
            .iter()
            .map(|sample| sample.value)
            .sum::<f64>()
    };
    assert_eq!(sum("unstale_gaps_total"), 3.0);
    assert_eq!(sum("unstale_invalidations_total"), 15.0);
    assert_eq!(
        (
            metrics.gaps.total(),
            cache.invalidations.total(),
            cache.hits()
        ),
        (3, 15, 3)
    );
}

#[test]
fn every_value_of_a_label_has_a_place_of_its_own() {
    let family = Family::<(Op, From)>::default();
    let mut expected = Vec::new();
    for (op, kind) in [(Op::Key, "key"), (Op::Tag, "tag"), (Op::Cache, "cache")] {
        for (from, name) in [(From::Local, "local"), (From::Remote, "remote")] {
            let count = expected.len() as u64 + 1;
            family[(op, from)].add(count);
            expected.push((kind, name, count));
        }
    }
    let metrics = Metrics::new(info());
    let cache = metrics.cache("accounts", CACHE);
    let recorder = recorder();
    for (op, from) in [(Op::Key, From::Local), (Op::Cache, From::Remote)] {
        cache.invalidations[(op, from)].add(family[(op, from)].get());
    }
    metrics.fold_into(&recorder);
    let families = read(&recorder);
    for (kind, from, count) in expected {
        let added = matches!((kind, from), ("key", "local") | ("cache", "remote"));
        let expected = if added { count as f64 } else { 0.0 };
        let labels = [("kind", kind), ("from", from)];
        assert_eq!(
            value(&families, "unstale_invalidations_total", &labels),
            expected
        );
    }
}

#[test]
fn instances_of_a_process_add_up_and_take_their_share_back() {
    let recorder = recorder();
    let instances: Vec<_> = (0..2).map(|_| Metrics::new(info())).collect();
    let caches: Vec<_> = instances
        .iter()
        .map(|metrics| metrics.cache("accounts", CACHE))
        .collect();
    for (metrics, cache) in instances.iter().zip(&caches) {
        metrics.published.add(10);
        metrics.connected.set(1);
        metrics.verified_age[1].set(Duration::from_millis(250));
        cache.entries.set(100);
        cache.loads_in_flight.inc();
        cache.hit(0);
        metrics.fold_into(&recorder);
    }
    caches[0].entries.set(30);
    caches[1].loads_in_flight.dec();
    instances
        .iter()
        .for_each(|metrics| metrics.fold_into(&recorder));
    let families = read(&recorder);
    let one = |name: &str| value(&families, name, &[]);
    assert_eq!(one("unstale_events_published_total"), 20.0);
    assert_eq!(one("unstale_connected"), 2.0);
    assert_eq!(one("unstale_entries"), 130.0);
    assert_eq!(one("unstale_loads_in_flight"), 1.0);
    assert_eq!(one("unstale_capacity_entries"), 20_000.0);
    assert_eq!(one("unstale_hits_total"), 2.0);
    assert_eq!(
        one("unstale_ttl_seconds"),
        60.0,
        "what cannot be added up is set"
    );
    assert_eq!(one("unstale_negative_ttl_seconds"), 2.5);
    assert_eq!(
        value(&families, "unstale_verified_age_seconds", &[("lane", "1")]),
        0.25
    );

    ::metrics::with_local_recorder(&recorder, || instances[0].close());
    // A closed instance still counts what goes on, and speaks for nobody else any more.
    instances[0].published.inc();
    instances[0].verified_age[1].set(Duration::from_secs(9));
    caches[0].entries.set(7);
    instances[0].fold_into(&recorder);
    let families = read(&recorder);
    let one = |name: &str| value(&families, name, &[]);
    assert_eq!(one("unstale_events_published_total"), 21.0);
    assert_eq!(one("unstale_connected"), 1.0);
    assert_eq!(one("unstale_entries"), 100.0);
    assert_eq!(one("unstale_capacity_entries"), 10_000.0);
    assert_eq!(
        value(&families, "unstale_verified_age_seconds", &[("lane", "1")]),
        0.25
    );

    ::metrics::with_local_recorder(&recorder, || drop(instances));
    let families = read(&recorder);
    assert_eq!(
        value(&families, "unstale_entries", &[]),
        0.0,
        "dropping closes"
    );
    assert_eq!(
        value(&families, "unstale_events_published_total", &[]),
        21.0
    );
}

#[test]
fn a_recorder_installed_late_gets_everything_since_the_start() {
    let metrics = Metrics::new(info());
    let cache = metrics.cache("accounts", CACHE);
    cache.entries.set(50);
    cache.evictions.add(3);
    metrics.propagation.observe(Duration::from_micros(300));
    // Nobody listens yet.
    metrics.fold();
    metrics.fold();

    let recorder = recorder();
    ::metrics::with_local_recorder(&recorder, || metrics.fold());
    cache.entries.set(49);
    cache.evictions.add(1);
    ::metrics::with_local_recorder(&recorder, || metrics.fold());
    let late = read(&recorder);
    let own = exposition::parse(&metrics.text()).unwrap();
    for families in [&late, &own] {
        assert_eq!(value(families, "unstale_entries", &[]), 49.0);
        assert_eq!(value(families, "unstale_evictions_total", &[]), 4.0);
        assert_eq!(
            value(families, "unstale_propagation_seconds_count", &[]),
            1.0
        );
        assert_eq!(
            value(
                families,
                "unstale_propagation_seconds_bucket",
                &[("le", "0.0002")]
            ),
            0.0
        );
        assert_eq!(
            value(
                families,
                "unstale_propagation_seconds_bucket",
                &[("le", "0.0005")]
            ),
            1.0
        );
    }
    assert_eq!(
        late.keys().collect::<Vec<_>>(),
        own.keys().collect::<Vec<_>>()
    );
}

#[test]
fn a_cache_that_is_built_later_or_twice_keeps_its_numbers() {
    let metrics = Metrics::new(info());
    let accounts = metrics.cache("accounts", CACHE);
    accounts.oversized.inc();
    metrics.text();
    let orders = metrics.cache(
        "orders",
        CacheInfo {
            max_staleness: Some(Duration::from_secs(2)),
            ..CACHE
        },
    );
    let again = metrics.cache(
        "accounts",
        CacheInfo {
            capacity: 5,
            ..CACHE
        },
    );
    again.oversized.inc();
    orders.misses[Miss::Fenced].add(4);
    let families = exposition::parse(&metrics.text()).unwrap();
    let one = |name: &str, cache| value(&families, name, &[("cache", cache)]);
    assert_eq!(one("unstale_oversized_total", "accounts"), 2.0);
    assert_eq!(one("unstale_oversized_total", "orders"), 0.0);
    assert_eq!(one("unstale_capacity_entries", "accounts"), 5.0);
    assert_eq!(one("unstale_max_staleness_seconds", "accounts"), 0.0);
    assert_eq!(one("unstale_max_staleness_seconds", "orders"), 2.0);
    let labels = [("cache", "orders"), ("cause", "fenced")];
    assert_eq!(value(&families, "unstale_misses_total", &labels), 4.0);
}

#[test]
fn every_observation_lands_in_its_bucket() {
    let metrics = Metrics::new(info());
    let cache = metrics.cache("accounts", CACHE);
    // One on every bound and one above the last: each bucket gets exactly one.
    for bound in describe()
        .iter()
        .find(|s| s.name == "unstale_load_duration_seconds")
        .unwrap()
        .bounds
    {
        cache.load_duration.observe(Duration::from_nanos(*bound));
        metrics.publish.observe(Duration::from_nanos(*bound));
    }
    cache.load_duration.observe(Duration::from_secs(3600));
    metrics.publish.observe(Duration::MAX);
    assert_eq!(metrics.publish.count(), 17);
    for exponent in 0..24 {
        cache.hit((4 << exponent) * 1_000_000);
    }
    cache.expiry_overage.observe(Duration::from_secs(1));
    let families = exposition::parse(&metrics.text()).unwrap();
    for name in [
        "unstale_load_duration_seconds",
        "unstale_publish_seconds",
        "unstale_hit_age_seconds",
    ] {
        let bucket = format!("{name}_bucket");
        let all = families[name]
            .samples
            .iter()
            .filter(|sample| sample.name == bucket);
        let counts: Vec<f64> = all.map(|sample| sample.value).collect();
        let below_last = counts.len() - 1;
        let expected: Vec<f64> = (1..=below_last).map(|count| count as f64).collect();
        assert_eq!(counts[..below_last], expected, "{name}");
    }
    assert_eq!(value(&families, "unstale_hit_age_seconds_count", &[]), 24.0);
    assert_eq!(
        value(
            &families,
            "unstale_expiry_overage_seconds_bucket",
            &[("le", "0.64")]
        ),
        0.0
    );
    assert_eq!(
        value(
            &families,
            "unstale_expiry_overage_seconds_bucket",
            &[("le", "2.56")]
        ),
        1.0
    );
    let mean = value(&families, "unstale_expiry_overage_seconds_sum", &[]);
    assert!((0.64..2.56).contains(&mean), "{mean}");
}

#[test]
fn a_busy_histogram_is_sampled_in_proportion_and_keeps_its_tail() {
    const FOLDS: u64 = 200;
    let metrics = Metrics::new(info());
    let cache = metrics.cache("accounts", CACHE);
    let recorder = recorder();
    let count = |families: &Families| value(families, "unstale_hit_age_seconds_count", &[]);
    let mut before = 0.0;
    for _ in 0..FOLDS {
        // 75 % young, 25 % older, and one in 20,000 very old.
        (0..14_999).for_each(|_| cache.hit(1));
        (0..5_000).for_each(|_| cache.hit(10_000_000));
        cache.hit(u64::MAX);
        metrics.fold_into(&recorder);
        let now = count(&read(&recorder));
        assert!(now - before <= fold::MAX_SAMPLES as f64, "{}", now - before);
        before = now;
    }
    let families = read(&recorder);
    let up_to = |le: &str| value(&families, "unstale_hit_age_seconds_bucket", &[("le", le)]);
    let share = up_to("0.004") / count(&families);
    assert!((share - 0.75).abs() < 0.001, "{share}");
    let oldest = count(&families) - up_to("2097.152");
    assert!(
        (8.0..=11.0).contains(&oldest),
        "200 of 4,000,000 at a twentieth: {oldest}"
    );
    assert_eq!(
        value(&families, "unstale_hits_total", &[]),
        (FOLDS * 20_000) as f64
    );
}

#[test]
fn amounts_never_fall_below_nothing() {
    let gauge = Gauge::default();
    gauge.dec();
    assert_eq!(gauge.get(), 0);
    gauge.inc();
    gauge.inc();
    assert_eq!(gauge.get(), 1);
    gauge.set(u64::MAX);
    assert_eq!(gauge.get(), i64::MAX as u64);
}

#[test]
fn folds_that_overlap_tell_nothing_twice() {
    let metrics = Metrics::new(info());
    let recorder = recorder();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    metrics.received.inc();
                    metrics.fold_into(&recorder);
                }
            });
        }
    });
    metrics.fold_into(&recorder);
    assert_eq!(
        value(&read(&recorder), "unstale_events_received_total", &[]),
        800.0
    );
}
