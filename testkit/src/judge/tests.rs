//! The figures are right: a judge that cannot count finds nothing.

use std::time::{Duration, Instant};

use super::report::*;

const MS: Duration = Duration::from_millis(1);

fn read(start: Instant, version: Result<u64, String>, served: Served) -> Read {
    Read {
        start,
        latency: 2 * MS,
        control: MS,
        instance: 0,
        account: 0,
        version,
        served,
    }
}

fn acks(start: Instant) -> Vec<Ack> {
    vec![
        Ack {
            version: 1,
            at: start,
        },
        Ack {
            version: 2,
            at: start + 100 * MS,
        },
        // 3 had no answer.
        Ack {
            version: 4,
            at: start + 200 * MS,
        },
    ]
}

#[test]
fn staleness_counts_from_the_first_write_that_a_read_should_have_shown() {
    let start = Instant::now();
    let stale = |at: u32, version| {
        staleness(
            &acks(start),
            &read(start + at * MS, Ok(version), Served::Hit),
        )
    };
    assert_eq!(stale(50, 1), None);
    assert_eq!(stale(99, 1), None, "2 was acknowledged later");
    assert_eq!(stale(100, 1), None, "at the same time is not before");
    assert_eq!(stale(130, 1), Some(30 * MS));
    assert_eq!(stale(300, 1), Some(200 * MS), "2 replaced it, not 4");
    assert_eq!(stale(300, 2), Some(100 * MS));
    assert_eq!(
        stale(300, 3),
        Some(100 * MS),
        "an unanswered write's version"
    );
    assert_eq!(stale(300, 4), None);
    assert_eq!(stale(10, 5), None, "newer than acknowledged is never stale");
}

#[test]
fn a_phase_counts_its_reads_and_writes() {
    let start = Instant::now();
    let reads = [
        read(start + 10 * MS, Ok(1), Served::Hit),
        read(start + 150 * MS, Ok(1), Served::Hit),
        read(start + 250 * MS, Ok(4), Served::Miss),
        read(start + 260 * MS, Err("500".to_owned()), Served::Unknown),
        // Long after the last write: it says nothing about invalidation.
        read(start + 200 * MS + 2 * EXPOSURE, Ok(4), Served::Hit),
    ];
    let end = reads[4].start + 2 * MS;
    let phase = Phase::new(
        "p",
        (start, end),
        2,
        &reads,
        &[acks(start)],
        Writes::default(),
    );
    assert_eq!(
        (
            phase.reads(),
            phase.failed(),
            phase.exposed,
            phase.stale.len()
        ),
        (5, 1, 3, 1)
    );
    assert_eq!(phase.staleness.max, 50 * MS);
    let share = &phase.instances[0];
    assert_eq!((share.hits, share.misses, share.coalesced), (3, 1, 0));
    assert!(
        (share.recent_hits - 1.0).abs() < f64::EPSILON,
        "only the last is recent"
    );
    assert_eq!(phase.instances[1].reads, 0);
    assert!(phase.to_string().contains("stale by 50.0ms"), "{phase}");
    assert!(phase.to_string().contains("500"), "{phase}");
}

#[test]
fn percentiles_are_nearest_ranks() {
    let values = (1..=200).map(|number| number * MS).collect();
    assert_eq!(
        Spread::of(values),
        Spread {
            p50: 100 * MS,
            p90: 180 * MS,
            p99: 198 * MS,
            max: 200 * MS
        }
    );
    let one = Spread::of(vec![MS]);
    assert_eq!(
        one,
        Spread {
            p50: MS,
            p90: MS,
            p99: MS,
            max: MS
        }
    );
    assert_eq!(Spread::of(Vec::new()), Spread::default());
}
