//! A write that is announced, committed and published, and every way in which that can end early.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::Instant;

use unstale::{ErrorKind, LocalBus, Outcome, Settings, WriteError, WritePolicy};

use crate::support::nodes::{Node, Source, ms, pair, pair_with, pass};

/// Keys that the reader dropped because of an event.
pub(crate) const REMOTE: &str =
    r#"unstale_invalidations_total{cache="rows",kind="key",from="remote"}"#;

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

fn writes(outcome: &str) -> String {
    format!(r#"unstale_writes_total{{outcome="{outcome}"}}"#)
}

/// Row 1 is 10, and the reader has it in memory.
async fn cached_pair(settings: Settings) -> (LocalBus, Source, Node, Node) {
    let (bus, source, a, b) = pair_with(settings).await;
    source.set(1, 10);
    b.get(1).await;
    assert_eq!(b.outcome(1).await, Outcome::Hit);
    (bus, source, a, b)
}

#[tokio::test(start_paused = true)]
async fn a_write_is_announced_before_its_commit_and_published_once_after_it() {
    let (_bus, source, a, b) = cached_pair(Settings::default()).await;
    let commit = async {
        assert_eq!(a.instance.health().open_writes, 1);
        assert_eq!(b.metric(REMOTE), 0);
        // Read before the commit: must not stay.
        assert_eq!(a.get(1).await, Some(10));
        pass(ms(500)).await;
        source.set(1, 11);
        Ok::<_, io::Error>("committed")
    };
    assert_eq!(a.cache.write(&1, commit).await.unwrap(), "committed");
    assert_eq!(a.get(1).await, Some(11));
    pass(ms(1)).await;
    assert_eq!(b.outcome(1).await, Outcome::Miss);
    assert_eq!(
        (b.get(1).await, a.instance.health().open_writes),
        (Some(11), 0)
    );
    pass(2 * WRITE_TIMEOUT).await;
    assert_eq!((b.metric(REMOTE), a.metric(&writes("ok"))), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_cannot_be_announced_is_refused_before_its_commit() {
    let (bus, _source, a, b) = cached_pair(Settings::default()).await;
    for (refusals, half_open) in [(1, false), (2, true)] {
        match half_open {
            false => bus.faults(0).cut(),
            true => bus.faults(0).silence(),
        }
        let polled = AtomicBool::new(false);
        let commit = async {
            polled.store(true, SeqCst);
            Ok::<_, io::Error>(())
        };
        let began = Instant::now();
        let error = a.cache.write(&1, commit).await.unwrap_err();
        assert!(matches!(&error, WriteError::Refused(why) if why.kind() == ErrorKind::Bus));
        assert!(began.elapsed() <= Duration::from_secs(2));
        assert!(!polled.load(SeqCst), "committed all the same");
        assert_eq!(a.metric(&writes("refused")), refusals);
        assert_eq!(b.metric(REMOTE), 0, "nothing was committed");
        assert_eq!(a.instance.health().open_writes, 0, "it never began");
        bus.faults(0).heal();
        pass(ms(3_000)).await;
        assert_eq!(a.instance.health().open_writes, 0, "it is open no more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_is_refused_at_once_when_the_bus_has_been_away_for_a_second() {
    let (bus, _source, a, _b) = cached_pair(Settings::default()).await;
    bus.faults(0).cut();
    pass(ms(1_000)).await;
    let began = Instant::now();
    let commit = async { Ok::<_, io::Error>(()) };
    let error = a.cache.write(&1, commit).await;
    let error = error.or_else(WriteError::committed);
    assert!(
        matches!(&error, Err(WriteError::Refused(why)) if why.is_transient()),
        "nothing was committed: {error:?}"
    );
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(a.instance.health().open_writes, 0);
    bus.faults(0).heal();
    let commit = async { Ok::<_, io::Error>(()) };
    a.cache.write(&1, commit).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_that_may_go_on_unannounced_is_counted_and_published_later() {
    let mut settings = Settings::default();
    settings.write_policy = WritePolicy::Available;
    let (bus, source, a, b) = cached_pair(settings).await;
    bus.faults(0).cut();
    let commit = async {
        source.set(1, 11);
        Ok::<_, io::Error>(11)
    };
    let error = a.cache.write(&1, commit).await.unwrap_err();
    assert!(error.is_committed(), "{error:?}");
    assert_eq!(error.committed().unwrap(), 11, "no error for the caller");
    assert_eq!(a.metric(&writes("unannounced")), 1);
    assert_eq!(a.metric(&writes("unconfirmed")), 1);
    assert_eq!(a.get(1).await, Some(11));
    bus.faults(0).heal();
    pass(ms(2_000)).await;
    assert_eq!((b.get(1).await, b.metric(REMOTE)), (Some(11), 1));
    assert_eq!(a.instance.health().open_writes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_not_acknowledged_returns_its_value_and_is_retried() {
    let (bus, source, a, b) = cached_pair(Settings::default()).await;
    let commit = async {
        source.set(1, 11);
        bus.faults(0).cut();
        Ok::<_, io::Error>(11)
    };
    let began = Instant::now();
    let error = a.cache.write(&1, commit).await.unwrap_err();
    assert!(matches!(error, WriteError::Unconfirmed { value: 11, .. }));
    assert_eq!(began.elapsed().as_secs(), 2);
    assert_eq!(a.metric(&writes("unconfirmed")), 1);
    assert_eq!((b.metric(REMOTE), a.instance.health().open_writes), (0, 1));
    bus.faults(0).heal();
    pass(ms(2_000)).await;
    assert_eq!((b.get(1).await, b.metric(REMOTE)), (Some(11), 1));
    assert_eq!(a.instance.health().open_writes, 0);
    pass(2 * WRITE_TIMEOUT).await;
    assert_eq!(b.metric(REMOTE), 1, "a known outcome is published once");
}

/// How a commit of unknown outcome ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    InError,
    Dropped,
    InPanic,
}

async fn unknown_outcome(ends: Ends, counted: &str) {
    let (_bus, source, a, b) = cached_pair(Settings::default()).await;
    let began = Instant::now();
    let write = tokio::spawn({
        let a = a.clone();
        async move {
            let commit = async {
                pass(ms(1_000)).await;
                match ends {
                    Ends::InError => Err(io::Error::other("the connection broke")),
                    Ends::Dropped => pending().await,
                    Ends::InPanic => std::panic::resume_unwind(Box::new("commit")),
                }
            };
            a.cache.write::<_, (), _>(&1, commit).await
        }
    });
    pass(ms(1_001)).await;
    if ends == Ends::Dropped {
        write.abort();
    }
    match write.await {
        Ok(ended) => assert!(matches!(ended, Err(WriteError::Commit(_)))),
        Err(error) => assert_eq!(error.is_panic(), ends == Ends::InPanic),
    }
    pass(ms(1)).await;
    assert_eq!(b.metric(REMOTE), 1, "{ends:?}: not invalidated at once");
    assert_eq!(a.metric(&writes(counted)), 1, "{ends:?}");
    assert_eq!((b.get(1).await, a.get(1).await), (Some(10), Some(10)));
    // The database has heard of it nevertheless, and takes its time.
    tokio::time::sleep_until(began + WRITE_TIMEOUT - ms(100)).await;
    source.set(1, 11);
    assert_eq!(
        (b.get(1).await, a.instance.health().open_writes),
        (Some(10), 1)
    );
    pass(ms(200)).await;
    assert_eq!(
        b.metric(REMOTE),
        2,
        "{ends:?}: not invalidated at the deadline"
    );
    assert_eq!((b.get(1).await, a.get(1).await), (Some(11), Some(11)));
    assert_eq!(a.instance.health().open_writes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_failed_is_invalidated_at_once_and_at_its_deadline() {
    unknown_outcome(Ends::InError, "failed").await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_was_dropped_is_invalidated_at_once_and_at_its_deadline() {
    unknown_outcome(Ends::Dropped, "abandoned").await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_panicked_is_invalidated_at_once_and_at_its_deadline() {
    unknown_outcome(Ends::InPanic, "abandoned").await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_an_end_is_abandoned_at_its_deadline() {
    let (_bus, source, a, b) = cached_pair(Settings::default()).await;
    let began = Instant::now();
    let commit = pending::<io::Result<()>>();
    let error = a.cache.write(&1, commit).await.unwrap_err();
    assert!(matches!(error, WriteError::Abandoned(_)));
    assert_eq!(began.elapsed().as_secs(), WRITE_TIMEOUT.as_secs());
    source.set(1, 11);
    pass(ms(10)).await;
    assert!(b.metric(REMOTE) > 0);
    assert_eq!(
        (b.get(1).await, a.instance.health().open_writes),
        (Some(11), 0)
    );
    assert_eq!(a.metric(&writes("abandoned")), 1);
}

#[tokio::test(start_paused = true)]
async fn more_than_4096_open_writes_are_refused() {
    let (_bus, _source, a, _b) = pair().await;
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let open: Vec<_> = (0..4_096)
        .map(|key| {
            let (a, release) = (a.clone(), release.clone());
            tokio::spawn(async move {
                let commit = async {
                    let _turn = release.acquire().await;
                    Ok::<_, io::Error>(())
                };
                a.cache.write(&key, commit).await
            })
        })
        .collect();
    pass(ms(1)).await;
    assert_eq!(a.instance.health().open_writes, 4_096);
    let never = async { Ok::<_, io::Error>(()) };
    let error = a.cache.write(&9_999, never).await.unwrap_err();
    assert!(matches!(&error, WriteError::Refused(why) if why.kind() == ErrorKind::Overloaded));
    release.add_permits(4_096);
    for write in open {
        write.await.unwrap().unwrap();
    }
    assert_eq!(a.instance.health().open_writes, 0);
    a.cache
        .write(&1, async { Ok::<_, io::Error>(()) })
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_nothing_leaves_no_write_open() {
    let (_bus, _source, a, _b) = pair().await;
    for _ in 0..5 {
        let commit = async { Ok::<_, io::Error>(7) };
        assert_eq!(a.instance.batch().write(commit).await.unwrap(), 7);
    }
    assert_eq!(a.instance.health().open_writes, 0);
}

#[tokio::test(start_paused = true)]
async fn commits_that_fail_take_no_place_from_other_writes() {
    let (_bus, _source, a, _b) = pair().await;
    for key in 0..5_000 {
        let fails = async { Err::<(), _>(io::Error::other("a duplicate")) };
        let error = a.cache.write(&key, fails).await.unwrap_err();
        assert!(matches!(error, WriteError::Commit(_)), "{error:?}");
    }
    assert_eq!(a.instance.health().open_writes, 5_000);
    let commit = async { Ok::<_, io::Error>(()) };
    a.cache.write(&1, commit).await.unwrap();
    // Each is published at its deadline.
    pass(ms(31_000)).await;
    assert_eq!(a.instance.health().open_writes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_invalidates_keys_tags_and_caches_in_every_lane() {
    let mut settings = Settings::default();
    settings.lanes = 4;
    let (_bus, source, a, b) = pair_with(settings).await;
    let whole = |node: &Node| {
        let cache = node.instance.cache::<u64, u64>("whole");
        cache
            .loader(|key: u64| async move { Ok(key) })
            .build()
            .unwrap()
    };
    let (whole_a, whole_b) = (whole(&a), whole(&b));
    // 0 to 7 by their keys, 20 to 27 by their tag; 30 is not concerned.
    let rows: Vec<u64> = (0..8).chain(20..28).chain([30]).collect();
    for key in &rows {
        source.set(*key, 0);
        b.get(*key).await;
        whole_b.get(key).await.unwrap();
    }
    let before = a.metric("unstale_events_published_total");
    let mut batch = a.instance.batch().tag(&a.cache, "tens-2").all(&whole_a);
    for key in 0..8 {
        batch = batch.key(&a.cache, &key);
    }
    let commit = async {
        rows.iter().for_each(|key| source.set(*key, 1));
        Ok::<_, io::Error>(())
    };
    batch.write(commit).await.unwrap();
    pass(ms(1)).await;
    for key in &rows {
        assert_eq!(b.get(*key).await, Some(u64::from(*key != 30)), "{key}");
        assert!(!whole_b.lookup(key).await.unwrap().is_hit());
    }
    assert_eq!(
        a.metric("unstale_events_published_total") - before,
        4,
        "one a lane"
    );
    assert_eq!(a.instance.health().open_writes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_with_a_cache_of_another_instance_is_refused_and_changes_nothing() {
    let (_bus, source, a, b) = pair().await;
    source.set(1, 10);
    a.get(1).await;
    b.get(1).await;
    let mixed = || a.instance.batch().key(&a.cache, &1).all(&b.cache);
    let error = mixed().invalidate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    let named = error.to_string();
    for instance in [&a.instance, &b.instance] {
        let id = format!("{:016x}", unstale::internals::id(instance));
        assert!(named.contains(&id), "{named}");
    }
    let committed = AtomicBool::new(false);
    let commit = async {
        committed.store(true, SeqCst);
        Ok::<_, io::Error>(())
    };
    let refused = mixed().write(commit).await.unwrap_err();
    assert!(matches!(refused, WriteError::Refused(error) if error.kind() == ErrorKind::Settings));
    assert!(!committed.load(SeqCst));
    pass(ms(100)).await;
    for node in [&a, &b] {
        assert_eq!(node.outcome(1).await, Outcome::Hit);
        assert_eq!(node.metric("unstale_events_published_total"), 0);
    }
}
