//! Instances, and what their metrics say.

use std::time::{Duration, Instant};

use unstale::{Instance, Settings};

/// Longest wait for something that will be so soon.
const PATIENCE: Duration = Duration::from_secs(60);

/// Defaults, on this Redis.
pub fn settings(url: &str) -> Settings {
    let mut settings = Settings::default();
    settings.redis_url = Some(url.into());
    settings
}

/// Installs a Prometheus recorder for this process, which every instance then records into.
///
/// # Panics
///
/// When called twice.
pub fn record_metrics() {
    let mut builder = metrics_exporter_prometheus::PrometheusBuilder::new();
    for (name, bounds) in unstale::metrics::histogram_buckets() {
        let histogram = metrics_exporter_prometheus::Matcher::Full(name.to_owned());
        builder = builder
            .set_buckets_for_metric(histogram, bounds)
            .expect("buckets");
    }
    builder.install_recorder().expect("the first recorder");
}

/// The sum of an instance's series whose names with their labels begin so; 0 without any.
///
/// # Panics
///
/// If a value is not a number.
pub fn metric(instance: &Instance, series: &str) -> f64 {
    let text = instance.metrics_text();
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(series)?;
        rest.starts_with(['{', ' ', ','])
            .then(|| rest.rsplit(' ').next().expect("a value"))
    });
    values
        .map(|value| value.parse::<f64>().expect("a number"))
        .sum()
}

/// Waits until it is so.
///
/// # Panics
///
/// When it takes too long: the numbers would mean nothing.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "{what} takes too long");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
