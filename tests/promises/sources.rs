//! Sources that hang, fail, are slow, or answer in part: what readers get meanwhile, and what the source is asked.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;
use unstale::{
    Cache, CacheBuilder, ErrorKind, Instance, Loaded, LocalBus, Lookup, Outcome, Settings, testing,
};

use crate::support::logged::Logged;
use crate::support::nodes::{alone, metric, ms, pass};

/// How the source is.
const WELL: u64 = 0;
const HANGS: u64 = 1;
const FAILS: u64 = 2;

/// A source whose rows are their keys, and how often it was asked.
#[derive(Clone, Default)]
struct Database(Arc<(AtomicU64, AtomicU64)>);

impl Database {
    fn is(&self, how: u64) {
        self.0.0.store(how, Relaxed);
    }

    fn asked(&self) -> u64 {
        self.0.1.load(Relaxed)
    }

    async fn row(&self, key: u64) -> io::Result<u64> {
        self.0.1.fetch_add(1, Relaxed);
        match self.0.0.load(Relaxed) {
            HANGS => std::future::pending().await,
            FAILS => Err(io::Error::other("the database is down")),
            _ => Ok(key),
        }
    }
}

fn rows(instance: &Instance, database: &Database) -> CacheBuilder<u64, u64> {
    let database = database.clone();
    instance
        .cache::<u64, u64>("rows")
        .ttl(ms(10_000))
        .ttl_jitter(0.0)
        .loader(move |key: u64| {
            let database = database.clone();
            async move { Ok(Loaded::new(database.row(key).await?).tag("rows")) }
        })
}

/// A read, and how long it took.
async fn timed(cache: &Cache<u64, u64>, key: u64) -> (Result<Lookup<u64>, ErrorKind>, Duration) {
    let began = Instant::now();
    let found = cache.lookup(&key).await.map_err(|error| error.kind());
    (found, began.elapsed())
}

