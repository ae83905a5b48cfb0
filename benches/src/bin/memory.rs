//! What an entry takes in memory, and what reads allocate.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use unstale::{Cache, Instance, Settings};
use unstale_benches::{Allocations, Counting, Report, keys, record_metrics};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ENTRIES: usize = 1_000_000;

/// Shards fill unevenly: with room for just as many some would evict.
const CAPACITY: usize = ENTRIES * 21 / 20;

const HITS: u64 = 100_000;

/// Bytes an entry, by how many of them the cache holds in the end.
fn bytes<T>(make: impl FnOnce() -> T, held: impl FnOnce(&T) -> usize) -> (T, f64, usize) {
    let before = Allocations::now().bytes;
    let cache = make();
    let gained = (Allocations::now().bytes - before) as f64;
    let held = held(&cache);
    (cache, gained / held as f64, held)
}

fn ours(instance: &Instance, runtime: &tokio::runtime::Runtime) -> Cache<String, u64> {
    let cache = instance
        .cache::<String, u64>("accounts")
        .capacity(CAPACITY)
        .ttl(Duration::from_secs(3600))
        // One call and one task for each chunk: what tasks leave behind is not the entries'.
        .batch_loader(|keys: Vec<String>| async {
            Ok(keys.into_iter().map(|key| (key, 7_u64)).collect())
        })
        .build()
        .expect("a valid cache");
    for n in (0..ENTRIES).step_by(1_000) {
        let chunk = (n..n + 1_000).map(|n| format!("account:{n:016}"));
        assert_eq!(runtime.block_on(cache.preload(chunk)).failed, 0);
    }
    cache
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let _guard = runtime.enter();
    record_metrics();
    let before = Allocations::now().bytes;
    let instance = runtime
        .block_on(Instance::start(Settings::default()))
        .expect("starts");
    let fixed = Allocations::now().bytes - before;
    let mut rows = Vec::new();
    let mut row = |name: &str, bytes: f64, held: usize| {
        rows.push(vec![
            name.to_owned(),
            format!("{bytes:.1}"),
            held.to_string(),
        ]);
        bytes
    };

    let (cache, size, held) = bytes(
        || {
            let cache = quick_cache::sync::Cache::<String, u64>::new(CAPACITY);
            keys(ENTRIES)
                .into_iter()
                .for_each(|key| cache.insert(key, 7));
            cache
        },
        quick_cache::sync::Cache::len,
    );
    drop(cache);
    let raw = row("quick_cache", size, held);
    let (cache, size, held) = bytes(
        || ours(&instance, &runtime),
        |cache| cache.stats().entries as usize,
    );
    drop(cache);
    let mine = row("unstale", size, held);
    let (cache, size, held) = bytes(
        || {
            let cache = moka::sync::Cache::<String, u64>::builder()
                .max_capacity(CAPACITY as u64)
                .time_to_live(Duration::from_secs(3600))
                .build();
            keys(ENTRIES)
                .into_iter()
                .for_each(|key| cache.insert(key, 7));
            cache.run_pending_tasks();
            cache
        },
        |cache| cache.entry_count() as usize,
    );
    drop(cache);
    row("moka, TTL", size, held);
    let (cache, size, held) = bytes(
        || {
            let cache =
                foyer_memory::CacheBuilder::new(CAPACITY).build::<foyer_memory::CacheProperties>();
            for key in keys(ENTRIES) {
                cache.insert(key, 7_u64);
            }
            cache
        },
        foyer_memory::Cache::usage,
    );
    drop(cache);
    row("foyer-memory", size, held);

    let mut report = Report::new("Memory: 24-byte String key, u64 value, a million entries");
    report.table(
        &format!(
            "Bytes asked of the allocator an entry, the cache's own tables included; raw data 56. An \
             instance with its stamps takes {} KiB besides.",
            fixed / 1024
        ),
        &["cache", "bytes an entry", "entries held"],
        rows,
    );
    report.goal(
        "memory an entry, 24-byte key, u64 value, 1M entries",
        "raw quick_cache + 24 B",
        format!("{mine:.0} B, quick_cache {raw:.0} B: + {:.0} B", mine - raw),
        mine <= raw + 24.0,
    );
    let (blocks, unready) = allocations_of_hits(&instance, &runtime);
    report.goal(
        "`get` on a hit",
        "no allocation beyond `V::clone`, ready at first poll",
        format!("{blocks} allocations and {unready} polls without an answer in {HITS} hits"),
        blocks == 0 && unready == 0,
    );
    report.print();
}

/// Allocations, and polls that were not ready; background tasks do not run meanwhile, on a
/// current-thread runtime.
fn allocations_of_hits(instance: &Instance, runtime: &tokio::runtime::Runtime) -> (u64, u64) {
    let cache = instance
        .cache::<String, Arc<[u8; 256]>>("hits")
        .loader(|_: String| async { Ok(Arc::new([7; 256])) })
        .build()
        .expect("a valid cache");
    let keys = keys(100);
    let all = keys.iter().cloned();
    assert_eq!(runtime.block_on(cache.preload(all)).failed, 0);
    let mut context = Context::from_waker(Waker::noop());
    let mut unready = 0;
    let mut hit = |key: &String| match pin!(cache.get(key)).poll(&mut context) {
        Poll::Ready(found) => assert!(found.expect("loads").is_some()),
        Poll::Pending => unready += 1,
    };
    hit(&keys[0]); // The thread's own counters are made at its first hit.
    let before = Allocations::now().blocks;
    keys.iter().cycle().take(HITS as usize).for_each(&mut hit);
    let blocks = Allocations::now().blocks - before;
    (blocks, unready)
}
