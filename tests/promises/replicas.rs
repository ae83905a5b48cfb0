//! Loaders that read from a replica of a source that a relay watches: what is kept of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::{Instant, advance, sleep};
use unstale::internals::{self, SourceLog};
use unstale::testing;
use unstale::{Cache, ErrorKind, Instance, Key, Loaded, LocalBus, Outcome, Settings};

const MINUTE: Duration = Duration::from_secs(60);

/// A source with one row, whose log has a place for each of its versions. The replica has some of them.
#[derive(Clone, Default)]
struct Database {
    versions: Arc<AtomicU64>,
    replayed: Arc<AtomicU64>,
    loads: Arc<AtomicU64>,
}

struct Log {
    of: Database,
    read: u64,
    asked: bool,
}

impl SourceLog for Log {
    fn end(&mut self) -> u64 {
        self.asked = true;
        self.of.versions.load(SeqCst)
    }

    async fn read(&mut self) -> (u64, Vec<(&'static str, u64)>) {
        let upto = loop {
            let upto = self.of.versions.load(SeqCst);
            if upto > self.read || self.asked {
                break upto;
            }
            sleep(Duration::from_millis(5)).await;
        };
        self.asked = false;
        let changed = (self.read < upto).then(|| ("rows", 1_u64.digest().unwrap()));
        self.read = upto;
        (upto, changed.into_iter().collect())
    }
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.verify_interval = Duration::from_millis(100);
    settings.max_staleness = Some(Duration::from_secs(2));
    settings.ttl = MINUTE;
    settings
}

/// An instance with a cache of the source, and a relay that works.
async fn relayed(database: &Database) -> (Instance, Cache<u64, u64>) {
    let bus = LocalBus::default();
    let relay = testing::start_on(&bus, settings()).await.unwrap();
    let of = database.clone();
    let open = move || Log {
        read: of.versions.load(SeqCst),
        of: of.clone(),
        asked: false,
    };
    tokio::spawn(async move {
        let caches = vec!["rows".to_owned()];
        internals::relay(relay, "shop".to_owned(), caches, open).await
    });
    let instance = testing::start_on(&bus, settings()).await.unwrap();
    let cache = instance.cache("rows").source("shop");
    let of = database.clone();
    let cache = cache.loader(move |_: u64| {
        let of = of.clone();
        async move {
            of.loads.fetch_add(1, SeqCst);
            let has = of.replayed.load(SeqCst);
            Ok(Loaded::new(has).as_of(has))
        }
    });
    let cache = cache.build().unwrap();
    (instance, cache)
}

/// Reads until the value comes from memory.
async fn held(cache: &Cache<u64, u64>) -> u64 {
    let mut looked = 0;
    loop {
        let lookup = cache.lookup(&1).await.unwrap();
        if lookup.outcome == Outcome::Hit {
            return lookup.value.unwrap();
        }
        looked += 1;
        assert!(looked < 100, "it never comes from memory");
        advance(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_of_a_replica_is_kept_once_the_relay_has_proven_its_place() {
    let database = Database::default();
    let (_instance, cache) = relayed(&database).await;
    assert_eq!(held(&cache).await, 0);
    let loads = database.loads.load(SeqCst);
    for _ in 0..50 {
        assert_eq!(cache.lookup(&1).await.unwrap().outcome, Outcome::Hit);
        advance(Duration::from_millis(20)).await;
    }
    assert_eq!(database.loads.load(SeqCst), loads);
}

/// The test of a replica that lags: without the moment of its place, the old value would be kept for a TTL.
#[tokio::test(start_paused = true)]
async fn an_answer_of_a_replica_that_lags_is_returned_and_not_kept() {
    let database = Database::default();
    let (_instance, cache) = relayed(&database).await;
    held(&cache).await;
    database.versions.store(1, SeqCst);
    sleep(Duration::from_millis(500)).await;
    for _ in 0..10 {
        let lookup = cache.lookup(&1).await.unwrap();
        assert_eq!((lookup.value, lookup.outcome), (Some(0), Outcome::Miss));
        sleep(Duration::from_millis(200)).await;
    }
    database.replayed.store(1, SeqCst);
    assert_eq!(held(&cache).await, 1);
}

/// The moment is that of a verification before the one that brought the mark.
#[tokio::test(start_paused = true)]
async fn the_age_of_what_is_kept_counts_from_the_moment_of_its_place() {
    let database = Database::default();
    let (_instance, cache) = relayed(&database).await;
    held(&cache).await;
    cache.invalidate(&1).await.unwrap();
    let mut stored_at = Instant::now();
    let age = loop {
        let lookup = cache.lookup(&1).await.unwrap();
        if lookup.outcome == Outcome::Hit {
            break lookup.age;
        }
        stored_at = Instant::now();
        advance(Duration::from_millis(10)).await;
    };
    let behind = age.checked_sub(stored_at.elapsed()).unwrap();
    assert!(behind >= Duration::from_millis(50), "{behind:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_replica_is_kept_where_no_relay_has_proven_anything() {
    let bus = LocalBus::default();
    let instance = testing::start_on(&bus, settings()).await.unwrap();
    let cache = instance.cache::<u64, u64>("rows").source("shop");
    let cache = cache.loader(async |_: u64| Ok(Loaded::new(7).as_of(u64::MAX)));
    let cache = cache.build().unwrap();
    for _ in 0..3 {
        let lookup = cache.lookup(&1).await.unwrap();
        assert_eq!((lookup.value, lookup.outcome), (Some(7), Outcome::Miss));
        sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_without_a_source_fails_the_load_and_says_why() {
    let bus = LocalBus::default();
    let instance = testing::start_on(&bus, settings()).await.unwrap();
    let cache = instance.cache::<u64, u64>("rows");
    let cache = cache.loader(async |_: u64| Ok(Loaded::new(7).as_of(1)));
    let error = cache.build().unwrap().get(&1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
    assert!(error.to_string().contains(".source("), "{error}");
}

/// A cache whose loader reads from a replica, for two seconds after an invalidation from the primary: which was read.
async fn two_loaders(instance: &Instance) -> Cache<u64, &'static str> {
    let cache = instance.cache("rows");
    let cache = cache.loader(async |key: u64| {
        let loaded = Loaded::new("replica");
        Ok(if key == 1 { loaded.tag("odd") } else { loaded })
    });
    let window = Duration::from_secs(2);
    let cache = cache.primary_for(window, async |_: u64| Ok("primary"));
    cache.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_primary_is_read_for_some_time_after_an_invalidation() {
    let bus = LocalBus::default();
    let instance = testing::start_on(&bus, settings()).await.unwrap();
    let peer = testing::start_on(&bus, settings()).await.unwrap();
    let peer = peer.cache::<u64, u64>("rows").build().unwrap();
    let cache = two_loaders(&instance).await;
    let read = async |key| cache.get(&key).await.unwrap().unwrap();
    assert_eq!(
        read(0).await,
        "primary",
        "nothing is known of what was before"
    );
    sleep(Duration::from_millis(2_500)).await;
    assert_eq!((read(1).await, read(2).await), ("replica", "replica"));
    sleep(Duration::from_millis(2_500)).await;
    assert_eq!(read(3).await, "replica");
    peer.invalidate(&1).await.unwrap();
    sleep(Duration::from_millis(1_000)).await;
    assert_eq!((read(1).await, read(4).await), ("primary", "replica"));
    // The tags of a key that is loaded for the first time are not known.
    peer.invalidate_tag("odd").await.unwrap();
    sleep(Duration::from_millis(1_000)).await;
    assert_eq!((read(4).await, read(5).await), ("replica", "primary"));
    sleep(Duration::from_millis(2_500)).await;
    assert_eq!(read(6).await, "replica");
    peer.invalidate_all().await.unwrap();
    sleep(Duration::from_millis(1_000)).await;
    assert_eq!((read(4).await, read(7).await), ("primary", "primary"));
}

#[tokio::test(start_paused = true)]
async fn a_loader_of_the_primary_alone_is_refused_and_the_error_says_what_it_needs() {
    let bus = LocalBus::default();
    let instance = testing::start_on(&bus, settings()).await.unwrap();
    let second = Duration::from_secs(1);
    let primary = async |_: u64| Ok("primary");
    let of = |window| {
        instance
            .cache::<u64, _>("rows")
            .primary_for(window, primary)
    };
    let why = |result: Result<Cache<u64, &str>, unstale::Error>| result.unwrap_err().to_string();
    assert!(why(of(second).build()).contains(".loader("));
    let usual = async |_: u64| Ok("replica");
    assert!(why(of(Duration::ZERO).loader(usual).build()).contains("zero"));
    let many = async |keys: Vec<u64>| {
        Ok(keys
            .into_iter()
            .map(|key| (key, "many"))
            .collect::<Vec<_>>())
    };
    assert!(why(of(second).loader(usual).batch_loader(many).build()).contains("batch_loader"));
}
