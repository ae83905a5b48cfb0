//! A program may install its recorder at any time.

use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use unstale::{Instance, Settings};

/// Folds happen once a second; the rest is for a slow machine.
const SOON: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_recorder_installed_late_gets_every_series_and_all_that_was_counted() {
    let instance = Instance::start(Settings::default()).await.unwrap();
    let cache = instance
        .cache::<u64, u64>("recorded_late")
        .source("shop")
        .loader(|key: u64| async move { Ok(key) })
        .build()
        .unwrap();
    for _ in 0..5 {
        cache.get(&1).await.unwrap();
    }

    let mut builder = PrometheusBuilder::new();
    for (name, bounds) in unstale::metrics::histogram_buckets() {
        let histogram = Matcher::Full(name.to_owned());
        builder = builder.set_buckets_for_metric(histogram, bounds).unwrap();
    }
    let handle = builder.install_recorder().unwrap();
    let hits = "unstale_hits_total{cache=\"recorded_late\"} 4";
    let deadline = Instant::now() + SOON;
    while !handle.render().contains(hits) {
        assert!(Instant::now() < deadline, "{}", handle.render());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let text = handle.render();
    // Those of a relay are there where one runs.
    let described = unstale::metrics::describe().iter();
    for series in described.filter(|series| !series.name().starts_with("unstale_relay_")) {
        assert!(text.contains(series.name()), "{} is missing", series.name());
    }
    assert!(
        text.contains("unstale_load_duration_seconds_bucket"),
        "histograms have buckets"
    );
    assert!(
        instance.metrics_text().contains(hits),
        "the crate's own recorder as well"
    );
}
