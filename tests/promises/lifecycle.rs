//! What an instance starts ends with it, and waiting does not depend on any one runtime.

use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use unstale::{Cache, Error, ErrorKind, Instance, LocalBus, Settings, testing};

use crate::support::nodes::{Node, Source, get, metric, ms, pass};

/// A program may start and use an instance in a task of a multi-threaded runtime.
#[tokio::test]
async fn every_future_can_be_spawned() {
    fn spawnable<F: Future + Send>(_: F) {}
    let start = || Instance::start(Settings::default());
    spawnable(start());
    let instance = start().await.unwrap();
    spawnable(instance.shutdown());
    let Node { cache, .. } = Node::of(instance.clone(), &Source::default());
    spawnable(cache.get(&1));
    spawnable(cache.lookup(&1));
    spawnable(cache.get_with(&1, async { Ok(1) }));
    spawnable(cache.get_many(&[1]));
    spawnable(cache.invalidate(&1));
    spawnable(cache.invalidate_many([&1]));
    spawnable(cache.invalidate_tag("t"));
    spawnable(cache.invalidate_all());
    spawnable(cache.write(&1, async { Ok::<_, io::Error>(()) }));
    spawnable(instance.batch().key(&cache, &1).invalidate());
    spawnable(instance.batch().write(async { Ok::<_, io::Error>(()) }));
}

/// TTLs would never end: they are measured by the kernel's clock.
#[tokio::test(start_paused = true)]
async fn a_start_under_a_paused_clock_panics_and_names_the_start_for_tests() {
    let bus = LocalBus::default();
    let start = tokio::spawn(Instance::start(Settings::default()));
    let on_bus = async move { Instance::start_on(&bus, Settings::default()).await };
    for started in [start.await, tokio::spawn(on_bus).await] {
        let panic = started.expect_err("it panics").into_panic();
        let text = panic.downcast::<String>().map(|text| *text);
        let text = text.or_else(|other| other.downcast::<&str>().map(|text| (*text).to_owned()));
        let text = text.expect("it says why");
        assert!(text.contains("`unstale::testing::start_on`"), "{text}");
    }
    let bus = LocalBus::default();
    assert!(testing::start_on(&bus, Settings::default()).await.is_ok());
}

