//! The crate's own Prometheus recorder.

use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::table::histogram_buckets;

/// A recorder that is never installed, so that it works beside any other and with any number of
/// instances.
#[derive(Debug)]
pub(super) struct Own {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Own {
    pub(super) fn new() -> Self {
        // Only an empty list of buckets could fail; then histograms would be summaries.
        let mut histograms = histogram_buckets();
        let builder = histograms.try_fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
            builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)
        });
        let recorder = builder.unwrap_or_default().build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle }
    }

    pub(super) fn recorder(&self) -> &PrometheusRecorder {
        &self.recorder
    }

    /// Frees the samples that histograms collected.
    pub(super) fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    pub(super) fn render(&self) -> String {
        self.handle.render()
    }
}
