//! Ten thousand made-up keys, each sent once, while good keys are used and changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use unstale::ErrorKind;

use super::fleet::Fleet;
use super::keys::ApiKeys;
use crate::support::fleet::PATIENCE;

/// As `examples/api_keys/keys.rs` sets them.
const LIMIT: u64 = 50;
const CAPACITY: u64 = 100_000;

const GUESSES: u64 = 10_000;
const SECONDS: u64 = 10;

/// Guesses that are sent together, a hundred times a second.
const BURST: u64 = GUESSES / SECONDS / 100;

/// Uses the good keys over and over until `stop` is set; returns how often.
fn use_good_keys(b: &ApiKeys, good: &[String], stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (b, good, stop) = (b.clone(), good.to_vec(), stop.clone());
    tokio::spawn(async move {
        let mut used = 0;
        let mut ticks = interval(Duration::from_millis(5));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for keys in good.chunks(10).cycle() {
            if stop.load(SeqCst) {
                break;
            }
            ticks.tick().await;
            for key in keys {
                let found = b.authenticate(key).await.expect("a good key is no error");
                assert!(found.is_some(), "a good key was refused");
                used += 1;
            }
        }
        used
    })
}

/// Makes keys on A, and uses each on B at once; returns how many.
fn make_keys(a: &ApiKeys, b: &ApiKeys, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (a, b, stop) = (a.clone(), b.clone(), stop.clone());
    tokio::spawn(async move {
        let mut made = 0;
        let mut ticks = interval(Duration::from_millis(100));
        while !stop.load(SeqCst) {
            ticks.tick().await;
            let key = a.create("newcomer").await.unwrap();
            // The event tells B that there is such a key: it arrives within a hop or is asked for.
            let began = Instant::now();
            loop {
                match b.authenticate(&key).await {
                    Ok(found) => {
                        assert!(found.is_some(), "401 for a new key");
                        break;
                    }
                    // Not heard of it yet, and unknown keys are refused: 503, never 401.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Limited),
                }
                assert!(began.elapsed() < PATIENCE, "503 for a new key");
            }
            made += 1;
        }
        made
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_ten_thousand_bad_keys_cost_the_source_what_the_limit_allows() {
    let fleet = Fleet::start(super::INSTANCES, super::KEYS).await;
    let (a, b) = (&fleet.keys[0], &fleet.keys[1]);
    let asked = fleet.databases[1].asked();
    let found_before = asked.found.load(SeqCst);
    let stop = Arc::new(AtomicBool::new(false));
    let users = use_good_keys(b, &fleet.good, &stop);
    let newcomers = make_keys(a, b, &stop);

    let (unknown, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let mut ticks = interval(Duration::from_millis(10));
    let mut requests = JoinSet::new();
    for guess in 0..GUESSES {
        if guess % BURST == 0 {
            ticks.tick().await;
        }
        let (b, unknown, refused) = (b.clone(), unknown.clone(), refused.clone());
        requests.spawn(async move {
            match b.authenticate(&format!("sk-guess-{guess}")).await {
                Ok(found) => {
                    assert_eq!(found, None);
                    unknown.fetch_add(1, SeqCst);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Limited);
                    refused.fetch_add(1, SeqCst);
                }
            }
        });
    }
    requests.join_all().await;
    let seconds = began.elapsed().as_secs_f64();
    stop.store(true, SeqCst);
    let (used, made) = (users.await.unwrap(), newcomers.await.unwrap());

    // The source: bounded by the limit, and no less.
    let absent = asked.absent.load(SeqCst);
    // And one, for the step of the clock that refills the bucket.
    let most = (LIMIT as f64 * (1.0 + seconds)) as u64 + 1;
    eprintln!(
        "{GUESSES} guesses in {seconds:.1} s: {absent} queries (at most {most}); {used} uses of good keys"
    );
    assert!(
        absent <= most,
        "{absent} queries in {seconds} s, not {most}"
    );
    assert!(
        absent >= LIMIT * SECONDS / 2,
        "only {absent}: the limit is not used"
    );
    let (unknown, refused) = (unknown.load(SeqCst), refused.load(SeqCst));
    assert_eq!(unknown + refused, GUESSES);
    assert_eq!(unknown, absent);
    let limited = fleet.metric(1, r#"loads_total{cache="api_keys",outcome="limited"}"#);
    assert!(limited >= refused, "{limited} of {refused} are counted");

    // The good keys: all were answered from memory, but for those that were new.
    assert!(used > 0 && made > 0, "{used} uses, {made} new");
    let loaded = asked.found.load(SeqCst) - found_before;
    // Where the machine is so slow that their life ends, or that nothing was verified for long, they
    // are loaded again.
    let again = ["expired", "unverified", "fenced"].map(|cause| {
        let series = format!(r#"misses_total{{cache="api_keys",cause="{cause}"}}"#);
        fleet.metric(1, &series)
    });
    let most = 2 * made + again.iter().sum::<u64>();
    assert!((made..=most).contains(&loaded), "{loaded} of {made}");
    assert_eq!(fleet.metric(1, r#"evictions_total{cache="api_keys"}"#), 0);

    // The memory: what exists and what is remembered as absent, which has a bound of its own.
    let entries = fleet.metric(1, r#"entries{cache="api_keys"}"#);
    let most = super::KEYS as u64 + made + absent;
    assert!(
        entries <= most && absent <= CAPACITY / 10,
        "{entries} entries"
    );
    fleet.stop().await;
}
