//! Many keys at once: one call for all that is missing, in the order asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use unstale::{Cache, ErrorKind, Instance, Loaded, MAX_KEY_BYTES, Outcome};

use crate::support::nodes::{alone, get, metric, ms, pair, pass};

type Calls = Arc<Mutex<Vec<Vec<u64>>>>;

/// A cache whose batch loader knows 0 to 9,999 as ten times themselves, answers backwards after
/// 100 ms and remembers how it was called. 13 breaks, 666 panics, 777 never ends.
fn batched(instance: &Instance) -> (Cache<u64, u64>, Calls) {
    let calls = Calls::default();
    let remembered = calls.clone();
    let cache = instance
        .cache::<u64, u64>("batched")
        .batch_loader(move |mut keys: Vec<u64>| {
            remembered.lock().unwrap().push(keys.clone());
            async move {
                pass(ms(100)).await;
                if keys.contains(&13) {
                    return Err("unlucky".into());
                }
                if keys.contains(&666) {
                    std::panic::resume_unwind(Box::new("the batch loader panics"));
                }
                if keys.contains(&777) {
                    std::future::pending::<()>().await;
                }
                keys.reverse();
                let known = keys.into_iter().filter(|key| *key < 10_000);
                let mut pairs: Vec<_> = known.map(|key| (key, key * 10)).collect();
                pairs.push((5_555, 1)); // that was not asked for
                Ok(pairs)
            }
        })
        .build()
        .unwrap();
    (cache, calls)
}

