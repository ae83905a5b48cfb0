//! What is reported to a recorder, and how often.

use super::*;

#[test]
fn counters_fold_exactly_once() {
    let metrics = Metrics::new(info());
    let cache = metrics.cache("accounts", CACHE);
    let recorder = recorder();
    for round in 1..=3_u64 {
        metrics.gaps[Gap::Lagged].inc();
        metrics.traffic().sent(Kind::Verify, 100);
        metrics.traffic().received(Kind::Connect, 7);
        cache.invalidations[(Scope::Tag, Side::Remote)].add(5);
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
    // A closed instance still counts what goes on, and reports for itself alone.
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
    // No recorder is installed yet.
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

#[test]
fn a_relay_has_series_of_its_source_and_an_instance_without_one_has_none() {
    let metrics = Metrics::new(info());
    let recorder = recorder();
    metrics.received.add(2);
    metrics.fold_into(&recorder);
    assert!(!recorder.handle().render().contains("unstale_relay_"));
    assert!(!recorder.handle().render().contains("unstale_source_"));
    let shop = metrics.relay("shop");
    let stock = metrics.relay("stock");
    metrics.relay("shop").commits.add(3);
    shop.collapses[RelayCollapse::Truncate].inc();
    stock.state.set(RelayState::Waiting);
    stock.state.set(RelayState::Leading);
    for _ in 0..2 {
        metrics.received.add(2);
        metrics.fold_into(&recorder);
    }
    let families = read(&recorder);
    let of = |name: &str, labels: &[(&str, &str)]| value(&families, name, labels);
    assert_eq!(of("unstale_events_received_total", &[]), 6.0);
    assert_eq!(
        of("unstale_relay_commits_total", &[("source", "shop")]),
        3.0
    );
    assert_eq!(
        of("unstale_relay_commits_total", &[("source", "stock")]),
        0.0
    );
    let truncated = [("source", "shop"), ("cause", "truncate")];
    assert_eq!(of("unstale_relay_collapses_total", &truncated), 1.0);
    for (source, state, expected) in [
        ("stock", "leading", 1.0),
        ("stock", "waiting", 0.0),
        ("stock", "opening", 0.0),
        ("shop", "waiting", 0.0),
    ] {
        let labels = [("source", source), ("state", state)];
        assert_eq!(of("unstale_relay_state", &labels), expected);
    }
}

#[test]
fn what_a_relay_lags_behind_is_measured_from_what_was_proven_last() {
    let metrics = Metrics::new(info());
    let relay = metrics.relay("shop");
    let second = 1_000_000_000;
    let lag = || {
        let families = exposition::parse(&metrics.text()).unwrap();
        value(&families, "unstale_relay_lag_seconds", &[])
    };
    metrics.measure_relays(9 * second);
    assert_eq!(lag(), 0.0, "it does not lead");
    relay.opens(10 * second);
    relay.opens(11 * second);
    metrics.measure_relays(12 * second);
    assert_eq!(lag(), 2.0);
    relay.proven(12 * second);
    metrics.measure_relays(15 * second);
    assert_eq!(lag(), 3.0);
    relay.waits();
    assert_eq!(lag(), 0.0);
    metrics.measure_relays(20 * second);
    assert_eq!(lag(), 0.0);
}
