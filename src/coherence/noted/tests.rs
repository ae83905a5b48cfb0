use std::time::Duration;

use tokio::time::sleep;

use crate::coherence::recent::{Applied, Named};
use crate::key::{Key, cache_id, tag_hash};
use crate::metrics::Fence;
use crate::testing::start_on;
use crate::{Cache, Instance, LocalBus, Settings};

const NAME: &str = "numbers";

async fn started(bus: &LocalBus) -> (Instance, Cache<u64, u64>) {
    let instance = start_on(bus, Settings::default()).await.unwrap();
    let numbers = instance
        .cache(NAME)
        .loader(|key: u64| async move { Ok(key) });
    let numbers = numbers.build().unwrap();
    (instance, numbers)
}

/// All that concerns a key with a tag, the last.
fn last(instance: &Instance, key: u64, tag: &str) -> Option<Applied> {
    let hash = key.digest().unwrap();
    let recent = &instance.member().recent;
    recent.last_for(cache_id(NAME), hash, &[tag_hash(tag)])
}

async fn pass() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn own_and_remote_invalidations_are_noted_once_with_their_origin() {
    let bus = LocalBus::default();
    let ((a, of_a), (b, _of_b)) = (started(&bus).await, started(&bus).await);
    of_a.invalidate(&7).await.unwrap();
    pass().await;
    let (here, there) = (last(&a, 7, "").unwrap(), last(&b, 7, "").unwrap());
    let named = Named::Key(7_u64.digest().unwrap());
    assert_eq!((here.named, there.named), (named, named));
    assert_eq!((here.origin, there.origin), (Some(a.id()), Some(a.id())));
    assert_eq!(here.position, None, "it was not published yet");
    assert!(there.position.is_some());

    of_a.invalidate_tag("blue").await.unwrap();
    pass().await;
    assert!(matches!(last(&b, 8, "blue").unwrap().named, Named::Tag(_)));
    of_a.invalidate_all().await.unwrap();
    pass().await;
    assert_eq!(last(&b, 8, "blue").unwrap().named, Named::Cache);
    // The echo is not noted again.
    assert_eq!(a.member().recent.len(), b.member().recent.len());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lane_is_noted_with_its_reason() {
    let bus = LocalBus::default();
    let ((a, of_a), (b, _of_b)) = (started(&bus).await, started(&bus).await);
    assert_eq!(last(&b, 1, "").unwrap().named, Named::Lane(Fence::Adopted));
    bus.faults(1).lose_next(1);
    of_a.invalidate(&7).await.unwrap();
    bus.drop_journal();
    sleep(Duration::from_secs(1)).await;
    let dropped = last(&b, 1, "").unwrap();
    assert_eq!(dropped.named, Named::Lane(Fence::Gap));
    assert_eq!((dropped.origin, dropped.position), (None, None));
    let own = last(&a, 7, "").unwrap();
    assert!(matches!(own.named, Named::Key(_)), "{own:?}");
}