/// A write of unknown outcome is no handle: its intent stays in Redis, where peers find it.
async fn ends_without_handles(settings: Settings, unknown_write: bool) {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let (bus, source) = (LocalBus::default(), Source::default());
    let node = Node::start(&bus, &source, settings).await;
    source.set(1, 10);
    source.slow(ms(500));
    let load = get(&node.cache, 1);
    if unknown_write {
        let commit = std::future::pending::<Result<(), io::Error>>();
        let write = node.cache.write(&2, commit);
        assert!(tokio::time::timeout(ms(10), write).await.is_err());
    }
    let Node { instance, cache } = node;
    drop(instance);
    assert_eq!(load.await.unwrap().unwrap(), Some(10));
    pass(ms(2_000)).await;
    // A cache keeps its instance going.
    assert!(tasks() > before + 3);
    drop(cache);
    pass(ms(2_000)).await;
    assert_eq!(tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_ends_every_task() {
    ends_without_handles(Settings::default(), false).await;
    ends_without_handles(Settings::default(), true).await;
    let mut settings = Settings::default();
    settings.lanes = 3;
    ends_without_handles(settings, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_tasks_and_is_idempotent() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let bus = LocalBus::default();
    let instance = testing::start_on(&bus, Settings::default()).await.unwrap();
    instance.shutdown().await.unwrap();
    instance.shutdown().await.unwrap();
    pass(ms(200)).await;
    assert_eq!(tasks(), before);
    assert_eq!(instance.health().state, unstale::InstanceState::Closed);
    assert_eq!(metric(&instance, "unstale_connected"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_publishes_what_is_queued_and_says_when_it_could_not() {
    let (bus, source) = (LocalBus::default(), Source::default());
    let a = Node::start(&bus, &source, Settings::default()).await;
    let b = Node::start(&bus, &source, Settings::default()).await;
    source.set(1, 10);
    b.get(1).await;
    source.set(1, 11);
    bus.faults(0).pause_publish();
    drop(a.cache.invalidate(&1));
    let resume = async {
        pass(ms(900)).await;
        bus.faults(0).resume_publish();
    };
    let (ended, ()) = tokio::join!(a.instance.shutdown(), resume);
    ended.unwrap();
    pass(ms(1)).await;
    assert_eq!(b.get(1).await, Some(11));
    bus.faults(1).cut();
    let waiting = b.cache.invalidate(&1);
    let began = tokio::time::Instant::now();
    assert_eq!(
        b.instance.shutdown().await.unwrap_err().kind(),
        ErrorKind::Bus
    );
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(waiting.await.unwrap_err().kind(), ErrorKind::Closed);
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// A load runs on the instance's runtime; a caller that waits may be on any, and the end of that one stops nothing.
#[test]
fn waiting_works_on_any_runtime_and_outlives_it() {
    let home = runtime();
    let (began, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (began_too, release_too) = (began.clone(), release.clone());
    let instance = home
        .block_on(Instance::start_on(
            &LocalBus::default(),
            Settings::default(),
        ))
        .unwrap();
    let cache = instance
        .cache::<u64, u64>("far")
        .loader(move |key: u64| {
            let (began, release) = (began_too.clone(), release_too.clone());
            async move {
                began.notify_one();
                release.notified().await;
                Ok(key)
            }
        })
        .build()
        .unwrap();
    let guest = runtime();
    let gone = guest.spawn({
        let cache = cache.clone();
        async move { cache.get(&1).await }
    });
    home.block_on(began.notified());
    drop((guest, gone));
    let waiting = get_on(&home, &cache);
    release.notify_one();
    assert_eq!(home.block_on(waiting).unwrap().unwrap(), Some(1));
    assert_eq!(cache.stats().loads, 1);
    // The home runtime ends with a load under way: a caller that waits elsewhere gets an error.
    let guest = runtime();
    let waiting = guest.spawn({
        let cache = cache.clone();
        async move { cache.get(&2).await }
    });
    home.block_on(began.notified());
    drop(home);
    let error = guest.block_on(waiting).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

fn get_on(runtime: &Runtime, cache: &Cache<u64, u64>) -> JoinHandle<Result<Option<u64>, Error>> {
    let cache = cache.clone();
    runtime.spawn(async move { cache.get(&1).await })
}

/// A load without a waiting caller is on its way when the last handle of its cache is dropped.
#[tokio::test(start_paused = true)]
async fn a_cache_that_is_dropped_while_it_loads_gives_its_name_back() {
    let (bus, source) = (LocalBus::default(), Source::default());
    let old = Node::start(&bus, &source, Settings::default()).await;
    source.set(1, 10);
    source.set(2, 20);
    old.get(2).await;
    source.slow(ms(500));
    let load = tokio::time::timeout(ms(10), old.cache.get(&1));
    assert!(load.await.is_err());
    let Node { instance, cache } = old;
    drop(cache);
    assert_eq!(metric(&instance, r#"unstale_entries{cache="rows"}"#), 0);
    let new = Node::of(instance, &source);
    source.slow(ms(0));
    assert_eq!((new.get(1).await, new.get(2).await), (Some(10), Some(20)));
    assert_eq!(source.loads(), 4, "nothing of the old cache is left");
    pass(ms(1_000)).await;
    // The old load has ended, its value belongs to no cache, and the gauges are those of the new cache.
    assert_eq!(new.metric(r#"unstale_entries{cache="rows"}"#), 2);
    assert_eq!(new.metric(r#"unstale_loads_in_flight{cache="rows"}"#), 0);
    assert_eq!(
        new.metric(r#"unstale_loads_discarded_total{cache="rows"}"#),
        1
    );
    // And the new cache hears what is invalidated.
    let peer = Node::start(&bus, &source, Settings::default()).await;
    source.set(1, 11);
    peer.cache.invalidate(&1).await.unwrap();
    pass(ms(50)).await;
    assert_eq!(new.get(1).await, Some(11));
}
