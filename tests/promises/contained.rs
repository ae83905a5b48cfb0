//! Code of the user that runs inside of a cache: a panic costs one value, and a look into the cache
//! from within a drop returns.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use unstale::internals::{Mechanism, Without};
use unstale::testing;
use unstale::{Cache, Instance, InstanceState, LocalBus, Settings};

use crate::support::nodes::{alone, metric, ms, pass};

/// What drops do: each takes one from the fuse, and the one that takes the last panics.
#[derive(Clone, Default)]
struct Fuse(Arc<AtomicU64>);

impl Fuse {
    fn light(&self, drops: u64) {
        self.0.store(drops, SeqCst);
    }

    fn left(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

/// A value whose drop may panic.
#[derive(Clone)]
struct Fused(Fuse);

impl Drop for Fused {
    fn drop(&mut self) {
        let one_less = |left: u64| left.checked_sub(1);
        let last = self.0.0.fetch_update(SeqCst, SeqCst, one_less) == Ok(1);
        assert!(
            !last,
            "the drop of a value panics, as this test wants it to"
        );
    }
}

fn fused(instance: &Instance, fuse: &Fuse) -> Cache<u64, Fused> {
    let fuse = fuse.clone();
    let cache = instance.cache::<u64, Fused>("fused").loader(move |_: u64| {
        let value = Fused(fuse.clone());
        async move { Ok(value) }
    });
    cache.build().unwrap()
}

/// A peer invalidates a value whose drop panics. Returns whether the reader's instance goes on.
async fn goes_on_after_a_panic_in_a_drop() -> bool {
    let bus = LocalBus::default();
    let start = async || testing::start_on(&bus, Settings::default()).await.unwrap();
    let (reader, writer, fuse) = (start().await, start().await, Fuse::default());
    let (read, written) = (fused(&reader, &fuse), fused(&writer, &fuse));
    for key in 0..3 {
        read.get(&key).await.unwrap();
    }
    fuse.light(1);
    written.invalidate(&1).await.unwrap();
    pass(ms(50)).await;
    assert_eq!(fuse.left(), 0, "the value was dropped");
    assert!(read.peek(&1).is_none() && read.peek(&2).is_some());
    for _ in 0..20 {
        pass(ms(500)).await;
        let _ = read.get(&0).await.unwrap();
    }
    let health = reader.health();
    let verified = health.verified_age.iter().all(|age| *age < Some(ms(1_000)));
    assert_eq!(
        verified,
        health.state == InstanceState::Coherent,
        "health is true"
    );
    written.invalidate(&2).await.unwrap();
    pass(ms(50)).await;
    verified && read.peek(&2).is_none()
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_drop_on_a_peers_invalidation_costs_that_value_only() {
    assert!(goes_on_after_a_panic_in_a_drop().await);
}

#[tokio::test(start_paused = true)]
async fn without_contained_panics_one_drop_ends_the_link() {
    let _without = Without::new(Mechanism::ContainedPanics);
    assert!(!goes_on_after_a_panic_in_a_drop().await);
}

/// Evicts values whose drops panic. Returns whether every key can be read afterwards.
async fn survives_evictions_that_panic() -> bool {
    let (_bus, instance) = alone().await;
    let fuse = Fuse::default();
    let quiet = Fuse::default();
    let cache = instance
        .cache::<u64, Fused>("small")
        .capacity(4)
        .max_staleness(None)
        .loader({
            let (fuse, quiet) = (fuse.clone(), quiet.clone());
            move |key: u64| {
                let value = Fused(if key < 4 { fuse.clone() } else { quiet.clone() });
                async move { Ok(value) }
            }
        });
    let cache = cache.build().unwrap();
    let read = async |keys: std::ops::Range<u64>| {
        let mut all = true;
        for key in keys {
            // Twice: what is asked for again pushes out what was there first.
            for _ in 0..2 {
                let cache = cache.clone();
                let read = tokio::spawn(async move { cache.get(&key).await.is_ok() });
                all &= read.await.unwrap_or(false);
            }
        }
        all
    };
    assert!(read(0..4).await);
    fuse.light(1);
    let evicted = read(10..30).await;
    assert_eq!(fuse.left(), 0, "one of the four was evicted");
    let all = evicted && read(0..30).await && read(0..30).await;
    all && cache.stats().entries <= 4
}

#[tokio::test(start_paused = true)]
async fn an_eviction_whose_drop_panics_leaves_every_key_readable() {
    assert!(survives_evictions_that_panic().await);
}

/// A value whose drop looks at its own cache.
#[derive(Clone)]
struct Curious(Arc<OnceLock<Cache<u64, Curious>>>);

thread_local! {
    /// What a look finds is dropped as well, and would look in turn.
    static LOOKS: Cell<bool> = const { Cell::new(false) };
}

impl Drop for Curious {
    fn drop(&mut self) {
        if let Some(cache) = self.0.get()
            && !LOOKS.replace(true)
        {
            for key in 0..8 {
                drop(cache.peek(&key));
            }
            let _ = cache.stats();
            LOOKS.set(false);
        }
    }
}

/// Runs this on a thread of its own under a paused clock; false if it hangs there.
fn returns<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) -> bool {
    let (done, waits) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(work());
        let _ = done.send(());
    });
    waits.recv_timeout(Duration::from_secs(60)).is_ok()
}