/// Row 1 is in memory, past its TTL, and the lane is verified.
async fn expired(cache: &Cache<u64, u64>) {
    cache.get(&1).await.unwrap();
    pass(ms(10_001)).await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_hangs_keeps_no_reader_of_a_held_key_waiting() {
    let (_bus, instance) = alone().await;
    let database = Database::default();
    let cache = rows(&instance, &database)
        .stale_if_error(ms(3_600_000))
        .build()
        .unwrap();
    expired(&cache).await;
    database.is(HANGS);
    let asked = database.asked();
    let began = Instant::now();
    let mut reads = 0;
    while began.elapsed() < Duration::from_secs(30) {
        let (found, took) = timed(&cache, 1).await;
        let found = found.unwrap();
        assert_eq!((found.value, found.outcome), (Some(1), Outcome::Stale));
        let most = if reads == 0 { ms(300) } else { ms(20) };
        assert!(took <= most, "read {reads}: {took:?}");
        reads += 1;
        pass(ms(10)).await;
    }
    let asked = database.asked() - asked;
    assert!(
        (2..=30).contains(&asked),
        "{asked} loads in 30 s of {reads} reads"
    );
    assert!(metric(&instance, r#"unstale_stale_if_slow_total{cache="rows"}"#) > 0);
    // It is back, and the next probe finds it.
    database.is(WELL);
    pass(ms(6_001)).await;
    cache.get(&1).await.unwrap();
    pass(ms(1)).await;
    assert_eq!(cache.lookup(&1).await.unwrap().outcome, Outcome::Hit);
}

#[tokio::test(start_paused = true)]
async fn one_key_after_another_waits_no_longer_for_a_database_that_hangs() {
    let (_bus, instance) = alone().await;
    let database = Database::default();
    let cache = rows(&instance, &database)
        .stale_if_error(ms(3_600_000))
        .build()
        .unwrap();
    let keys: Vec<u64> = (0..1_000).collect();
    cache.get_many(&keys).await.unwrap();
    pass(ms(10_001)).await;
    database.is(HANGS);
    for key in keys {
        let (found, took) = timed(&cache, key).await;
        assert_eq!(found.unwrap().value, Some(key));
        let most = if key == 0 { ms(300) } else { ms(20) };
        assert!(took <= most, "{key}: {took:?}");
    }
    // Well again, a load brings a value, and reads wait for theirs.
    database.is(WELL);
    pass(ms(6_001)).await;
    cache.get(&2_000).await.unwrap();
    pass(ms(10_001)).await;
    assert_eq!(cache.lookup(&7).await.unwrap().outcome, Outcome::Miss);
}

#[tokio::test(start_paused = true)]
async fn without_an_old_value_readers_of_a_database_that_hangs_get_the_last_error_and_no_queue() {
    let (_bus, instance) = alone().await;
    let database = Database::default();
    let cache = rows(&instance, &database).build().unwrap();
    database.is(HANGS);
    let (found, took) = timed(&cache, 1).await;
    assert_eq!(
        (found.map(|it| it.value), took),
        (Err(ErrorKind::LoadTimeout), ms(5_000))
    );
    let (mut slow, mut reads) = (0, 0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        let four = [1; 4].map(|key| {
            let cache = cache.clone();
            tokio::spawn(async move { timed(&cache, key).await })
        });
        for read in four {
            let (found, took) = read.await.unwrap();
            assert_eq!(found.map(|it| it.value), Err(ErrorKind::LoadTimeout));
            assert!(took <= ms(300), "{took:?}");
            slow += u32::from(took > ms(20));
            reads += 1;
        }
        pass(ms(10)).await;
    }
    assert!(
        slow * 100 <= reads,
        "{slow} of {reads} took longer than 20 ms"
    );
    assert!((2..=30).contains(&database.asked()));
    // It is back: the read that asks gets the row.
    database.is(WELL);
    pass(ms(6_001)).await;
    assert_eq!(cache.get(&1).await.unwrap(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn many_keys_at_once_wait_no_longer_for_a_database_that_hangs() {
    let (_bus, instance) = alone().await;
    let database = Database::default();
    let cache = rows(&instance, &database)
        .stale_if_error(ms(3_600_000))
        .build()
        .unwrap();
    let keys: Vec<u64> = (0..500).collect();
    cache.get_many(&keys).await.unwrap();
    pass(ms(10_001)).await;
    database.is(HANGS);
    for most in [300, 20, 20] {
        let began = Instant::now();
        let found = cache.get_many(&keys).await.unwrap();
        assert_eq!(found, keys.iter().copied().map(Some).collect::<Vec<_>>());
        assert!(began.elapsed() <= ms(most), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_invalidation_no_old_value_is_served_while_a_load_takes_long() {
    let (_bus, instance) = alone().await;
    let database = Database::default();
    let cache = rows(&instance, &database)
        .stale_if_error(ms(3_600_000))
        .build()
        .unwrap();
    for by_tag in [false, true] {
        database.is(WELL);
        pass(ms(10_001)).await;
        expired(&cache).await;
        database.is(HANGS);
        let (found, _) = timed(&cache, 1).await;
        assert_eq!(found.unwrap().outcome, Outcome::Stale);
        if by_tag {
            cache.invalidate_tag("rows").await.unwrap();
        } else {
            cache.invalidate(&1).await.unwrap();
        }
        let (found, took) = timed(&cache, 1).await;
        assert_eq!(found.map(|it| it.value), Err(ErrorKind::LoadTimeout));
        // The tags of a load are not known before it ends: a load whose tag was invalidated goes on.
        let expected = if by_tag { ms(4_750) } else { ms(5_000) };
        assert_eq!(took, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_expired_entry_or_switched_off_a_read_waits_for_its_load() {
    let (_bus, instance) = alone().await;
    let database = Database::default();
    let builder = rows(&instance, &database).stale_if_error(ms(3_600_000));
    let cache = builder.stale_if_slow(None).build().unwrap();
    expired(&cache).await;
    database.is(HANGS);
    for (key, value) in [(1, Ok(Some(1))), (2, Err(ErrorKind::LoadTimeout))] {
        let (found, took) = timed(&cache, key).await;
        assert_eq!(found.map(|it| it.value), value);
        assert_eq!(took, ms(5_000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_at_once_is_asked_once_a_second_however_many_ask() {
    let (_bus, instance) = alone().await;
    let database = Database::default();
    let held = rows(&instance, &database)
        .stale_if_error(ms(3_600_000))
        .build()
        .unwrap();
    expired(&held).await;
    let plain = instance.cache::<u64, u64>("plain");
    let (of, keys) = (database.clone(), [1, 2, 3]);
    let loader = move |key: u64| {
        let database = of.clone();
        async move { Ok(database.row(key).await?) }
    };
    let plain = plain.loader(loader).build().unwrap();
    database.is(FAILS);
    let asked = database.asked();
    for _ in 0..1_000 {
        assert_eq!(held.get(&1).await.unwrap(), Some(1));
        let error = plain.get(&1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Load);
        assert!(format!("{error:#}").contains("plain"), "{error:#}");
        assert!(
            format!("{error:#}").contains("the database is down"),
            "{error:#}"
        );
        assert!(plain.get_many(keys).await.is_err());
        pass(ms(10)).await;
    }
    // Ten seconds, four keys.
    let asked = database.asked() - asked;
    assert!((36..=44).contains(&asked), "{asked}");
    // An invalidation, or a load of one's own, does not have to wait.
    assert!(plain.get_many([8, 9]).await.is_err());
    database.is(WELL);
    assert!(plain.get(&8).await.is_err());
    let own = async { Ok(7) };
    assert_eq!(plain.get_with(&8, own).await.unwrap(), Some(7));
    plain.invalidate(&9).await.unwrap();
    assert_eq!(plain.get(&9).await.unwrap(), Some(9));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_is_logged_with_its_cache_and_its_cause() {
    let logged = Logged::at("warn");
    let (_bus, instance) = alone().await;
    let database = Database::default();
    let cache = rows(&instance, &database).build().unwrap();
    database.is(FAILS);
    for key in 0..50 {
        assert!(cache.get(&key).await.is_err());
    }
    let lines = logged.with("a load failed");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("rows") && lines[0].contains("the database is down"),
        "{lines:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn errors_are_not_kept_where_that_is_switched_off() {
    let (_bus, instance) = alone().await;
    let database = Database::default();
    let cache = rows(&instance, &database)
        .error_ttl(Duration::ZERO)
        .build()
        .unwrap();
    database.is(FAILS);
    for asked in 1..10 {
        assert!(cache.get(&1).await.is_err());
        assert_eq!(database.asked(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_of_ten_thousand_keys_takes_as_long_as_its_loads_and_names_what_failed() {
    let (_bus, instance) = alone().await;
    let cache = instance
        .cache::<u64, u64>("rows")
        .loader(|key: u64| async move {
            tokio::time::sleep(ms(400)).await;
            if key == 5_000 {
                return Err("this one is broken".into());
            }
            Ok(key)
        })
        .ttl(ms(3_600_000))
        .capacity(20_000)
        .build()
        .unwrap();
    let began = Instant::now();
    let warm = cache.preload(0..10_000).await;
    let took = began.elapsed();
    assert!(took <= Duration::from_secs(63), "{took:?}");
    assert_eq!((warm.failed, warm.did_not_fit), (1, 0));
    assert_eq!(warm.held, 9_999);
    assert!(
        warm.error
            .is_some_and(|error| format!("{error:#}").contains("broken"))
    );
    cache.invalidate_all().await.unwrap();
    let keys: Vec<u64> = (0..1_000).collect();
    assert!(
        cache
            .get_many(&keys)
            .await
            .unwrap()
            .iter()
            .all(Option::is_some)
    );
}

/// `None` is no parent.
fn family(instance: &Instance) -> Cache<u64, u64> {
    let slot: Arc<std::sync::OnceLock<Cache<u64, u64>>> = Arc::default();
    let own = slot.clone();
    let cache = instance
        .cache::<u64, u64>("family")
        .loader(move |key: u64| {
            let own = own.clone();
            async move {
                tokio::time::sleep(ms(10)).await;
                // Children read their parent; 900 is its own, 901 and 902 are each other's.
                let parent = match key {
                    0 => return Ok(0),
                    901 => 902,
                    902 => 901,
                    900 => 900,
                    _ => 0,
                };
                let parent = own.get().unwrap().get(&parent).await?;
                Ok(parent.unwrap_or_default() + key)
            }
        })
        .build()
        .unwrap();
    slot.set(cache.clone()).ok().unwrap();
    cache
}

#[tokio::test(start_paused = true)]
async fn loaders_that_read_their_own_cache_do_not_wait_for_each_others_places() {
    let (_bus, instance) = alone().await;
    let cache = family(&instance);
    let began = Instant::now();
    let mut reads = tokio::task::JoinSet::new();
    for child in 1..=64 {
        let cache = cache.clone();
        reads.spawn(async move { cache.get(&child).await.unwrap() });
    }
    // One that is not nested has the parent's load under way, and waits for a place.
    let parent = cache.clone();
    reads.spawn(async move { parent.get(&0).await.unwrap() });
    let found = reads.join_all().await;
    assert_eq!(found.len(), 65);
    assert!(found.iter().all(Option::is_some));
    assert!(began.elapsed() <= ms(100), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_loads_itself_is_an_error_at_once() {
    let (_bus, instance) = alone().await;
    let cache = family(&instance);
    for key in [900, 901] {
        let (found, took) = timed(&cache, key).await;
        assert_eq!(found.map(|it| it.value), Err(ErrorKind::Load));
        assert!(took <= ms(100), "{took:?}");
        pass(ms(2_000)).await;
        let error = cache.get(&key).await.unwrap_err();
        assert!(
            format!("{error:#}").contains("reads the key that it loads"),
            "{error:#}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_half_fails_keeps_the_half_that_was_found() {
    let (_bus, instance) = alone().await;
    let down = Arc::new(AtomicU64::new(1));
    let shard = down.clone();
    let cache = instance
        .cache::<u64, u64>("keys")
        .batch_loader(move |keys: Vec<u64>| {
            let down = shard.load(Relaxed) == 1;
            async move {
                let row = |key: u64| match key % 3 {
                    0 if down => Err(io::Error::other("shard 0 is down")),
                    1 => Ok(None),
                    _ => Ok(Some(key)),
                };
                Ok(keys
                    .into_iter()
                    .map(|key| (key, row(key)))
                    .collect::<Vec<_>>())
            }
        })
        .build()
        .unwrap();
    let keys: Vec<u64> = (0..300).collect();
    let error = cache.get_many(&keys).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("shard 0 is down"),
        "{error:#}"
    );
    let found: BTreeMap<u64, Option<u64>> =
        keys.iter().map(|key| (*key, cache.peek(key))).collect();
    for (key, value) in found {
        assert_eq!(value, (key % 3 == 2).then_some(key));
    }
    assert_eq!(cache.lookup(&1).await.unwrap().outcome, Outcome::Negative);
    // The shard is back: nothing says that its keys do not exist.
    down.store(0, Relaxed);
    pass(ms(1_001)).await;
    assert_eq!(cache.get(&3).await.unwrap(), Some(3));
    assert_eq!(
        cache.get_many([0, 3, 6]).await.unwrap(),
        [Some(0), Some(3), Some(6)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_loader_is_given_what_is_held_and_may_say_that_it_is_unchanged() {
    let (_bus, instance) = alone().await;
    let (etag, bodies) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
    let (now, sent) = (etag.clone(), bodies.clone());
    let cache = instance
        .cache::<u64, u64>("pages")
        .ttl(ms(10_000))
        .ttl_jitter(0.0)
        .loader_with_held(move |_: u64, held: Option<u64>| {
            let (now, sent) = (now.load(Relaxed), sent.clone());
            async move {
                if held == Some(now) {
                    return Ok(Loaded::unchanged());
                }
                sent.fetch_add(1, Relaxed);
                Ok(Loaded::new(now).tag("page"))
            }
        })
        .build()
        .unwrap();
    for _ in 0..5 {
        assert_eq!(cache.get(&1).await.unwrap(), Some(1));
        assert_eq!(
            cache.lookup(&1).await.unwrap().outcome,
            Outcome::Hit,
            "it is renewed"
        );
        pass(ms(10_001)).await;
    }
    assert_eq!(bodies.load(Relaxed), 1, "nothing is transferred twice");
    etag.store(2, Relaxed);
    assert_eq!(cache.get(&1).await.unwrap(), Some(2));
    pass(ms(10_001)).await;
    assert_eq!(cache.get(&1).await.unwrap(), Some(2));
    // A renewed entry has its tags, and after an invalidation nothing is held.
    cache.invalidate_tag("page").await.unwrap();
    assert_eq!(cache.peek(&1), None);
    cache.invalidate(&1).await.unwrap();
    assert_eq!(cache.get(&1).await.unwrap(), Some(2));
    assert_eq!(bodies.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn unchanged_of_nothing_fails_the_load() {
    let (_bus, instance) = alone().await;
    let load = |_: u64, _: Option<u64>| async { Ok(Loaded::unchanged()) };
    let cache = instance.cache::<u64, u64>("pages").loader_with_held(load);
    let error = cache.build().unwrap().get(&1).await.unwrap_err();
    assert!(format!("{error:#}").contains("unchanged"), "{error:#}");
}

#[tokio::test(start_paused = true)]
async fn half_of_the_capacity_may_not_exist_and_is_loaded_once() {
    let (_bus, instance) = alone().await;
    let database = Database::default();
    let asks = database.clone();
    let cache = instance
        .cache::<u64, u64>("users")
        .loader(move |key: u64| {
            let database = asks.clone();
            async move {
                database.row(key).await?;
                Ok(None)
            }
        })
        .negative_ttl(ms(600_000))
        .build()
        .unwrap();
    for _ in 0..3 {
        for key in 0..5_000 {
            assert_eq!(cache.get(&key).await.unwrap(), None);
        }
    }
    assert_eq!(database.asked(), 5_000);
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_is_given_nine_times_counts_once() {
    let (_bus, instance) = alone().await;
    let cache = instance
        .cache::<u64, u64>("tagged")
        .loader(|key: u64| async move { Ok(Loaded::new(key).tags(["t"; 9])) })
        .build()
        .unwrap();
    assert_eq!(cache.get(&1).await.unwrap(), Some(1));
    assert_eq!(cache.lookup(&1).await.unwrap().outcome, Outcome::Hit);
    cache.invalidate_tag("t").await.unwrap();
    assert_eq!(cache.lookup(&1).await.unwrap().outcome, Outcome::Miss);
}

#[tokio::test(start_paused = true)]
async fn the_entries_that_fit_into_a_bound_of_bytes_do_not_depend_on_the_machine() {
    let (_bus, instance) = alone().await;
    let cache = instance
        .cache::<u64, u64>("files")
        .loader(|bytes: u64| async move { Ok(bytes) })
        .weigher(|_, bytes| *bytes)
        .max_bytes(16 << 20)
        .build()
        .unwrap();
    for (bytes, fits) in [
        (2 << 20, true),
        (16 * 1024 * 1024 / 5, true),
        (8 << 20, false),
    ] {
        cache.get(&bytes).await.unwrap();
        assert_eq!(cache.peek(&bytes).is_some(), fits, "{bytes}");
    }
    assert_eq!(
        metric(&instance, r#"unstale_oversized_total{cache="files"}"#),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_bulk_of_any_size_drops_its_keys_and_nothing_else() {
    let bus = LocalBus::default();
    let mut settings = Settings::default();
    settings.outbox = 2_048;
    let mut fleet = Vec::new();
    for _ in 0..2 {
        let instance = testing::start_on(&bus, settings.clone()).await.unwrap();
        let cache = instance
            .cache::<u64, u64>("rows")
            .capacity(50_000)
            .ttl(ms(3_600_000))
            .batch_loader(|keys: Vec<u64>| async move {
                Ok(keys.into_iter().map(|key| (key, key)).collect::<Vec<_>>())
            })
            .build()
            .unwrap();
        assert_eq!(cache.preload(0..20_000).await.held, 20_000);
        fleet.push((instance, cache));
    }
    let (first, cache) = &fleet[0];
    let published = cache.invalidate_many(0..13_000_u64);
    // Here it acts at the call.
    assert_eq!(cache.peek(&12_999), None);
    published.await.unwrap();
    pass(ms(1)).await;
    for (instance, cache) in &fleet {
        let held = (0..20_000).filter(|key| cache.peek(key).is_some());
        assert!(held.eq(13_000..20_000));
        for to in ["cache", "lane"] {
            let series = format!("unstale_outbox_collapses_total{{to=\"{to}\"}}");
            assert_eq!(metric(instance, &series), 0, "{to}");
        }
    }
    // A call that is dropped goes on, and a shutdown waits for it.
    drop(cache.invalidate_many(13_000..20_000_u64));
    first.shutdown().await.unwrap();
    pass(ms(1)).await;
    assert!((0..20_000).all(|key| fleet[1].1.peek(&key).is_none()));
}
