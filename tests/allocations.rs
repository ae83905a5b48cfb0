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

/// The allocator counts what the whole process allocates.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn cache<V: Clone + Send + Sync + 'static>(name: &str, value: V) -> Cache<String, V> {
    let instance = Instance::start(Settings::default()).await.unwrap();
    let cache = instance.cache::<String, V>(name).build().unwrap();
    cache
        .get_with("some:key:of:24:characters", async { Ok(value) })
        .await
        .unwrap();
    cache
}

async fn pairs() -> Cache<(String, u64), u64> {
    let instance = Instance::start(Settings::default()).await.unwrap();
    let cache = instance.cache("pairs").build().unwrap();
    let key = ("some:key:of:24:characters", 7);
    cache.get_with(&key, async { Ok(7_u64) }).await.unwrap();
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
    let _alone = ONE_AT_A_TIME.lock().await;
    let shared = cache("shared", Arc::new([7_u8; 256])).await;
    let owned = cache("owned", String::from("a value on the heap")).await;
    let pairs = pairs().await;
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
        blocks(|| assert!(pairs.peek(&(key, 7)).is_some())),
        0,
        "a key of two parts, by references"
    );
    let free = blocks(|| {
        let hit = async { pairs.get(&(key, 7)).await.unwrap().is_some() };
        let hit = std::pin::pin!(async { Ok::<_, ()>(hit.await) });
        ready(hit.poll(&mut context));
    });
    assert_eq!(free, 0, "get by references");
    assert_eq!(
        blocks(|| assert!(owned.peek(key).is_some())),
        HITS,
        "String::clone allocates once"
    );
}

/// What a payload makes its reader allocate at most: 16 bytes for each of its own, and a little.
#[cfg(feature = "test-util")]
#[test]
fn no_payload_makes_its_reader_allocate_more_than_it_pays_for() {
    use unstale::internals::reads_payload;

    let unhex = |hex: &str| -> Vec<u8> {
        let digits: Vec<_> = hex.bytes().filter(|b| *b != b' ').collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|it| pair(it).unwrap()).collect()
    };
    let lies = [
        "0193 01 02 ddffffffff",
        "0193 01 02 91 94 01 02 00 c6ffffffff 00",
        "01 ddffffffff 01 02 90",
        "0193 01 02 dbffffffff 00",
        "0194 01 02 90 c9ffffffff 05",
    ];
    let mut payloads: Vec<_> = lies.iter().map(|hex| unhex(hex)).collect();
    for lie in lies {
        let mut long = unhex(lie);
        long.resize(65_536, 0x90);
        payloads.push(long);
    }
    let mut ops = unhex("0193 01 02 dc2aa0");
    ops.extend(unhex("9401020 2c400").repeat(0x2aa0 - 8));
    payloads.push(ops);
    let _alone = ONE_AT_A_TIME.blocking_lock();
    let _profiler = dhat::Profiler::builder().testing().build();
    // What the decoder allocates once, whatever it reads.
    let _ = reads_payload(&payloads[0]);
    for payload in payloads {
        let before = dhat::HeapStats::get().total_bytes;
        let is_event = reads_payload(&payload);
        let took = dhat::HeapStats::get().total_bytes - before;
        let bound = 16 * payload.len() as u64 + 1_024;
        assert!(
            took <= bound,
            "{took} bytes for {} ({is_event})",
            payload.len()
        );
    }
}

/// The blocks that one load takes at least: what runs beside it may add some.
async fn of_a_load(cache: &Cache<String, u64>) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..50 {
        drop(cache.invalidate("key"));
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        let before = dhat::HeapStats::get().total_blocks;
        let loaded = cache.lookup("key").await.unwrap();
        assert_eq!(loaded.outcome, Outcome::Miss);
        least = least.min(dhat::HeapStats::get().total_blocks - before);
    }
    least
}

#[tokio::test]
async fn a_load_whose_span_no_subscriber_wants_allocates_nothing_for_it() {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::layer::SubscriberExt;

    let _alone = ONE_AT_A_TIME.lock().await;
    let instance = Instance::start(Settings::default()).await.unwrap();
    let cache = instance
        .cache::<String, u64>("loads")
        .loader(async |_: String| Ok(7))
        .build()
        .unwrap();
    let _profiler = dhat::Profiler::builder().testing().build();
    let none = of_a_load(&cache).await;
    let refusing = Targets::new().with_target("unstale", LevelFilter::INFO);
    let subscriber = tracing_subscriber::registry().with(refusing);
    let refused = {
        let _guard = tracing::subscriber::set_default(subscriber);
        of_a_load(&cache).await
    };
    let wanting = tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG);
    let wanting = wanting.with_writer(std::io::sink).finish();
    let wanted = {
        let _guard = tracing::subscriber::set_default(wanting);
        of_a_load(&cache).await
    };
    assert_eq!(refused, none);
    assert!(wanted > none, "its fields are written then");
}
