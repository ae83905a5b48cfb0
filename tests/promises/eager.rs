//! Invalidations act at the call: a caller that drops the future has still invalidated.

use unstale::{Loaded, LocalBus, Outcome, Settings, testing};

use crate::support::nodes::{Node, ms, pair, pass};

/// Two instances that hold what a test then invalidates on the first.
async fn holding() -> (LocalBus, Node, Node) {
    let (bus, source, a, b) = pair().await;
    for key in [1, 2] {
        source.set(key, key * 10);
        for node in [&a, &b] {
            assert_eq!(node.get(key).await, Some(key * 10));
            assert_eq!(node.outcome(key).await, Outcome::Hit);
        }
    }
    (bus, a, b)
}

/// Both keys are gone at once where they were invalidated, and a moment later on the peer.
async fn dropped_everywhere(a: &Node, b: &Node) {
    assert_eq!([a.cache.peek(&1), a.cache.peek(&2)], [None, None]);
    pass(ms(100)).await;
    assert_eq!([b.cache.peek(&1), b.cache.peek(&2)], [None, None]);
}

#[tokio::test(start_paused = true)]
async fn invalidations_of_many_keys_and_of_a_cache_act_although_their_futures_are_dropped() {
    let (_bus, a, b) = holding().await;
    drop(a.cache.invalidate_many([1, 2]));
    dropped_everywhere(&a, &b).await;
    let (_bus, a, b) = holding().await;
    drop(a.cache.invalidate_all());
    dropped_everywhere(&a, &b).await;
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_of_a_batch_acts_although_its_future_is_dropped() {
    let (_bus, a, b) = holding().await;
    let batch = a.instance.batch().key(&a.cache, &1).key(&a.cache, &2);
    drop(batch.invalidate());
    dropped_everywhere(&a, &b).await;
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_of_a_tag_acts_although_its_future_is_dropped() {
    let bus = LocalBus::default();
    let mut caches = Vec::new();
    for _ in 0..2 {
        let instance = testing::start_on(&bus, Settings::default()).await.unwrap();
        let rows = instance
            .cache::<u64, u64>("rows")
            .loader(|key: u64| async move { Ok(Loaded::new(key).tag("all")) })
            .build()
            .unwrap();
        assert_eq!(rows.get(&1).await.unwrap(), Some(1));
        assert_eq!(rows.peek(&1), Some(1));
        caches.push((instance, rows));
    }
    drop(caches[0].1.invalidate_tag("all"));
    assert_eq!(caches[0].1.peek(&1), None);
    pass(ms(100)).await;
    assert_eq!(caches[1].1.peek(&1), None);
}
