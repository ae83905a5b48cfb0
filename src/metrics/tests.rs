use std::collections::BTreeSet;

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use super::cells::{Family, Gauge};
use super::*;

mod exposition;
mod folding;
mod help;
mod histograms;

use exposition::Families;

const CACHE: CacheInfo = CacheInfo {
    ttl: Duration::from_secs(60),
    max_staleness: None,
    negative_ttl: Duration::from_millis(2500),
    capacity: 10_000,
};

fn info() -> InstanceInfo {
    InstanceInfo {
        id: "0123abcd".to_owned(),
        fleet: "shop \"eu\"".to_owned(),
        bus: "redis",
        redis: "redis://***@host:6379/2".to_owned(),
        lanes: 2,
        journal: 4096,
        verify_interval: Duration::from_millis(500),
        member_timeout: Duration::from_secs(5),
        signed: true,
    }
}

/// A recorder as a program would install it.
fn recorder() -> PrometheusRecorder {
    with_buckets(PrometheusBuilder::new()).build_recorder()
}

fn with_buckets(mut builder: PrometheusBuilder) -> PrometheusBuilder {
    for (name, bounds) in histogram_buckets() {
        let histogram = Matcher::Full(name.to_owned());
        builder = builder.set_buckets_for_metric(histogram, bounds).unwrap();
    }
    builder
}

#[test]
fn buckets_are_those_of_every_histogram_and_of_nothing_else() {
    let named: Vec<_> = histogram_buckets().collect();
    let histograms = describe()
        .iter()
        .filter(|series| series.kind() == SeriesKind::Histogram)
        .map(|series| (series.name(), series.buckets()));
    let expected: Vec<_> = histograms.collect();
    assert!(!named.is_empty());
    assert_eq!(named.len(), expected.len());
    for ((name, bounds), (series, buckets)) in named.iter().zip(&expected) {
        assert_eq!((name, bounds.to_vec()), (series, buckets.clone()));
    }
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
    metrics.relay("shop");
    metrics.source_verified_age.set("shop", Duration::ZERO);
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
        ("id", "0123abcd"),
        ("fleet", "shop \"eu\""),
        ("bus", "redis"),
        ("redis", "redis://***@host:6379/2"),
        ("lanes", "2"),
        ("journal", "4096"),
        ("verify_interval", "500ms"),
        ("member_timeout", "5s"),
        ("signed", "yes"),
    ];
    assert_eq!(value(&families, "unstale_settings_info", &settings), 1.0);
}

#[test]
fn names_follow_the_conventions() {
    for series in describe() {
        let name = series.name();
        let snake = |char: char| char.is_ascii_lowercase() || char == '_';
        let word = |char: char| snake(char) || char.is_ascii_digit();
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
                label.values.iter().all(|value| value.chars().all(word)),
                "{name} {label:?}"
            );
        }
    }
}

#[test]
fn a_recommended_naming_scheme_does_not_rename_anything() {
    let metrics = Metrics::new(info());
    metrics.cache("accounts", CACHE);
    metrics.relay("shop");
    metrics.source_verified_age.set("shop", Duration::ZERO);
    let builder = with_buckets(PrometheusBuilder::new().with_recommended_naming(true));
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
fn every_value_of_a_label_has_a_place_of_its_own() {
    let family = Family::<(Scope, Side)>::default();
    let mut expected = Vec::new();
    for (scope, kind) in [
        (Scope::Key, "key"),
        (Scope::Tag, "tag"),
        (Scope::Cache, "cache"),
    ] {
        for (side, name) in [(Side::Local, "local"), (Side::Remote, "remote")] {
            let count = expected.len() as u64 + 1;
            family[(scope, side)].add(count);
            expected.push((kind, name, count));
        }
    }
    let metrics = Metrics::new(info());
    let cache = metrics.cache("accounts", CACHE);
    let recorder = recorder();
    for (scope, side) in [(Scope::Key, Side::Local), (Scope::Cache, Side::Remote)] {
        cache.invalidations[(scope, side)].add(family[(scope, side)].get());
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
