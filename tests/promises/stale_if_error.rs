//! An entry past its TTL may be served when the loader fails, and nothing worse than that.

use unstale::internals;
use unstale::{Cache, ErrorKind, Loaded, LocalBus};

use crate::expiry::{OverRows, read_for, rows};
use crate::support::nodes::{get, ms, pair, pass};

/// What happens to an entry before its loader fails, past its TTL.
async fn stale_if_error(
    prepare: impl AsyncFnOnce(&LocalBus, &Cache<u64, u64>),
) -> Result<Option<u64>, ErrorKind> {
    let (bus, source, a, _b) = pair().await;
    let cache = rows(&a, "stale")
        .stale_if_error(ms(20_000))
        .loader_of(&source)
        .build()
        .unwrap();
    source.set(1, 10);
    cache.get(&1).await.unwrap();
    source.fail(true);
    read_for(&cache, ms(9_900)).await;
    prepare(&bus, &cache).await;
    let answer = cache.get(&1).await;
    let served = a.metric(r#"unstale_stale_if_error_total{cache="stale"}"#);
    assert_eq!(served, u64::from(answer.is_ok()));
    source.fail(false);
    source.set(1, 11);
    // An error is kept for a second; then the entry answers while the source is asked once.
    pass(ms(1_000)).await;
    let _ = cache.get(&1).await;
    pass(ms(1)).await;
    assert_eq!(
        cache.get(&1).await.unwrap(),
        Some(11),
        "only while its loader fails"
    );
    answer.map_err(|error| error.kind())
}

#[tokio::test(start_paused = true)]
async fn an_entry_past_its_ttl_is_served_when_the_loader_fails() {
    let soon = async |_: &LocalBus, _: &Cache<u64, u64>| pass(ms(1_000)).await;
    assert_eq!(stale_if_error(soon).await, Ok(Some(10)));
    // The reaper leaves it alone for as long.
    let later = async |_: &LocalBus, cache: &Cache<u64, u64>| {
        for _ in 0..40 {
            // Read another row: the instance must not become idle.
            cache.get(&2).await.unwrap_err();
            pass(ms(500)).await;
        }
    };
    assert_eq!(stale_if_error(later).await, Ok(Some(10)));
    let too_late = async |_: &LocalBus, _: &Cache<u64, u64>| pass(ms(20_200)).await;
    assert_eq!(stale_if_error(too_late).await, Err(ErrorKind::Load));
}

/// An idle instance verifies seldom: the first failure must not find its entries unverified.
#[tokio::test(start_paused = true)]
async fn an_idle_instance_serves_a_stale_fallback_after_one_verification() {
    let (_bus, source, a, _b) = pair().await;
    let cache = rows(&a, "stale")
        .stale_if_error(ms(60_000))
        .loader_of(&source)
        .build()
        .unwrap();
    source.set(1, 10);
    cache.get(&1).await.unwrap();
    pass(ms(20_000)).await;
    while a.instance.health().verified_age[0].unwrap() <= ms(2_000) {
        pass(ms(50)).await;
    }
    source.fail(true);
    assert_eq!(cache.get(&1).await.unwrap(), Some(10));
    assert_eq!(
        a.metric(r#"unstale_stale_if_error_total{cache="stale"}"#),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_fenced_or_unverified_entry_is_not_served_when_the_loader_fails() {
    let by_key = async |_: &LocalBus, cache: &Cache<u64, u64>| {
        cache.invalidate(&1).await.unwrap();
        pass(ms(1_000)).await;
    };
    assert_eq!(stale_if_error(by_key).await, Err(ErrorKind::Load));
    let by_tag = async |_: &LocalBus, cache: &Cache<u64, u64>| {
        pass(ms(200)).await;
        cache.invalidate_tag("tens-0").await.unwrap();
    };
    assert_eq!(stale_if_error(by_tag).await, Err(ErrorKind::Load));
    let by_cache = async |_: &LocalBus, cache: &Cache<u64, u64>| {
        pass(ms(200)).await;
        cache.invalidate_all().await.unwrap();
    };
    assert_eq!(stale_if_error(by_cache).await, Err(ErrorKind::Load));
    let by_fence = async |bus: &LocalBus, _: &Cache<u64, u64>| {
        bus.publish_raw(0, &b"garbage"[..]);
        pass(ms(200)).await;
    };
    assert_eq!(stale_if_error(by_fence).await, Err(ErrorKind::Load));
    let cut_off = async |bus: &LocalBus, _: &Cache<u64, u64>| {
        bus.faults(0).cut();
        pass(ms(3_000)).await;
    };
    assert_eq!(stale_if_error(cut_off).await, Err(ErrorKind::Load));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_in_a_black_hole_waits_for_one_verification_at_most() {
    let (bus, source, a, _b) = pair().await;
    let keys: Vec<u64> = (0..100).collect();
    let failing = source.clone();
    let cache = rows(&a, "stale")
        .stale_if_error(ms(60_000))
        .stale_if_slow(None)
        .batch_loader(move |keys: Vec<u64>| {
            let source = failing.clone();
            async move {
                source.load(0).await?;
                Ok(keys.into_iter().map(|key| (key, key)).collect())
            }
        })
        .build()
        .unwrap();
    source.set(0, 0);
    cache.get_many(&keys).await.unwrap();
    source.fail(true);
    bus.faults(0).silence();
    pass(ms(12_000)).await;
    let began = tokio::time::Instant::now();
    let error = cache.get_many(&keys).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
    assert!(began.elapsed() <= ms(250), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_value_past_its_own_ttl_is_not_served_when_the_loader_fails() {
    let (_bus, source, a, _b) = pair().await;
    let cache = rows(&a, "stale")
        .stale_if_error(ms(20_000))
        .reap_interval(None)
        .loader_of(&source)
        .build()
        .unwrap();
    let own = async { Ok(Loaded::new(10).ttl(ms(5_000))) };
    cache.get_with(&1, own).await.unwrap();
    source.fail(true);
    pass(ms(5_001)).await;
    assert_eq!(cache.get(&1).await.unwrap_err().kind(), ErrorKind::Load);
}

/// 1: a load that never begins looks up an entry to be served instead; 2: the key is invalidated, which
/// is acknowledged; 3: a read begins, and joins; 4: the load lands with the old value.
#[tokio::test(start_paused = true)]
async fn a_read_after_an_acknowledged_invalidation_is_not_answered_by_a_stale_fallback() {
    let (_bus, source, a, _b) = pair().await;
    let cache = rows(&a, "stale")
        .stale_if_error(ms(60_000))
        .max_loads(1)
        .load_timeout(ms(500))
        .reap_interval(None)
        .loader_of(&source)
        .build()
        .unwrap();
    source.set(1, 10);
    cache.get(&1).await.unwrap();
    read_for(&cache, ms(9_900)).await;
    pass(ms(500)).await;
    // Two others take the only place, one after the other, until this load is given up.
    source.slow(ms(10_000));
    let _takes_the_place = get(&cache, 2);
    pass(ms(10)).await;
    let _takes_it_over = get(&cache, 3);
    pass(ms(90)).await;
    internals::widen_windows(true);
    let early = get(&cache, 1);
    pass(ms(505)).await;
    source.set(1, 11);
    source.slow(ms(0));
    cache.invalidate(&1).await.unwrap();
    let late = cache.get(&1).await;
    internals::widen_windows(false);
    assert_eq!(early.await.unwrap().unwrap(), Some(10), "it began before");
    assert_ne!(late.ok(), Some(Some(10)), "it began after the invalidation");
}
