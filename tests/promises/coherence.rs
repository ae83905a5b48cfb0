//! Two instances stay coherent: what one invalidates, the other does not serve.

use unstale::Outcome;

use crate::support::nodes::{ms, pair, pass};

#[tokio::test(start_paused = true)]
async fn a_write_on_one_instance_is_seen_on_the_other() {
    let (_bus, source, a, b) = pair().await;
    source.set(1, 10);
    assert_eq!((a.get(1).await, b.get(1).await), (Some(10), Some(10)));
    assert_eq!(b.outcome(1).await, Outcome::Hit);

    source.set(1, 11);
    a.cache.invalidate(&1).await.unwrap();
    assert_eq!(a.get(1).await, Some(11));
    pass(ms(1)).await;
    assert_eq!(b.get(1).await, Some(11));
    assert_eq!(b.metric("unstale_events_applied_total"), 1);
}

#[tokio::test(start_paused = true)]
async fn tags_and_whole_caches_reach_the_other_instance() {
    let (_bus, source, a, b) = pair().await;
    for key in [10, 11, 20] {
        source.set(key, key);
        b.get(key).await;
    }
    for key in [10, 11, 20] {
        source.set(key, key + 1);
    }
    a.cache.invalidate_tag("tens-1").await.unwrap();
    pass(ms(1)).await;
    assert_eq!(
        (b.get(10).await, b.get(11).await, b.get(20).await),
        (Some(11), Some(12), Some(20))
    );
    a.cache.invalidate_all().await.unwrap();
    pass(ms(1)).await;
    assert_eq!(b.get(20).await, Some(21));
}

#[tokio::test(start_paused = true)]
async fn an_absence_is_remembered_and_forgotten_like_a_value() {
    let (_bus, source, a, b) = pair().await;
    assert_eq!(b.get(5).await, None);
    assert_eq!(b.outcome(5).await, Outcome::Negative);
    source.set(5, 50);
    a.cache.invalidate(&5).await.unwrap();
    pass(ms(1)).await;
    assert_eq!(b.get(5).await, Some(50));
    source.remove(5);
    b.cache.invalidate(&5).await.unwrap();
    assert_eq!(b.get(5).await, None);
}
