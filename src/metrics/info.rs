//! Series whose labels are what they say.

use std::time::Duration;

use ::metrics::Label as Tag;

use super::cells::Metric;
use super::fold::Fold;
use super::series::{Label, Series, SeriesKind};

/// Always 1; its labels are what it says.
#[derive(Debug, Default)]
pub(crate) struct BuildInfo;

impl Metric for BuildInfo {
    const KIND: SeriesKind = SeriesKind::Gauge;
    const LABELS: &'static [Label] = &[Label {
        name: "version",
        values: &[],
    }];

    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>) {
        let version = Tag::from_static_parts("version", env!("CARGO_PKG_VERSION"));
        fold.gauge_latest(series, vec![version], 1.0);
    }
}

/// The settings of an instance that dashboards and alerts need to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct InstanceInfo {
    /// As the log and the program `unstale` show it.
    pub(crate) id: String,
    pub(crate) fleet: String,
    pub(crate) bus: &'static str,
    /// The URL without its secrets, `none` or `unset`.
    pub(crate) redis: String,
    pub(crate) lanes: u32,
    pub(crate) journal: u32,
    pub(crate) verify_interval: Duration,
    pub(crate) member_timeout: Duration,
    /// Whether events are signed.
    pub(crate) signed: bool,
}

impl Metric for InstanceInfo {
    const KIND: SeriesKind = SeriesKind::Gauge;
    const LABELS: &'static [Label] = &[
        Label {
            name: "id",
            values: &[],
        },
        Label {
            name: "fleet",
            values: &[],
        },
        Label {
            name: "bus",
            values: &["local", "redis"],
        },
        Label {
            name: "redis",
            values: &[],
        },
        Label {
            name: "lanes",
            values: &[],
        },
        Label {
            name: "journal",
            values: &[],
        },
        Label {
            name: "verify_interval",
            values: &[],
        },
        Label {
            name: "member_timeout",
            values: &[],
        },
        Label {
            name: "signed",
            values: &["yes", "no"],
        },
    ];

    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>) {
        let values = [
            self.id.clone(),
            self.fleet.clone(),
            self.bus.to_owned(),
            self.redis.clone(),
            self.lanes.to_string(),
            self.journal.to_string(),
            humantime::format_duration(self.verify_interval).to_string(),
            humantime::format_duration(self.member_timeout).to_string(),
            if self.signed { "yes" } else { "no" }.to_owned(),
        ];
        let labels = Self::LABELS.iter().zip(values);
        let tags = labels
            .map(|(label, value)| Tag::new(label.name, value))
            .collect();
        fold.gauge_latest(series, tags, 1.0);
    }
}
