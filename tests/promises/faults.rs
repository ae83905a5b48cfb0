//! When single messages are lost, repeated or late, nothing is served for longer than `max_staleness` after its
//! invalidation was published, and afterwards everything is as before.
//!
//! Compiled twice: with the shared tier off, and on.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use unstale::{Outcome, Settings};

use crate::exposure::{Exposure, ROW};
use crate::support::nodes::{Tier, ms, pair_over, pass};

const REPAIRED: &str = r#"repairs_total{outcome="repaired"}"#;
const NO_REPAIR: &str = r#"repairs_total{outcome="fenced"}"#;
const SILENT: &str = r#"gaps_total{cause="silent"}"#;
const GARBLED: &str = r#"gaps_total{cause="garbled"}"#;
const SEQUENCE: &str = r#"gaps_total{cause="sequence"}"#;
const EPOCH: &str = r#"gaps_total{cause="epoch"}"#;
const FENCED_GAP: &str = r#"fences_total{cause="gap"}"#;
const FENCED_EPOCH: &str = r#"fences_total{cause="epoch"}"#;
const FENCED_UNDECODABLE: &str = r#"fences_total{cause="undecodable"}"#;
const UNDECODABLE: &str = r#"events_dropped_total{reason="undecodable"}"#;
const DUPLICATE: &str = r#"events_dropped_total{reason="duplicate"}"#;
const RESUBSCRIBED: &str = r#"subscription_repairs_total{how="resubscribe"}"#;
const RECONNECTED: &str = r#"subscription_repairs_total{how="reconnect"}"#;

async fn start() -> Exposure {
    start_with(Settings::default()).await
}

async fn start_with(settings: Settings) -> Exposure {
    Exposure::start(settings, Tier::of(module_path!())).await
}

