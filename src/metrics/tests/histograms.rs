//! From observations to buckets.

use super::*;

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