#[tokio::test(start_paused = true)]
async fn missing_keys_go_to_one_call_and_come_back_in_order() {
    let (_bus, instance) = alone().await;
    let (cache, calls) = batched(&instance);
    assert_eq!(cache.get_many(&[2]).await.unwrap(), [Some(20)]);
    let values = cache.get_many(&[3, 99_999, 1, 2, 3]).await.unwrap();
    assert_eq!(values, [Some(30), None, Some(10), Some(20), Some(30)]);
    assert_eq!(*calls.lock().unwrap(), [vec![2], vec![3, 99_999, 1]]);
    let values = cache.get_many(&[99_999, 1]).await.unwrap();
    assert_eq!(
        (values, calls.lock().unwrap().len()),
        (vec![None, Some(10)], 2)
    );
    assert_eq!(
        cache.lookup(&99_999).await.unwrap().outcome,
        Outcome::Negative
    );
    assert_eq!(cache.get_many(&[]).await.unwrap(), []);
    // What was not asked for has not entered the cache.
    assert_eq!(cache.peek(&5_555), None);
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.coalesced, stats.hits), (4, 1, 2));
    assert_eq!((stats.loads, stats.negative_hits), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_batch_joins_other_loads_and_is_joined() {
    let (_bus, instance) = alone().await;
    let (cache, calls) = batched(&instance);
    let both = |keys: [u64; 2]| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get_many(&keys).await.unwrap() })
    };
    let first = both([1, 2]);
    pass(ms(10)).await;
    let second = both([2, 3]);
    let single = get(&cache, 1);
    assert_eq!(first.await.unwrap(), [Some(10), Some(20)]);
    assert_eq!(second.await.unwrap(), [Some(20), Some(30)]);
    assert_eq!(single.await.unwrap().unwrap(), Some(10));
    assert_eq!(*calls.lock().unwrap(), [vec![1, 2], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_discards_its_own_key_of_a_batch_only() {
    let (_bus, instance) = alone().await;
    let (cache, _calls) = batched(&instance);
    let batch = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_many(&[1, 2]).await.unwrap() }
    });
    pass(ms(10)).await;
    cache.invalidate(&1).await.unwrap();
    assert_eq!(batch.await.unwrap(), [Some(10), Some(20)]);
    assert_eq!((cache.peek(&1), cache.peek(&2)), (None, Some(20)));
    assert_eq!(cache.stats().loads_discarded, 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_fails_for_all_its_keys_and_that_is_kept_for_a_second() {
    let (_bus, instance) = alone().await;
    let (cache, _calls) = batched(&instance);
    for (bad, kind, outcome, count) in [
        (13, ErrorKind::Load, "error", 2),
        (666, ErrorKind::LoadPanic, "panic", 1),
        (777, ErrorKind::LoadTimeout, "timeout", 2),
    ] {
        assert_eq!(cache.get_many(&[1, bad]).await.unwrap_err().kind(), kind);
        let series = format!(r#"unstale_loads_total{{cache="batched",outcome="{outcome}"}}"#);
        assert_eq!(metric(&instance, &series), count, "{outcome}");
        pass(ms(1_000)).await;
        assert_eq!(cache.get_many(&[1]).await.unwrap(), [Some(10)]);
        cache.invalidate(&1).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_batch_loader_each_key_is_loaded_by_itself() {
    let (_bus, source, a, _b) = pair().await;
    source.set(1, 10);
    source.set(2, 20);
    assert_eq!(
        a.cache.get_many(&[2, 3, 1, 2]).await.unwrap(),
        [Some(20), None, Some(10), Some(20)]
    );
    assert_eq!(source.loads(), 3);
    // One error fails the call, and only the key it belongs to.
    let fails_for_seven = a
        .instance
        .cache::<u64, u64>("seven")
        .loader(|key: u64| async move {
            if key == 7 {
                Err("seven".into())
            } else {
                Ok(Loaded::new(key))
            }
        })
        .build()
        .unwrap();
    let error = fails_for_seven.get_many(&[6, 7, 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
    assert_eq!(
        (fails_for_seven.peek(&6), fails_for_seven.peek(&8)),
        (Some(6), Some(8))
    );
}

#[tokio::test(start_paused = true)]
async fn preload_asks_in_large_batches_and_not_for_more_than_fits() {
    let (_bus, instance) = alone().await;
    let (cache, calls) = batched(&instance);
    // 2,498 exist, two do not, which is known as well.
    let keys = (1_000..3_498).chain([20_000, 20_001]);
    assert_eq!(cache.preload(keys).await.held, 2_500);
    let sizes = || {
        calls
            .lock()
            .unwrap()
            .iter()
            .map(Vec::len)
            .collect::<Vec<_>>()
    };
    assert_eq!(sizes(), [1_000, 1_000, 500]);
    assert_eq!(cache.lookup(&1_500).await.unwrap().outcome, Outcome::Hit);
    assert_eq!(cache.preload(1_000..3_000).await.held, 2_000);
    assert_eq!(sizes().len(), 3, "loaded again");
    pass(Duration::from_secs(61)).await;
    let all = cache.preload(0..u64::MAX).await;
    assert!(all.failed > 0 && all.error.is_some(), "13 is among them");
    assert!(all.held + all.failed <= 10_000 && all.did_not_fit >= 1_000_000);
    assert!(sizes().iter().sum::<usize>() <= 2_500 + 10_000);
}

/// Key 2 has to be verified before the batch goes out, which fails; key 1 has a leader by then.
#[tokio::test(start_paused = true)]
async fn a_cancelled_batch_leaves_no_caller_without_an_answer() {
    let (bus, source, a, _b) = pair().await;
    source.set(1, 10);
    source.set(2, 20);
    assert_eq!(a.get(2).await, Some(20));
    bus.faults(0).silence();
    pass(ms(2_200)).await;
    let batch = tokio::spawn({
        let a = a.clone();
        async move { a.cache.get_many(&[1, 2]).await }
    });
    pass(ms(10)).await;
    let other = get(&a.cache, 1);
    pass(ms(10)).await;
    batch.abort();
    assert_eq!(other.await.unwrap().unwrap(), Some(10));
}

#[tokio::test(start_paused = true)]
async fn a_batch_with_a_key_over_the_limit_loads_nothing() {
    let (_bus, instance) = alone().await;
    let cache = instance
        .cache::<String, usize>("lengths")
        .loader(|key: String| async move { Ok(key.len()) })
        .build()
        .unwrap();
    let keys = ["fine".to_owned(), "x".repeat(MAX_KEY_BYTES + 1)];
    assert_eq!(
        cache.get_many(&keys).await.unwrap_err().kind(),
        ErrorKind::Key
    );
    assert_eq!(cache.stats().misses, 0);
    assert_eq!(cache.get("fine").await.unwrap(), Some(4));
}

#[tokio::test(start_paused = true)]
async fn a_single_read_is_a_batch_of_one_where_there_is_no_loader() {
    let (_bus, instance) = alone().await;
    let (cache, calls) = batched(&instance);
    assert_eq!(cache.get(&7).await.unwrap(), Some(70));
    assert_eq!(
        cache.get(&20_000).await.unwrap(),
        None,
        "left out: does not exist"
    );
    assert_eq!(cache.lookup(&7).await.unwrap().outcome, Outcome::Hit);
    assert_eq!(*calls.lock().unwrap(), [vec![7], vec![20_000]]);
}
