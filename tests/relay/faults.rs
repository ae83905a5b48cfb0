//! What happens to relays: each fault under load, judged from the commit.

use tokio::time::{Instant, sleep};

use testkit::proxy::{Cut, Door, Mode, Proxy};

use super::MAX_STALENESS;
use super::report::Phase;
use super::rig::Way;
use super::trial::{LONG, Reads, Scene, trial};
use crate::support::over_redis::until;

/// Without marks an entry is served for as long as the bound: changes are seen late, and never too late.
fn assert_late(during: &Phase) {
    assert!(during.stale > 0, "{}", during);
    assert!(during.worst > MAX_STALENESS / 4, "{}", during);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_served_by_every_instance_soon_after_its_commit() {
    let nothing = async |_: &mut Scene| sleep(LONG).await;
    let during = trial("normal operation", Way::Straight, Reads::Answered, nothing).await;
    assert!(during.proven > 0, "{}", during);
    assert!(during.p99(3) <= MAX_STALENESS, "{}", during);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_relay_runs_changes_are_seen_within_the_bound() {
    let killed = async |scene: &mut Scene| {
        scene.relay.kill();
        sleep(LONG).await;
        scene.relay = scene.rig.relay(Way::Straight).await;
    };
    let during = trial("killed", Way::Straight, Reads::Answered, killed).await;
    assert_late(&during);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_relay_is_stopped_changes_are_seen_within_the_bound() {
    let stopped = async |scene: &mut Scene| {
        scene.relay.freeze();
        sleep(LONG).await;
        scene.relay.resume();
    };
    let during = trial("stopped", Way::Straight, Reads::Answered, stopped).await;
    assert_late(&during);
}

/// Bytes vanish, then the connection is cut and refused, then all is well.
async fn cut_off(proxy: &Proxy) {
    proxy.set_both(Mode::Blackhole);
    sleep(LONG / 2).await;
    proxy.set_door(Door::Refuse).await;
    proxy.cut(Cut::Rst);
    sleep(LONG / 2).await;
    proxy.set_both(Mode::Pass);
    proxy.set_door(Door::Open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_relay_is_cut_off_from_redis_changes_are_seen_within_the_bound() {
    let cut = async |scene: &mut Scene| cut_off(&scene.rig.to_redis).await;
    let way = Way::OverProxies;
    let during = trial("cut off from Redis", way, Reads::Answered, cut).await;
    assert_late(&during);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_relay_is_cut_off_from_the_database_changes_are_seen_within_the_bound() {
    let cut = async |scene: &mut Scene| cut_off(&scene.rig.to_postgres).await;
    let way = Way::OverProxies;
    let during = trial("cut off from PostgreSQL", way, Reads::Answered, cut).await;
    assert_late(&during);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_holds_while_a_relay_is_restarted() {
    let restarted = async |scene: &mut Scene| {
        for _ in 0..3 {
            assert!(scene.relay.terminate().await.success());
            scene.relay = scene.rig.relay(Way::Straight).await;
        }
    };
    trial("restarted", Way::Straight, Reads::Answered, restarted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_relays_one_waits_and_takes_over() {
    let first_dies = async |scene: &mut Scene| {
        let second = scene.rig.spawn(Way::Straight);
        second.until_says("another relay of shop works").await;
        sleep(MAX_STALENESS).await;
        assert_eq!(second.says("relaying shop"), 0, "{:?}", second.lines());
        scene.relay.kill();
        let killed = Instant::now();
        second.until_says("relaying shop").await;
        eprintln!("the second relay took over after {:.1?}", killed.elapsed());
        scene.relay = second;
    };
    trial("taken over", Way::Straight, Reads::Answered, first_dies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_was_stopped_finds_its_place_taken_and_waits() {
    let replaced = async |scene: &mut Scene| {
        scene.relay.freeze();
        let second = scene.rig.relay(Way::Straight).await;
        scene.judge.proven().await;
        scene.relay.resume();
        scene.relay.until_says("another relay of shop works").await;
        second.kill();
        until("the first one relays again", async || {
            scene.relay.says("relaying shop") == 2
        })
        .await;
    };
    trial("replaced", Way::Straight, Reads::Answered, replaced).await;
}
