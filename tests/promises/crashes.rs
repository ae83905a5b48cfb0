//! A writer that dies, stalls or is taken for dead: its peers finish what it announced.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use unstale::{ErrorKind, LocalBus, Outcome, WriteError};

use crate::support::nodes::{Node, Source, ms, pair, pass};
use crate::writes::REMOTE;

/// The bound for a writer that crashed: `member_timeout` and `max_staleness`.
const CRASH_BOUND: Duration = Duration::from_secs(5 + 2);

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A write on `a` whose commit ends when the test wants it to, while `b` reads.
struct Crash {
    bus: LocalBus,
    source: Source,
    a: Node,
    b: Node,
    began: Instant,
}

impl Crash {
    async fn start() -> Self {
        let (bus, source, a, b) = pair().await;
        source.set(1, 10);
        b.get(1).await;
        let began = Instant::now();
        Self {
            bus,
            source,
            a,
            b,
            began,
        }
    }

    /// Announces a write, whose commit never ends by itself.
    async fn announce(&self) -> tokio::task::JoinHandle<()> {
        let a = self.a.clone();
        let write = tokio::spawn(async move {
            let commit = std::future::pending::<io::Result<()>>();
            let _ = a.cache.write(&1, commit).await;
        });
        pass(ms(1)).await;
        assert_eq!(self.a.instance.health().open_writes, 1);
        write
    }

    /// Cuts `a` off: nothing of it reaches the bus from now on.
    async fn die(&self, write: tokio::task::JoinHandle<()>) {
        self.bus.faults(0).cut();
        write.abort();
        let _ = write.await;
    }

    async fn at(&self, seconds: u64) {
        // Reads keep the row in memory and the instance at its full beat.
        let end = self.began + Duration::from_secs(seconds);
        while Instant::now() < end {
            self.b.get(1).await;
            pass(ms(50)).await;
        }
        sleep_until(end).await;
    }

    /// How long the reader goes on with `old`, which is in its memory.
    async fn stale_for(&self, old: u64) -> Duration {
        assert_eq!(self.b.get(1).await, Some(old), "proves nothing");
        let since = Instant::now();
        while self.b.get(1).await == Some(old) {
            pass(ms(50)).await;
            assert!(since.elapsed() < Duration::from_secs(55), "until the TTL");
        }
        since.elapsed()
    }

