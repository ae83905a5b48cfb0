//! What the instances say of themselves, read from their metrics as Prometheus would.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use unstale::InstanceState;

use super::fleet::{Fleet, Link, Member};

/// One instance's counters since its start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) coalesced: u64,
    pub(crate) published: u64,
    pub(crate) received: u64,
    pub(crate) applied: u64,
    pub(crate) gaps: u64,
    pub(crate) repaired: u64,
    /// All but the first one, at the start, when nothing was cached.
    pub(crate) fences: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    /// By the upper bound in nanoseconds, cumulative.
    propagation: BTreeMap<u64, u64>,
}

impl Counters {
    pub(crate) fn of(member: &Member) -> Self {
        let stats = member.cache.stats();
        let text = member.instance.metrics_text();
        let sum = |name: &str| series(&text, name).map(|(_, value)| value as u64).sum();
        let labelled = |name: &str, label: &str| {
            let of_label = series(&text, name).find(|(labels, _)| labels.contains(label));
            of_label.map_or(0, |(_, value)| value as u64)
        };
        let adopted = labelled("unstale_fences_total", "cause=\"adopted\"");
        Self {
            hits: stats.hits,
            misses: stats.misses,
            coalesced: stats.coalesced,
            published: sum("unstale_events_published_total"),
            received: sum("unstale_events_received_total"),
            applied: sum("unstale_events_applied_total"),
            gaps: sum("unstale_gaps_total"),
            repaired: labelled("unstale_repairs_total", "outcome=\"repaired\""),
            fences: sum("unstale_fences_total").saturating_sub(adopted),
            sent_bytes: sum("unstale_bus_sent_bytes_total"),
            received_bytes: sum("unstale_bus_received_bytes_total"),
            propagation: buckets(&text, "unstale_propagation_seconds_bucket"),
        }
    }

    pub(crate) fn reads(&self) -> u64 {
        self.hits + self.misses + self.coalesced
    }

    /// The sum over all instances.
    pub(crate) fn sum(all: &[Self]) -> Self {
        all.iter().fold(Self::default(), |mut sum, one| {
            for (to, from) in [
                (&mut sum.hits, one.hits),
                (&mut sum.misses, one.misses),
                (&mut sum.coalesced, one.coalesced),
                (&mut sum.published, one.published),
                (&mut sum.received, one.received),
                (&mut sum.applied, one.applied),
                (&mut sum.gaps, one.gaps),
                (&mut sum.repaired, one.repaired),
                (&mut sum.fences, one.fences),
                (&mut sum.sent_bytes, one.sent_bytes),
                (&mut sum.received_bytes, one.received_bytes),
            ] {
                *to += from;
            }
            for (bound, count) in &one.propagation {
                *sum.propagation.entry(*bound).or_default() += count;
            }
            sum
        })
    }

    /// How long this part of the own events took to come back, at most.
    pub(crate) fn propagation(&self, part: f64) -> Duration {
        Duration::from_nanos(quantile(&self.propagation, part))
    }
}

/// The series of a metric: their labels, as they are written, and their values.
fn series<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let of_this_name = labels.is_empty() || labels.starts_with('{');
        Some((labels, value.parse().ok()?)).filter(|_| of_this_name)
    })
}

fn buckets(text: &str, name: &str) -> BTreeMap<u64, u64> {
    let bound = |labels: &str| {
        let (_, rest) = labels.split_once("le=\"")?;
        let seconds: f64 = rest.split_once('"')?.0.parse().ok()?;
        Some((seconds * 1e9).round() as u64) // +Inf saturates
    };
    series(text, name)
        .filter_map(|(labels, count)| Some((bound(labels)?, count as u64)))
        .collect()
}

/// Prometheus' `histogram_quantile`: between a bucket's bounds the counts rise evenly.
fn quantile(buckets: &BTreeMap<u64, u64>, part: f64) -> u64 {
    let total = buckets.values().last().copied().unwrap_or(0);
    let rank = total as f64 * part;
    let (mut below, mut counted) = (0, 0);
    for (bound, count) in buckets {
        if total > 0 && *count as f64 >= rank {
            if *bound == u64::MAX {
                break;
            }
            let inside = (rank - counted as f64) / (count - counted).max(1) as f64;
            return below + ((bound - below) as f64 * inside) as u64;
        }
        (below, counted) = (*bound, *count);
    }
    below
}

/// One instance, lately.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) state: InstanceState,
    pub(crate) link: Link,
    pub(crate) hits: u64,
    pub(crate) lookups: u64,
    pub(crate) reads_per_second: f64,
    pub(crate) events_per_second: f64,
    pub(crate) verified_age: Option<Duration>,
    pub(crate) counters: Counters,
}

/// What "lately" means.
const LATELY: Duration = Duration::from_secs(1);

/// Looks at all instances, and at what has changed lately.
#[derive(Debug, Default)]
pub(crate) struct Meters(VecDeque<(Duration, Vec<Counters>)>);

impl Meters {
    pub(crate) fn look(&mut self, fleet: &Fleet, at: Duration) -> Vec<Row> {
        let now: Vec<Counters> = fleet.members.iter().map(Counters::of).collect();
        self.0.push_back((at, now.clone()));
        while self.0.get(1).is_some_and(|(then, _)| *then + LATELY <= at) {
            self.0.pop_front();
        }
        let (then, before) = &self.0[0];
        let seconds = (at - *then).as_secs_f64().max(0.001);
        let members = fleet.members.iter().zip(now).enumerate();
        members
            .map(|(number, (member, counters))| {
                let before = &before[number];
                let lookups = counters.reads() - before.reads();
                let health = member.instance.health();
                Row {
                    state: health.state,
                    link: member.link,
                    hits: counters.hits - before.hits,
                    lookups,
                    reads_per_second: lookups as f64 / seconds,
                    events_per_second: (counters.received - before.received) as f64 / seconds,
                    verified_age: health.verified_age.first().copied().flatten(),
                    counters,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP unstale_gaps_total Times\n\
unstale_gaps_total{cause=\"sequence\"} 2\n\
unstale_gaps_total{cause=\"silent\"} 3\n\
unstale_gaps_total_more 7\n\
unstale_propagation_seconds_bucket{le=\"0.001\"} 5\n\
unstale_propagation_seconds_bucket{le=\"0.002\"} 10\n\
unstale_propagation_seconds_bucket{le=\"+Inf\"} 10\n";

    #[test]
    fn series_are_distinguished_from_those_that_only_begin_alike() {
        let gaps: Vec<_> = series(TEXT, "unstale_gaps_total").collect();
        assert_eq!(
            gaps,
            [("{cause=\"sequence\"}", 2.0), ("{cause=\"silent\"}", 3.0)]
        );
    }

    #[test]
    fn quantiles_lie_between_the_bounds_of_their_bucket() {
        let mut buckets = buckets(TEXT, "unstale_propagation_seconds_bucket");
        assert_eq!(quantile(&buckets, 0.5), 1_000_000);
        assert_eq!(quantile(&buckets, 0.75), 1_500_000);
        assert_eq!(quantile(&buckets, 1.0), 2_000_000);
        buckets.insert(u64::MAX, 20);
        assert_eq!(
            quantile(&buckets, 0.9),
            2_000_000,
            "at least the last bound"
        );
        assert_eq!(quantile(&BTreeMap::new(), 0.5), 0);
    }
}
