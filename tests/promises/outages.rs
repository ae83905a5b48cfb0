//! In every outage of Redis, nothing is served for longer than `max_staleness` after its
//! invalidation was published, and reads are answered all the while.
//!
//! Compiled twice: with the shared tier off, and on.

use std::time::Duration;

use unstale::{InstanceState, Outcome, Settings};

use crate::exposure::{Exposure, MAX_STALENESS, ROW};
use crate::support::nodes::{Tier, ms, pair_over, pass};

const FENCED_EPOCH: &str = r#"fences_total{cause="epoch"}"#;
const TIMED_OUT: &str = r#"lane_waits_total{outcome="timed_out"}"#;
const REPUBLISHED: &str = "unstale_republished_total";

async fn start() -> Exposure {
    start_with(Settings::default()).await
}

async fn start_with(settings: Settings) -> Exposure {
    Exposure::start(settings, Tier::of(module_path!())).await
}

#[tokio::test(start_paused = true)]
async fn a_server_that_restarts_with_its_data_keeps_the_bound() {
    let mut trial = start().await;
    trial.bus.faults(1).lose_next(1);
    trial.write().await;
    trial.bus.restart();
    trial.busy(ms(2_000)).await;
    trial.assert_counted(&[FENCED_EPOCH, r#"gaps_total{cause="disconnected"}"#]);
    trial.assert_kept_and_healed().await;
}

/// Its writer has seen the event confirmed and does not send it again.
#[tokio::test(start_paused = true)]
async fn a_server_that_restarts_while_a_subscriber_is_away_keeps_the_bound() {
    let mut trial = start().await;
    trial.bus.faults(1).cut();
    // The reader loads the row once more, for another two seconds.
    while trial.read().await == Outcome::Hit {
        pass(ms(50)).await;
    }
    trial.write().await;
    trial.quiet(ms(1_100)).await;
    trial.bus.restart();
    trial.bus.faults(1).heal();
    assert!(trial.stale > 0, "proves nothing");
    trial.assert_kept_and_healed().await;
    assert_eq!(trial.a.metric(REPUBLISHED), 0, "proves nothing");
    trial.assert_counted(&[FENCED_EPOCH]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_restarts_without_its_latest_events_keeps_the_bound() {
    let mut trial = start().await;
    trial.bus.faults(1).lose_next(3);
    for _ in 0..3 {
        trial.write().await;
    }
    trial.read().await;
    trial.bus.restart_losing(3);
    trial.quiet(ms(2_000)).await;
    assert!(trial.stale > 0, "proves nothing");
    assert!(trial.a.metric(REPUBLISHED) > 0);
    trial.assert_counted(&[FENCED_EPOCH]);
    trial.assert_kept_and_healed().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_restarts_with_nothing_keeps_the_bound() {
    let mut trial = start().await;
    trial.bus.faults(1).lose_next(1);
    trial.write().await;
    trial.bus.restart_empty();
    trial.busy(ms(2_000)).await;
    trial.assert_counted(&[FENCED_EPOCH]);
    trial.assert_kept_and_healed().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_flushed_keeps_the_bound() {
    let mut trial = start().await;
    trial.bus.faults(1).lose_next(1);
    trial.write().await;
    trial.bus.flush();
    trial.quiet(ms(2_000)).await;
    assert!(trial.stale > 0, "proves nothing");
    assert!(trial.a.metric(REPUBLISHED) > 0);
    trial.assert_counted(&[FENCED_EPOCH]);
    trial.assert_kept_and_healed().await;
}

#[tokio::test(start_paused = true)]
async fn a_counter_that_is_deleted_keeps_the_bound() {
    let mut trial = start().await;
    trial.bus.faults(1).lose_next(1);
    trial.write().await;
    trial.bus.drop_counter();
    // A publish creates the counter again, before any verification could.
    trial.busy(ms(2_000)).await;
    trial.assert_counted(&[FENCED_EPOCH, r#"gaps_total{cause="epoch"}"#]);
    trial.assert_kept_and_healed().await;
}

/// The numbers of two lost events are handed out again before any instance verifies: the reader takes
/// them for the next ones.
#[tokio::test(start_paused = true)]
async fn a_failover_that_hands_out_numbers_again_keeps_the_bound() {
    let mut trial = start().await;
    trial.bus.faults(1).lose_next(2);
    trial.write().await;
    trial.write().await;
    trial.bus.fail_over_losing(2);
    // An instance that has applied the lost ones would see that their places are taken.
    trial.bus.faults(0).lose_next(2);
    for key in [2, 3] {
        trial.a.cache.invalidate(&key).await.unwrap();
    }
    assert_eq!(trial.read().await, Outcome::Hit);
    assert_eq!(trial.stale, 1, "proves nothing");
    trial.assert_not_counted(&[r#"gaps_total{cause="sequence"}"#]);
    trial.quiet(ms(2_000)).await;
    assert!(trial.a.metric(REPUBLISHED) > 0);
    trial.assert_counted(&[FENCED_EPOCH]);
    trial.assert_kept_and_healed().await;
}

#[derive(Clone, Copy)]
enum Down {
    Refused,
    BlackHole,
}

impl Down {
    fn begin(self, trial: &Exposure) {
        for instance in 0..2 {
            match self {
                Self::Refused => trial.bus.faults(instance).cut(),
                Self::BlackHole => trial.bus.faults(instance).silence(),
            }
        }
    }
}

/// While the bus is down, the cache falls back to a TTL of `max_staleness`.
async fn down(how: Down) {
    let mut trial = start().await;
    let loads = trial.source.loads();
    how.begin(&trial);
    trial.quiet(Duration::from_secs(20)).await;
    assert_eq!(trial.b.instance.health().state, InstanceState::Degraded);
    // One read waits for a verification, because it cannot be known that none will succeed; no other read does.
    let (slow, slowest) = match how {
        Down::Refused => (0, Duration::ZERO),
        Down::BlackHole => (1, ms(250)),
    };
    assert_eq!((trial.slow as u64, trial.count(TIMED_OUT)), (slow, slow));
    assert_eq!(trial.slowest, slowest);
    let loads = trial.source.loads() - loads;
    assert!((8..=10).contains(&loads), "{loads} loads in 20 s");
    // What is written meanwhile is seen as soon, though no event is heard.
    trial.write().await;
    pass(MAX_STALENESS + ms(1)).await;
    assert_eq!(trial.read().await, Outcome::Miss);
    for instance in 0..2 {
        trial.bus.faults(instance).heal();
    }
    trial.assert_kept_and_healed().await;
    assert_eq!(trial.b.instance.health().state, InstanceState::Coherent);
}

#[tokio::test(start_paused = true)]
async fn while_the_bus_refuses_each_load_lives_as_long_as_the_bound() {
    down(Down::Refused).await;
}

#[tokio::test(start_paused = true)]
async fn while_the_bus_is_a_black_hole_each_load_lives_as_long_as_the_bound() {
    down(Down::BlackHole).await;
}

#[tokio::test(start_paused = true)]
async fn with_the_bound_off_memory_answers_while_the_bus_is_down() {
    let mut settings = Settings::default();
    settings.max_staleness = None;
    let mut trial = start_with(settings).await;
    let loads = trial.source.loads();
    Down::BlackHole.begin(&trial);
    trial.source.set(ROW, 99);
    trial.quiet(Duration::from_secs(20)).await;
    assert_eq!((trial.slow, trial.source.loads() - loads), (0, 0));
    // At most the TTL.
    trial.quiet(Duration::from_secs(45)).await;
    assert_eq!(trial.b.get(ROW).await, Some(99));
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_slows_down_and_its_first_read_is_a_hit_after_one_verification() {
    const VERIFIED: &str = r#"unstale_verifications_total{outcome="ok"}"#;
    const WAITED: &str = r#"unstale_lane_waits_total{outcome="verified"}"#;
    let mut settings = Settings::default();
    settings.ttl = Duration::from_secs(3_600);
    let (_bus, source, _a, b) = pair_over(settings, Tier::of(module_path!())).await;
    source.set(ROW, 10);
    for _ in 0..600 {
        assert_eq!(b.get(ROW).await, Some(10));
        pass(ms(100)).await;
    }
    let busy = b.metric(VERIFIED);
    assert!(
        (115..=125).contains(&busy),
        "{busy} beats in 60 busy seconds"
    );
    pass(Duration::from_secs(10)).await;
    let before = b.metric(VERIFIED);
    pass(Duration::from_secs(60)).await;
    let idle = b.metric(VERIFIED) - before;
    assert!((23..=25).contains(&idle), "{idle} beats in 60 idle seconds");
    // Until the entry has not been verified for longer than the bound.
    while b.instance.health().verified_age[0].unwrap() <= MAX_STALENESS {
        pass(ms(50)).await;
    }
    let (before, waits) = (b.metric(VERIFIED), b.metric(WAITED));
    assert_eq!(b.outcome(ROW).await, Outcome::Hit);
    assert_eq!(
        (b.metric(VERIFIED), b.metric(WAITED)),
        (before + 1, waits + 1)
    );
    assert_eq!(source.loads(), 1);
}