    fn recovered(&self) -> u64 {
        self.b.metric("unstale_recovered_writes_total")
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_dies_between_commit_and_publish_is_finished_by_its_peers() {
    let crash = Crash::start().await;
    let write = crash.announce().await;
    crash.at(1).await;
    crash.source.set(1, 11);
    crash.die(write).await;
    let stale = crash.stale_for(10).await;
    assert!(stale > ms(1_000) && stale <= CRASH_BOUND, "{stale:?}");
    assert_eq!((crash.recovered(), crash.b.metric(REMOTE)), (1, 1));
    crash.at(60).await;
    assert_eq!(
        (crash.recovered(), crash.b.metric(REMOTE)),
        (2, 2),
        "at the deadline again"
    );
}

/// 1: a write is announced; 2: a replica is promoted that the announcement has not reached, though it
/// knows the writer; 3: the writer commits; 4: it dies before it publishes.
#[tokio::test(start_paused = true)]
async fn a_writer_that_dies_after_a_failover_that_lost_its_announcement_is_finished_by_its_peers() {
    let crash = Crash::start().await;
    let write = crash.announce().await;
    crash.at(1).await;
    crash.bus.fail_over_losing(0);
    crash.bus.drop_intents();
    crash.at(3).await;
    crash.source.set(1, 11);
    crash.die(write).await;
    let stale = crash.stale_for(10).await;
    assert!(stale > ms(1_000) && stale <= CRASH_BOUND, "{stale:?}");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_dies_before_its_commit_costs_a_load() {
    let crash = Crash::start().await;
    let write = crash.announce().await;
    crash.die(write).await;
    crash.at(7).await;
    assert_eq!((crash.b.metric(REMOTE), crash.source.loads()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_commit_after_its_client_died_is_seen_at_the_deadline() {
    let crash = Crash::start().await;
    let write = crash.announce().await;
    crash.die(write).await;
    crash.at(WRITE_TIMEOUT.as_secs() - 1).await;
    crash.source.set(1, 11);
    let stale = crash.stale_for(10).await;
    assert!(stale <= ms(1_000) + Duration::from_secs(2), "{stale:?}");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_dies_after_its_publication_leaves_nothing_to_do() {
    let crash = Crash::start().await;
    let commit = async {
        crash.source.set(1, 11);
        Ok::<_, io::Error>(())
    };
    crash.a.cache.write(&1, commit).await.unwrap();
    crash.bus.faults(0).cut();
    crash.at(60).await;
    assert_eq!((crash.recovered(), crash.b.metric(REMOTE)), (0, 1));
    assert_eq!(crash.b.get(1).await, Some(11));
}

/// Peers may finish its write now, and must be able to once more when it really dies, long before
/// the deadline.
async fn taken_for_dead(crash: Crash, removed: impl AsyncFnOnce(&Crash)) {
    let write = crash.announce().await;
    crash.at(1).await;
    removed(&crash).await;
    crash.at(15).await;
    let before = crash.b.metric(REMOTE);
    crash.source.set(1, 11);
    crash.die(write).await;
    let stale = crash.stale_for(10).await;
    assert!(stale > ms(1_000) && stale <= CRASH_BOUND, "{stale:?}");
    assert_eq!(crash.b.metric(REMOTE), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_the_server_forgot_registers_its_open_write_again() {
    taken_for_dead(Crash::start().await, async |crash: &Crash| {
        crash.bus.drop_members();
        crash.at(3).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_whose_server_lost_everything_registers_its_open_write_again() {
    taken_for_dead(Crash::start().await, async |crash: &Crash| {
        crash.bus.restart_empty();
        crash.at(3).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_was_cut_off_for_long_registers_its_open_write_again() {
    taken_for_dead(Crash::start().await, async |crash: &Crash| {
        crash.bus.faults(0).cut();
        crash.at(8).await;
        assert_eq!(
            (crash.recovered(), crash.b.metric(REMOTE)),
            (1, 1),
            "was not taken for dead"
        );
        crash.bus.faults(0).heal();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_outlives_its_removal_is_published_and_cleared_as_usual() {
    let crash = Crash::start().await;
    let commit = async {
        pass(ms(1_000)).await;
        crash.bus.drop_members();
        pass(ms(3_000)).await;
        crash.source.set(1, 11);
        Ok::<_, io::Error>(())
    };
    crash.a.cache.write(&1, commit).await.unwrap();
    pass(ms(1)).await;
    assert_eq!(crash.b.get(1).await, Some(11));
    assert_eq!(crash.a.instance.health().open_writes, 0);
    let heard = crash.b.metric(REMOTE);
    crash.at(60).await;
    assert_eq!(crash.b.metric(REMOTE), heard, "its intent outlived it");
}

/// The commit outlives the shutdown; its peers learn of it by the intent.
async fn shut_down_under_a_write(commits_after: Duration) -> (Crash, Duration) {
    let crash = Crash::start().await;
    let write = tokio::spawn({
        let (a, source) = (crash.a.clone(), crash.source.clone());
        async move {
            let commit = async {
                pass(ms(1_000) + commits_after).await;
                source.set(1, 11);
                Ok::<_, io::Error>("committed")
            };
            a.cache.write(&1, commit).await
        }
    });
    crash.at(1).await;
    crash.a.instance.shutdown().await.unwrap();
    crash.at(1 + commits_after.as_secs()).await;
    match write.await.unwrap().unwrap_err() {
        WriteError::Unconfirmed { value, error } => {
            assert_eq!((value, error.kind()), ("committed", ErrorKind::Closed));
        }
        other => assert!(matches!(other, WriteError::Unconfirmed { .. }), "{other:?}"),
    }
    let stale = crash.stale_for(10).await;
    (crash, stale)
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_leaves_open_writes_to_the_peers() {
    let (crash, stale) = shut_down_under_a_write(ms(2_000)).await;
    assert!(stale <= CRASH_BOUND, "{stale:?}");
    let late = async { Ok::<_, io::Error>(()) };
    let refused = crash.a.cache.write(&1, late).await.unwrap_err();
    assert!(matches!(&refused, WriteError::Refused(why) if why.kind() == ErrorKind::Closed));
    let error = crash.a.cache.invalidate(&1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    // Reads go to the loader and are not stored: nothing would invalidate them.
    assert_eq!(crash.a.get(1).await, Some(11));
    assert_eq!(crash.a.outcome(1).await, Outcome::Miss);
}

#[tokio::test(start_paused = true)]
async fn a_commit_long_after_a_shutdown_is_seen_at_its_deadline() {
    let (_crash, stale) = shut_down_under_a_write(Duration::from_secs(15)).await;
    assert!(
        stale <= WRITE_TIMEOUT - Duration::from_secs(16) + Duration::from_secs(2),
        "{stale:?}"
    );
}

/// Redis executes what records a write, and the writer does not hear of it.
#[tokio::test(start_paused = true)]
async fn a_refused_write_that_was_recorded_all_the_same_is_cleared_soon() {
    let (bus, source, a, b) = pair().await;
    source.set(1, 10);
    b.get(1).await;
    bus.faults(0).lose_replies();
    let never = async { Ok::<_, io::Error>(()) };
    let error = a.cache.write(&1, never).await.unwrap_err();
    assert!(matches!(&error, WriteError::Refused(why) if why.kind() == ErrorKind::Bus));
    bus.faults(0).end_all();
    // A paced attempt, and what is on its way.
    pass(ms(2_500)).await;
    bus.faults(0).crash();
    for _ in 0..1_000 {
        b.get(1).await;
        pass(ms(50)).await;
    }
    assert_eq!(b.metric("unstale_recovered_writes_total"), 0);
    assert_eq!(b.metric(REMOTE), 0);
}

/// The commit of a caller that goes away while the write is announced does not begin.
#[tokio::test(start_paused = true)]
async fn a_write_whose_caller_went_away_while_it_was_announced_is_cleared_soon() {
    let (bus, source, a, b) = pair().await;
    source.set(1, 10);
    b.get(1).await;
    bus.faults(0).slow(Duration::ZERO, ms(500));
    let never = async { Ok::<_, io::Error>(()) };
    let write = a.cache.write(&1, never);
    assert!(tokio::time::timeout(ms(250), write).await.is_err());
    assert_eq!(a.instance.health().open_writes, 0);
    bus.faults(0).end_all();
    pass(ms(2_500)).await;
    bus.faults(0).crash();
    for _ in 0..1_000 {
        b.get(1).await;
        pass(ms(50)).await;
    }
    assert_eq!(b.metric("unstale_recovered_writes_total"), 0);
    assert_eq!(b.metric(REMOTE), 0);
}
