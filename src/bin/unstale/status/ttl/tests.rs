//! Answers that are known by arithmetic.

use std::collections::BTreeMap;

use super::super::scrape::parse;
use super::*;

/// One instance with a TTL of 60 s: 1,000 reads, of which 600 hit. The sample of ages says that half
/// were hit within 16.384 s and nine of ten within 32.768 s; a quarter of what had expired was missed
/// by 2.56 s or less, all of it by 40.96 s.
const ONE: &str = r#"
unstale_ttl_seconds{cache="accounts"} 60
unstale_hits_total{cache="accounts"} 600
unstale_negative_hits_total{cache="accounts"} 50
unstale_coalesced_total{cache="accounts"} 70
unstale_misses_total{cache="accounts",cause="expired"} 160
unstale_misses_total{cache="accounts",cause="cold"} 100
unstale_misses_total{cache="accounts",cause="invalidated"} 20
unstale_hit_age_seconds_bucket{cache="accounts",le="16.384"} 50
unstale_hit_age_seconds_bucket{cache="accounts",le="32.768"} 90
unstale_hit_age_seconds_bucket{cache="accounts",le="65.536"} 100
unstale_hit_age_seconds_bucket{cache="accounts",le="+Inf"} 100
unstale_expiry_overage_seconds_bucket{cache="accounts",le="2.56"} 10
unstale_expiry_overage_seconds_bucket{cache="accounts",le="10.24"} 20
unstale_expiry_overage_seconds_bucket{cache="accounts",le="40.96"} 40
unstale_expiry_overage_seconds_bucket{cache="accounts",le="+Inf"} 40
"#;

fn of(texts: &[&str]) -> Cache {
    let instances: Vec<_> = texts.iter().map(|text| parse(text)).collect();
    caches(&instances).remove("accounts").unwrap()
}

/// TTL in seconds, what it is, per mille of hits.
fn table(cache: &Cache) -> Vec<(Option<f64>, Is, f64)> {
    let rows = cache.rows().into_iter();
    rows.map(|row| {
        let ttl = row.ttl.map(|ttl| ttl.as_secs_f64());
        (ttl, row.is, (row.ratio * 1000.0).round())
    })
    .collect()
}

#[test]
fn the_answer_of_a_known_pattern_is_exact() {
    // Of 1,000 reads. Shorter: 600 * 50 % + 50, 600 * 90 % + 50. Longer: 650, and of the 160 that had
    // expired a half (80) or all, times 1.25, because 70 reads shared 280 loads. 2.56 s more is no row.
    let expected = [
        (Some(16.384), Is::AtLeast, 350.0),
        (Some(32.768), Is::AtLeast, 590.0),
        (Some(60.0), Is::Now, 650.0),
        (Some(70.24), Is::AtMost, 750.0),
        (Some(100.96), Is::AtMost, 850.0),
        (None, Is::AtMost, 850.0),
    ];
    assert_eq!(table(&of(&[ONE])), expected);
}

#[test]
fn instances_are_added_each_with_its_own_sample() {
    // The other has ten times the hits, all of them young, and a sample of two.
    let other = r#"
unstale_ttl_seconds{cache="accounts"} 60
unstale_hits_total{cache="accounts"} 9000
unstale_hit_age_seconds_bucket{cache="accounts",le="16.384"} 2
unstale_hit_age_seconds_bucket{cache="accounts",le="+Inf"} 2
"#;
    let cache = of(&[ONE, other]);
    assert_eq!((cache.instances(), cache.reads()), (2, 10_000.0));
    let rows = table(&cache);
    assert_eq!(rows[0], (Some(16.384), Is::AtLeast, 935.0));
    let now = rows.iter().find(|row| row.1 == Is::Now);
    assert_eq!(now.unwrap().2, 965.0);
}

#[test]
fn a_cache_without_reads_has_no_rows() {
    let idle = "unstale_ttl_seconds{cache=\"accounts\"} 60\n";
    assert_eq!(table(&of(&[idle])), []);
    assert_eq!(caches(&[parse("unstale_connected 1\n")]).len(), 0);
}

