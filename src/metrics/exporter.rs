//! The crate's own Prometheus recorder.

use std::collections::BTreeSet;

use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::table::histogram_buckets;

/// Names of caches that are gone whose series the recorder may hold, at least; as many as there are caches, if
/// those are more. It cannot forget series, so beyond that another one takes its place.
const GONE: usize = 64;

/// A recorder that is never installed, so that it works beside any other and with any number of
/// instances.
#[derive(Debug)]
pub(super) struct Own {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// Caches that are gone, and whose series it still has.
    gone: BTreeSet<String>,
}

/// What the recorder says, without the caches that are gone.
pub(super) struct Page {
    handle: PrometheusHandle,
    gone: BTreeSet<String>,
}

impl Page {
    pub(super) fn render(self) -> String {
        let text = self.handle.render();
        if self.gone.is_empty() {
            return text;
        }
        let is_there = |line: &&str| {
            let name = line
                .split_once("cache=\"")
                .and_then(|(_, rest)| rest.split_once('"'));
            name.is_none_or(|(name, _)| line.starts_with('#') || !self.gone.contains(name))
        };
        text.split_inclusive('\n').filter(is_there).collect()
    }
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
        Self {
            recorder,
            handle,
            gone: BTreeSet::new(),
        }
    }

    pub(super) fn recorder(&self) -> &PrometheusRecorder {
        &self.recorder
    }

    /// Frees the samples that histograms collected.
    pub(super) fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    pub(super) fn page(&self) -> Page {
        Page {
            handle: self.handle.clone(),
            gone: self.gone.clone(),
        }
    }

    /// Notes which caches are there and which are gone; whether another recorder is due.
    pub(super) fn note<'a>(&mut self, caches: impl Iterator<Item = (&'a str, bool)>) -> bool {
        let (mut there, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for (name, is_there) in caches {
            if is_there { &mut there } else { &mut gone }.insert(name);
        }
        self.gone.extend(gone.into_iter().map(str::to_owned));
        self.gone.retain(|name| !there.contains(name.as_str()));
        self.gone.len() > GONE.max(there.len())
    }
}