async fn curious(capacity: usize) -> Cache<u64, Curious> {
    let (_bus, instance) = alone().await;
    let own = Arc::new(OnceLock::new());
    let held = own.clone();
    let cache = instance
        .cache::<u64, Curious>("curious")
        .capacity(capacity)
        .ttl(ms(5_000))
        .max_staleness(None)
        .loader(move |_: u64| {
            let value = Curious(held.clone());
            async move { Ok(value) }
        });
    let cache = cache.build().unwrap();
    let _ = own.set(cache.clone());
    cache
}

#[test]
fn an_evicted_value_may_look_into_its_cache_when_it_is_dropped() {
    assert!(returns(|| async {
        let cache = curious(4).await;
        for key in 0..100 {
            cache.get(&key).await.unwrap();
        }
        assert!(cache.stats().evictions >= 90);
    }));
}

#[test]
fn replaced_and_invalidated_values_may_look_into_their_cache_when_they_are_dropped() {
    assert!(returns(|| async {
        let cache = curious(100).await;
        for _ in 0..3 {
            for key in 0..8 {
                cache.get(&key).await.unwrap();
            }
            cache.invalidate(&3).await.unwrap();
            cache.invalidate_all().await.unwrap();
        }
    }));
}

#[test]
fn reaped_values_may_look_into_their_cache_when_they_are_dropped() {
    assert!(returns(|| async {
        let cache = curious(10_000).await;
        for key in 0..3_000 {
            cache.get(&key).await.unwrap();
        }
        pass(ms(7_000)).await;
        assert_eq!(cache.stats().entries, 0);
    }));
}

/// The fiftieth of a hundred values panics when the reaper frees it. Returns whether it frees all of them.
async fn frees_all_although_one_panics() -> bool {
    let (_bus, instance) = alone().await;
    let fuse = Fuse::default();
    let cache = fused(&instance, &fuse);
    for _ in 0..3 {
        for key in 0..100 {
            cache.get(&key).await.unwrap();
        }
        fuse.light(50);
        cache.invalidate_all().await.unwrap();
        pass(ms(3_000)).await;
        if (cache.stats().entries, fuse.left()) != (0, 0) {
            // What is left is dropped here.
            fuse.light(0);
            return false;
        }
    }
    true
}

#[tokio::test(start_paused = true)]
async fn a_reaper_whose_value_panics_goes_on_with_the_others() {
    assert!(frees_all_although_one_panics().await);
}

#[tokio::test(start_paused = true)]
async fn without_drops_outside_locks_the_first_panic_ends_the_reaper() {
    let _without = Without::new(Mechanism::DropsOutsideLocks);
    assert!(!frees_all_although_one_panics().await);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_cache_whose_values_panic_ends_nothing_else() {
    let (_bus, instance) = alone().await;
    let (fuse, other) = (Fuse::default(), Fuse::default());
    let cache = fused(&instance, &fuse);
    for key in 0..100 {
        cache.get(&key).await.unwrap();
    }
    fuse.light(50);
    drop(cache);
    pass(ms(2_000)).await;
    assert_eq!(fuse.left(), 0, "all its values were dropped");
    let again = fused(&instance, &other);
    again.get(&1).await.unwrap();
    assert_eq!(instance.health().state, InstanceState::Coherent);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_the_weigher_cannot_weigh_is_served_and_not_stored() {
    let (_bus, instance) = alone().await;
    let cache = instance
        .cache::<u64, u64>("weighed")
        .max_staleness(None)
        .max_bytes(1_000_000)
        .weigher(|key, _| {
            assert!(*key != 13, "a weigher panics, as this test wants it to");
            10
        })
        .loader(|key: u64| async move { Ok(key) });
    let cache = cache.build().unwrap();
    assert_eq!(cache.get(&13).await.unwrap(), Some(13));
    let all = cache.get_many(&[12, 13, 14]).await.unwrap();
    assert_eq!(all, [Some(12), Some(13), Some(14)]);
    assert_eq!((cache.peek(&12), cache.peek(&13)), (Some(12), None));
    assert_eq!(
        metric(&instance, r#"unstale_weight_bytes{cache="weighed"}"#),
        20
    );
}