#[test]
fn what_is_shown_names_the_bounds_as_such() {
    let lines = of(&[ONE]).lines("accounts");
    assert_eq!(lines[0], "cache accounts: 1000 reads by 1 instance");
    assert_eq!(lines[2], "  TTL 32.8 s      at least   59.0 % hits");
    assert_eq!(lines[3], "  TTL 1m               now   65.0 % hits");
    assert_eq!(lines[4], "  TTL 1m 10s       at most   75.0 % hits");
    assert_eq!(lines[6], "  TTL none         at most   85.0 % hits");
    let json = of(&[ONE]).json("accounts");
    assert_eq!(json["hit_ratio"], 0.65);
    assert_eq!(json["other_ttls"][0]["hit_ratio_at_least"], 0.35);
    assert_eq!(json["other_ttls"][4]["hit_ratio_at_most"], 0.85);
    assert!(json["other_ttls"][4]["ttl_seconds"].is_null());
}

/// Reads of one key by a cache with this TTL: ages of its hits and overages of its expiries, then the
/// number of hits.
fn replay(reads: &[f64], ttl: f64) -> (Vec<f64>, Vec<f64>, usize) {
    let (mut ages, mut overages, mut loaded) = (Vec::new(), Vec::new(), None);
    for read in reads {
        match loaded.map(|loaded| read - loaded) {
            Some(age) if age < ttl => ages.push(age),
            Some(age) => {
                overages.push(age - ttl);
                loaded = Some(*read);
            }
            None => loaded = Some(*read),
        }
    }
    let hits = ages.len();
    (ages, overages, hits)
}

/// The bounds hold whatever the pattern of reads: each is compared with a cache that had that TTL.
#[test]
fn no_pattern_of_reads_breaks_the_bounds() {
    let mut random = fastrand::Rng::with_seed(7);
    let (mut tight, mut rows) = (0, 0);
    for _ in 0..500 {
        let mut at = 0.0;
        // Bursts and pauses of all lengths.
        let scale = [0.3, 3.0, 30.0][random.usize(..3)];
        let reads: Vec<f64> = (0..random.usize(10..200))
            .map(|_| {
                at += scale * random.f64() * if random.u8(..5) == 0 { 20.0 } else { 1.0 };
                at
            })
            .collect();
        let ttl = [5.0, 20.0, 60.0][random.usize(..3)];
        let (ages, overages, hits) = replay(&reads, ttl);
        let count = |of: &[f64], bound: f64| of.iter().filter(|x| **x <= bound).count() as f64;
        let buckets = |of: &[f64], bounds: [f64; 5]| -> BTreeMap<u64, f64> {
            let nanos = |bound: f64| Duration::from_secs_f64(bound).as_nanos() as u64;
            bounds.map(|bound| (nanos(bound), count(of, bound))).into()
        };
        let cache = Cache {
            instances: 1,
            ttl,
            hits: hits as f64,
            misses: (reads.len() - hits) as f64,
            expired: overages.len() as f64,
            young: buckets(&ages, [1.024, 4.096, 8.192, 16.384, 32.768]),
            late: buckets(&overages, [2.56, 10.24, 40.96, 163.84, 655.36]),
            ..Cache::default()
        };
        for row in cache.rows() {
            let other = row.ttl.map_or(f64::INFINITY, |ttl| ttl.as_secs_f64());
            let real = replay(&reads, other).2 as f64 / reads.len() as f64;
            let (low, high) = match row.is {
                Is::AtLeast => (row.ratio, 1.0),
                Is::Now => (row.ratio, row.ratio),
                Is::AtMost => (0.0, row.ratio),
            };
            let slack = 1e-9;
            assert!(
                low - slack <= real && real <= high + slack,
                "{row:?}: {real}"
            );
            rows += 1;
            tight += usize::from((row.ratio - real).abs() < 0.02);
        }
    }
    // They are worth something, too.
    assert!(tight * 4 > rows, "{tight} of {rows} within 2 %");
}
