//! Whatever of the user's code a cache runs, it runs it under no lock of this crate.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::sleep;

use crate::lock::held;
use crate::{BoxError, Cache, Instance, Key, KeyEncoder, Loaded, LocalBus, Settings, testing};

/// Calls of the user's code, and those of them that found a lock held. Not an assertion: a panic there
/// would be contained.
static CALLS: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicU64 = AtomicU64::new(0);

fn look() {
    CALLS.fetch_add(1, Relaxed);
    HELD.fetch_add(u64::from(held()), Relaxed);
}

/// A key and a value all of whose methods look.
#[derive(Debug)]
struct Wary(u64);

impl Clone for Wary {
    fn clone(&self) -> Self {
        look();
        Self(self.0)
    }
}

impl PartialEq for Wary {
    fn eq(&self, other: &Self) -> bool {
        look();
        self.0 == other.0
    }
}

impl Eq for Wary {}

impl std::hash::Hash for Wary {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        look();
        self.0.hash(state);
    }
}

impl Drop for Wary {
    fn drop(&mut self) {
        look();
    }
}

impl Key for Wary {
    fn encode(&self, out: &mut KeyEncoder) {
        look();
        self.0.encode(out);
    }
}

/// Every thirteenth key does not exist, every eleventh cannot be loaded.
async fn load(key: Wary) -> Result<Loaded<Wary>, BoxError> {
    look();
    sleep(Duration::from_millis(3)).await;
    look();
    match key.0 {
        n if n % 11 == 0 => Err("it cannot be loaded".into()),
        n if n % 13 == 0 => Ok(Loaded::new(None)),
        n => Ok(Loaded::new(Wary(n)).tag(format!("t{}", n % 3))),
    }
}

fn cache(instance: &Instance, name: &str, batches: bool) -> Cache<Wary, Wary> {
    let cache = instance
        .cache::<Wary, Wary>(name)
        .capacity(20)
        .ttl(Duration::from_millis(400))
        .refresh_ahead(0.3)
        .stale_if_error(Duration::from_secs(2))
        .unknown_loads(100_000)
        .max_bytes(10_000)
        .weigher(|key: &Wary, value: &Wary| {
            look();
            u64::from(key.0 == value.0) + 99
        })
        .audit(|served: &Wary, source: &Wary| {
            look();
            served == source
        })
        .reap_interval(Duration::from_millis(100))
        .loader(load);
    #[cfg(feature = "shared")]
    let cache = cache.tier(crate::SharedTier::projection(
        |value: &Wary| {
            look();
            value.0
        },
        |stored: u64| {
            look();
            Wary(stored)
        },
    ));
    let cache = if batches {
        cache.batch_loader(async |keys: Vec<Wary>| {
            look();
            let pairs = keys.into_iter().map(|key| (key.clone(), Wary(key.0)));
            Ok(pairs.collect())
        })
    } else {
        cache
    };
    cache.build().expect("a cache")
}

async fn use_everything(of: &Cache<Wary, Wary>, peer: &Cache<Wary, Wary>, round: u64) {
    let reads = (0..40).map(|n| {
        let cache = of.clone();
        tokio::spawn(async move {
            let _ = cache.get(&Wary(n)).await;
            let _ = cache.lookup_latest(&Wary(n)).await;
            let _ = cache.peek(&Wary(n));
            let own = async move { Ok(Wary(n)) };
            let _ = cache.get_with(&Wary(n + 50), own).await;
        })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.expect("no read panics");
    }
    let keys: Vec<_> = (20..60).map(Wary).collect();
    let _ = of.get_many(&keys).await;
    let commit = async { Ok::<_, io::Error>(()) };
    let _ = of.write(&Wary(round), commit).await;
    let _ = peer.invalidate(&Wary(round + 1)).await;
    let _ = peer.invalidate_tag("t1").await;
    sleep(Duration::from_millis(150)).await;
    let _ = of.get_many(&keys).await;
    if round % 4 == 3 {
        let _ = peer.invalidate_all().await;
        sleep(Duration::from_millis(600)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_users_code_runs_under_no_lock_of_this_crate() {
    let bus = LocalBus::default();
    let settings = Settings {
        audit: Some(1.0),
        ..Settings::default()
    };
    let start = async || {
        testing::start_on(&bus, settings.clone())
            .await
            .expect("it starts")
    };
    let (a, b) = (start().await, start().await);
    for (name, batches) in [("single", false), ("batches", true)] {
        let (of, peer) = (cache(&a, name, batches), cache(&b, name, batches));
        for round in 0..12 {
            use_everything(&of, &peer, round).await;
            use_everything(&peer, &of, round).await;
        }
        let stats = of.stats();
        assert!(
            stats.evictions > 50 && stats.hits > 50 && stats.loads > 50,
            "{stats:?}"
        );
        drop((of, peer));
        sleep(Duration::from_secs(1)).await;
    }
    assert!(CALLS.load(Relaxed) > 50_000, "{CALLS:?}");
    assert_eq!(HELD.load(Relaxed), 0, "of {CALLS:?}");
    // What a look finds where a lock is held.
    let lock = crate::lock::Lock::new(());
    let guard = lock.lock();
    look();
    drop(guard);
    assert_eq!(HELD.load(Relaxed), 1);
}
