//! A hit allocates nothing but what `V::clone` allocates.
//!
//! In a binary of its own, because counting needs an allocator of its own.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use unstale::{Cache, Instance, Outcome, Settings};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Hits counted; background tasks do not run meanwhile, on a current-thread runtime.
const HITS: u64 = 10_000;

async fn cache<V: Clone + Send + Sync + 'static>(name: &str, value: V) -> Cache<String, V> {
    let instance = Instance::start(Settings::default()).await.unwrap();
    let cache = instance.cache::<String, V>(name).build().unwrap();
    cache
        .get_with("some:key:of:24:characters", async {
            Ok::<_, std::io::Error>(value)
        })
        .await
        .unwrap();
    cache
}

fn blocks(mut hit: impl FnMut()) -> u64 {
    hit(); // The thread's own counters are made at its first hit.
    let before = dhat::HeapStats::get().total_blocks;
    for _ in 0..HITS {
        hit();
    }
    dhat::HeapStats::get().total_blocks - before
}

#[tokio::test]
async fn a_hit_is_ready_at_its_first_poll_and_allocates_only_what_clone_does() {
    let shared = cache("shared", Arc::new([7_u8; 256])).await;
    let owned = cache("owned", String::from("a value on the heap")).await;
    let _profiler = dhat::Profiler::builder().testing().build();
    let mut context = Context::from_waker(Waker::noop());
    let ready = |poll: Poll<_>| assert!(matches!(poll, Poll::Ready(Ok(true))));
    let key = "some:key:of:24:characters";

    let free = blocks(|| {
        let get = std::pin::pin!(async { Ok::<_, ()>(shared.get(key).await.unwrap().is_some()) });
        ready(get.poll(&mut context));
    });
    assert_eq!(free, 0, "get");
    let free = blocks(|| {
        let hit = async { shared.lookup(key).await.unwrap().outcome == Outcome::Hit };
        let hit = std::pin::pin!(async { Ok::<_, ()>(hit.await) });
        ready(hit.poll(&mut context));
    });
    assert_eq!(free, 0, "lookup");
    assert_eq!(blocks(|| assert!(shared.peek(key).is_some())), 0, "peek");
    assert_eq!(
        blocks(|| assert!(owned.peek(key).is_some())),
        HITS,
        "String::clone allocates once"
    );
}
