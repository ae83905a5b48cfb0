//! At most one load per key, which belongs to no caller: when one is cancelled, the others are served.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use unstale::{Error, ErrorKind, Loaded, Outcome};

use crate::support::nodes::{Node, alone, get, metric, ms, pair, pass};

const LOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The first caller leads, the others join; the load takes a second.
async fn callers(node: &Node, count: usize) -> Vec<JoinHandle<Result<Option<u64>, Error>>> {
    let callers = (0..count).map(|_| get(&node.cache, 1)).collect();
    pass(ms(100)).await;
    callers
}

#[tokio::test(start_paused = true)]
async fn twenty_callers_share_one_load() {
    let (_bus, source, a, _b) = pair().await;
    source.set(1, 10);
    source.slow(ms(1_000));
    for caller in callers(&a, 20).await {
        assert_eq!(caller.await.unwrap().unwrap(), Some(10));
    }
    let stats = a.cache.stats();
    assert_eq!((stats.misses, stats.coalesced, stats.hits), (1, 19, 0));
    assert_eq!((stats.loads, source.loads()), (1, 1));
    assert_eq!(a.metric(r#"unstale_coalesced_total{cache="rows"}"#), 19);
    assert_eq!(
        a.metric(r#"unstale_misses_total{cache="rows",cause="cold"}"#),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_leader_leaves_its_load_to_the_others() {
    let (_bus, source, a, _b) = pair().await;
    source.set(1, 10);
    source.slow(ms(1_000));
    let mut callers = callers(&a, 3).await;
    let leader = callers.remove(0);
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), Some(10));
    }
    assert_eq!(a.outcome(1).await, Outcome::Hit);
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_all_its_callers_left_is_still_stored() {
    let (_bus, source, a, _b) = pair().await;
    source.set(1, 10);
    source.slow(ms(1_000));
    for caller in callers(&a, 3).await {
        caller.abort();
    }
    pass(ms(1_000)).await;
    assert_eq!(a.outcome(1).await, Outcome::Hit);
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_polled_starts_nothing() {
    let (_bus, source, a, _b) = pair().await;
    drop(a.cache.get(&1));
    drop(a.cache.lookup(&1));
    drop(a.cache.get_many(&[1, 2]));
    drop(a.cache.get_with(&1, async { Ok(1) }));
    pass(ms(100)).await;
    assert_eq!((source.loads(), a.cache.stats().misses), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_callers_timeout_does_not_shorten_the_load() {
    let (_bus, source, a, _b) = pair().await;
    source.set(1, 10);
    source.slow(ms(3_000));
    let patient = get(&a.cache, 1);
    assert!(timeout(ms(1_000), a.cache.get(&1)).await.is_err());
    assert_eq!(patient.await.unwrap().unwrap(), Some(10));
    assert_eq!((a.outcome(1).await, source.loads()), (Outcome::Hit, 1));
}

#[tokio::test(start_paused = true)]
async fn a_load_ends_at_its_own_deadline_for_all_who_wait() {
    let (_bus, source, a, _b) = pair().await;
    source.slow(Duration::from_secs(3_600));
    let began = Instant::now();
    let first = get(&a.cache, 1);
    pass(ms(4_000)).await;
    let second = get(&a.cache, 1);
    for caller in [first, second] {
        let error = caller.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoadTimeout);
        assert_eq!(began.elapsed().as_secs(), LOAD_TIMEOUT.as_secs());
    }
    let timeouts = r#"unstale_loads_total{cache="rows",outcome="timeout"}"#;
    assert_eq!((a.metric(timeouts), source.loads()), (1, 1));
    assert_eq!(a.metric(r#"unstale_loads_in_flight{cache="rows"}"#), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_goes_to_all_who_wait_and_is_kept_for_a_second() {
    let (_bus, source, a, _b) = pair().await;
    source.set(1, 10);
    source.slow(ms(1_000));
    source.fail(true);
    for caller in callers(&a, 3).await {
        let error = caller.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Load);
        let cause = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(cause.to_string(), "the source is down");
    }
    assert_eq!(source.loads(), 1);
    assert_eq!(
        a.metric(r#"unstale_loads_total{cache="rows",outcome="error"}"#),
        1
    );
    source.fail(false);
    source.slow(ms(100));
    assert!(a.cache.get(&1).await.is_err());
    pass(ms(1_000)).await;
    assert_eq!(a.get(1).await, Some(10));
}

/// Panics for key 1 once it runs, for key 2 before there is a future, and for no other.
#[tokio::test(start_paused = true)]
async fn a_panicking_loader_is_an_error_for_all_who_wait() {
    let (_bus, instance) = alone().await;
    let panic_if = |panics: bool| {
        if panics {
            std::panic::resume_unwind(Box::new("the loader panics"));
        }
    };
    let cache = instance
        .cache::<u64, u64>("panics")
        .max_loads(1)
        .loader(move |key: u64| {
            panic_if(key == 2);
            async move {
                pass(ms(10)).await;
                panic_if(key == 1);
                Ok(key)
            }
        })
        .build()
        .unwrap();
    for key in [1, 2] {
        for caller in [get(&cache, key), get(&cache, key)] {
            let error = timeout(LOAD_TIMEOUT, caller).await.expect("an answer");
            let error = error.expect("no panic of the caller's own").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LoadPanic);
        }
    }
    // Neither the place among `max_loads` nor the gauge was lost.
    assert_eq!(cache.get(&3).await.unwrap(), Some(3));
    let text = instance.metrics_text();
    assert!(
        text.contains(r#"unstale_loads_total{cache="panics",outcome="panic"} 2"#),
        "{text}"
    );
    assert!(
        text.contains(r#"unstale_loads_in_flight{cache="panics"} 0"#),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn max_loads_bounds_what_runs_and_a_caller_that_waits_too_long_gets_an_error() {
    let (_bus, instance) = alone().await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (running.clone(), most.clone());
    let cache = instance
        .cache::<u64, u64>("bounded")
        .max_loads(2)
        .load_timeout(ms(5_000))
        .loader(move |key: u64| {
            let (running, most) = counters.clone();
            async move {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                pass(ms(2_000)).await;
                running.fetch_sub(1, SeqCst);
                Ok(key)
            }
        })
        .build()
        .unwrap();
    let began = Instant::now();
    let timed = |key: u64| {
        let cache = cache.clone();
        tokio::spawn(async move { (cache.get(&key).await, began.elapsed()) })
    };
    let callers: Vec<_> = (0..8).map(timed).collect();
    let mut overloaded = 0;
    for caller in callers {
        let (answer, after) = caller.await.unwrap();
        if let Err(error) = answer {
            assert_eq!(error.kind(), ErrorKind::Overloaded);
            assert_eq!(after.as_secs(), LOAD_TIMEOUT.as_secs());
            overloaded += 1;
        }
    }
    // Three turns of two seconds begin before the five are over.
    assert_eq!((overloaded, most.load(SeqCst)), (2, 2));
    let overloaded = r#"unstale_loads_total{cache="bounded",outcome="overloaded"}"#;
    assert_eq!(metric(&instance, overloaded), 2);
}

#[tokio::test(start_paused = true)]
async fn a_load_of_get_with_is_shared_like_any_other() {
    let (_bus, source, a, _b) = pair().await;
    let own = async {
        pass(ms(1_000)).await;
        Ok(Loaded::new(77).tag("mine"))
    };
    let leader = tokio::spawn({
        let cache = a.cache.clone();
        async move { cache.get_with(&1, own).await.unwrap() }
    });
    pass(ms(10)).await;
    let by_loader = get(&a.cache, 1);
    let unused = async { Err::<u64, _>("never polled".into()) };
    assert_eq!(a.cache.get_with(&1, unused).await.unwrap(), Some(77));
    assert_eq!(by_loader.await.unwrap().unwrap(), Some(77));
    assert_eq!(leader.await.unwrap(), Some(77));
    assert_eq!((a.outcome(1).await, source.loads()), (Outcome::Hit, 0));
    a.cache.invalidate_tag("mine").await.unwrap();
    assert_eq!(a.get(1).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_read_of_a_cache_without_a_loader_is_an_error() {
    let (_bus, instance) = alone().await;
    let cache = instance.cache::<u64, u64>("bare").build().unwrap();
    assert_eq!(cache.get(&1).await.unwrap_err().kind(), ErrorKind::NoLoader);
    let load = async { Ok(Some(1)) };
    assert_eq!(cache.get_with(&1, load).await.unwrap(), Some(1));
    assert_eq!(cache.get(&1).await.unwrap(), Some(1));
}