#[tokio::test(start_paused = true)]
async fn a_lost_last_event_is_repaired_within_the_bound() {
    let mut trial = start().await;
    trial.bus.faults(1).lose_next(1);
    trial.write().await;
    trial.quiet(ms(3_000)).await;
    assert!(trial.stale > 0, "proves nothing");
    trial.assert_counted(&[SILENT, REPAIRED]);
    trial.assert_kept_and_healed().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_event_is_repaired_as_soon_as_the_next_one_arrives() {
    let mut trial = start().await;
    trial.bus.faults(1).lose_next(1);
    trial.write().await;
    assert_eq!(trial.read().await, Outcome::Hit);
    assert_eq!(trial.stale, 1, "proves nothing");
    trial.a.cache.invalidate(&2).await.unwrap();
    pass(ms(1)).await;
    assert_ne!(trial.read().await, Outcome::Hit);
    trial.assert_counted(&[SEQUENCE, REPAIRED]);
    trial.assert_not_counted(&[SILENT, FENCED_GAP, FENCED_EPOCH]);
    trial.assert_kept_and_healed().await;
}

#[tokio::test(start_paused = true)]
async fn events_that_the_journal_has_lost_too_are_fenced() {
    let mut trial = start().await;
    trial.bus.faults(1).lose_next(2);
    trial.write().await;
    trial.a.cache.invalidate(&2).await.unwrap();
    trial.bus.drop_journal();
    trial.quiet(ms(3_000)).await;
    assert!(trial.stale > 0, "proves nothing");
    trial.assert_counted(&[NO_REPAIR, FENCED_GAP]);
    trial.assert_kept_and_healed().await;
}

#[tokio::test(start_paused = true)]
async fn events_that_arrive_twice_are_applied_once() {
    let mut trial = start().await;
    trial.bus.faults(1).duplicate_next(3);
    trial.busy(ms(1_200)).await;
    assert_eq!((trial.stale, trial.count(DUPLICATE)), (0, 3));
    trial.assert_not_counted(&[SEQUENCE, FENCED_GAP, FENCED_EPOCH]);
    trial.assert_kept_and_healed().await;
}

#[tokio::test(start_paused = true)]
async fn events_that_arrive_in_another_order_are_put_in_order() {
    let mut trial = start().await;
    trial.bus.faults(1).hold();
    for key in [ROW, 2, 3] {
        trial.a.cache.invalidate(&key).await.unwrap();
    }
    trial.write().await;
    trial.read().await;
    trial.bus.faults(1).release_reordered();
    trial.quiet(ms(1_000)).await;
    trial.assert_counted(&[SEQUENCE, REPAIRED, DUPLICATE]);
    trial.assert_not_counted(&[FENCED_GAP, FENCED_EPOCH]);
    trial.assert_kept_and_healed().await;
}

#[tokio::test(start_paused = true)]
async fn events_that_arrive_late_keep_the_bound() {
    let mut trial = start().await;
    trial.bus.faults(1).delay(Duration::from_secs(10));
    trial.busy(ms(15_000)).await;
    assert!(trial.stale > 0, "proves nothing");
    // No heartbeat is late and nothing is lost: only the sequence shows it.
    trial.assert_counted(&[SILENT, REPAIRED]);
    trial.bus.faults(1).delay(Duration::ZERO);
    trial.quiet(ms(12_000)).await;
    trial.assert_kept_and_healed().await;
}

/// The journal has them.
#[tokio::test(start_paused = true)]
async fn events_that_do_not_decode_hide_no_event() {
    let mut trial = start().await;
    trial.bus.faults(1).garble_next();
    trial.write().await;
    assert_ne!(trial.read().await, Outcome::Hit);
    trial.assert_counted(&[GARBLED, REPAIRED]);
    trial.assert_not_counted(&[FENCED_UNDECODABLE, FENCED_GAP]);
    trial.assert_kept_and_healed().await;
    assert_eq!(trial.stale, 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_does_not_decode_fences_the_lane_where_there_is_no_journal() {
    let mut settings = Settings::default();
    settings.journal = 0;
    let mut trial = start_with(settings).await;
    trial.bus.faults(1).garble_next();
    trial.write().await;
    assert_ne!(trial.read().await, Outcome::Hit);
    trial.assert_counted(&[GARBLED, NO_REPAIR, FENCED_GAP]);
    trial.assert_kept_and_healed().await;
    assert_eq!(trial.stale, 0);
}

#[tokio::test(start_paused = true)]
async fn garbage_on_the_channel_hides_no_event() {
    let mut trial = start().await;
    trial.bus.publish_raw(0, &b"garbage"[..]);
    pass(ms(1)).await;
    assert_ne!(trial.read().await, Outcome::Hit);
    trial.assert_counted(&[GARBLED, UNDECODABLE, FENCED_UNDECODABLE]);
    trial.assert_kept_and_healed().await;
    assert_eq!(trial.stale, 0);
}

fn forged(epoch: u64, sequence: u64) -> Vec<u8> {
    [&epoch.to_be_bytes()[..], &sequence.to_be_bytes(), b"x"].concat()
}

#[tokio::test(start_paused = true)]
async fn a_forged_epoch_is_not_followed_but_settled_by_a_verification() {
    let mut trial = start().await;
    trial.bus.publish_raw(0, forged(42, u64::MAX));
    pass(ms(1)).await;
    trial.assert_counted(&[
        EPOCH,
        FENCED_EPOCH,
        r#"events_dropped_total{reason="other_epoch"}"#,
    ]);
    trial.assert_kept_and_healed().await;
    assert_eq!(trial.stale, 0);
}

/// The first epoch of a bus, which only these tests need to know, and the sequence it begins with.
fn first_epoch() -> (u64, u64) {
    let epoch = xxh3_64_with_seed(&1_u64.to_be_bytes(), 0) >> 12;
    (epoch, 1_750_000_000_000_000)
}

#[tokio::test(start_paused = true)]
async fn a_forged_sequence_far_ahead_does_not_make_the_follower_wait_for_it() {
    let mut trial = start().await;
    trial.bus.publish_raw(0, forged(first_epoch().0, u64::MAX));
    pass(ms(1)).await;
    trial.assert_counted(&[GARBLED, NO_REPAIR, FENCED_GAP]);
    trial.assert_not_counted(&[EPOCH]);
    trial.assert_kept_and_healed().await;
    assert_eq!(trial.stale, 0);
}

#[tokio::test(start_paused = true)]
async fn a_forged_next_event_does_not_hide_the_one_whose_place_it_takes() {
    let mut trial = start().await;
    let (epoch, first) = first_epoch();
    // One event has been published so far.
    trial.bus.publish_raw(0, forged(epoch, first + 2));
    trial.assert_not_counted(&[GARBLED]);
    trial.write().await;
    assert_ne!(trial.read().await, Outcome::Hit);
    trial.assert_counted(&[GARBLED]);
    trial.assert_not_counted(&[EPOCH]);
    trial.assert_kept_and_healed().await;
    assert_eq!(trial.stale, 0);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_cut_keeps_the_bound() {
    let mut trial = start().await;
    trial.bus.faults(1).cut();
    trial.busy(ms(6_000)).await;
    assert!(trial.stale > 0, "proves nothing");
    trial.bus.faults(1).heal();
    pass(ms(1)).await;
    trial.assert_counted(&[r#"gaps_total{cause="disconnected"}"#, REPAIRED]);
    trial.assert_not_counted(&[FENCED_GAP, FENCED_EPOCH]);
    trial.assert_kept_and_healed().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_whose_connection_is_half_open_keeps_the_bound() {
    let mut trial = start().await;
    trial.bus.faults(1).silence();
    trial.busy(ms(6_000)).await;
    assert!(trial.stale > 0, "proves nothing");
    trial.bus.faults(1).heal();
    trial.quiet(ms(2_000)).await;
    trial.assert_counted(&[SILENT, REPAIRED, r#"verifications_total{outcome="failed"}"#]);
    trial.assert_kept_and_healed().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_lost_behind_a_healthy_connection_is_subscribed_again() {
    let mut trial = start().await;
    trial.bus.faults(1).unsubscribe();
    trial.write().await;
    trial.quiet(ms(2_000)).await;
    assert!(trial.stale > 0, "proves nothing");
    trial.assert_counted(&[SILENT, REPAIRED, RESUBSCRIBED]);
    trial.assert_not_counted(&[RECONNECTED]);
    trial.assert_kept_and_healed().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_stays_silent_gets_a_new_connection() {
    let mut trial = start().await;
    while trial.count(RECONNECTED) == 0 {
        trial.bus.faults(1).unsubscribe();
        trial.busy(ms(300)).await;
        assert!(trial.count(RESUBSCRIBED) < 3, "never reconnects");
    }
    trial.assert_counted(&[RESUBSCRIBED]);
    trial.assert_kept_and_healed().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_falls_behind_by_more_than_its_queue_is_repaired() {
    let mut trial = start().await;
    trial.bus.faults(1).hold();
    trial.write().await;
    assert_eq!(trial.read().await, Outcome::Hit);
    // More than 16,384 wait, and more than the journal's 4,096.
    for key in 2..16_500 {
        trial.a.cache.invalidate(&key).await.unwrap();
    }
    trial.quiet(ms(1_000)).await;
    trial.bus.faults(1).release();
    assert!(trial.stale > 0, "proves nothing");
    trial.assert_counted(&[r#"gaps_total{cause="lagged"}"#, FENCED_GAP]);
    trial.assert_kept_and_healed().await;
}

#[tokio::test(start_paused = true)]
async fn a_fence_drops_its_own_lane_only() {
    let mut settings = Settings::default();
    settings.lanes = 4;
    let (bus, _source, _a, b) = pair_over(settings, Tier::of(module_path!())).await;
    let keys: Vec<u64> = (0..40).collect();
    b.cache.get_many(&keys).await.unwrap();
    bus.publish_raw(2, &b"garbage"[..]);
    pass(ms(1)).await;
    b.cache.get_many(&keys).await.unwrap();
    let fenced = b.metric(r#"unstale_misses_total{cache="rows",cause="fenced"}"#);
    assert!((1..=20).contains(&fenced), "{fenced} of 40 were in lane 2");
    assert_eq!(b.cache.stats().negative_hits, 40 - fenced);
}
