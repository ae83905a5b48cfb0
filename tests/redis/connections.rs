//! Connections that end, hang, or are refused.

use super::watch::endure;
use super::{Pair, gaps, until};
use testkit::proxy::{Cut, Direction, Door, Mode};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_subscribers_come_back_and_nothing_stale_is_served() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        let killed = pair.admin(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        assert_eq!(killed, "2");
        until("the gap is noticed", async || {
            gaps(&pair.b, "disconnected") > 0
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_command_connections_come_back_and_cost_no_gap() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        let before = pair.proxy.accepted();
        let killed = pair.admin(&["CLIENT", "KILL", "TYPE", "normal"]);
        assert_eq!(killed, "2");
        until("another connection", async || {
            pair.proxy.accepted() > before
        })
        .await;
    })
    .await;
    // The subscription had nothing to do with it.
    assert_eq!(gaps(&pair.b, "disconnected"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_and_reset_connections_come_back_and_nothing_stale_is_served() {
    let pair = Pair::start().await;
    for how in [Cut::Fin, Cut::Rst] {
        endure(&pair, async |pair| {
            let before = pair.proxy.accepted();
            let gaps_before = gaps(&pair.b, "disconnected");
            pair.proxy.cut(how);
            until("both connections again", async || {
                pair.proxy.accepted() >= before + 2 && gaps(&pair.b, "disconnected") > gaps_before
            })
            .await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_connections_degrade_b_until_they_are_accepted() {
    let pair = Pair::start().await;
    for door in [Door::Refuse, Door::Close, Door::Reset] {
        endure(&pair, async |pair| {
            pair.proxy.set_door(door).await;
            pair.proxy.cut(Cut::Rst);
            pair.degraded().await;
            pair.proxy.set_door(Door::Open).await;
        })
        .await;
    }
}

async fn black_hole(directions: &[Direction]) {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        for direction in directions {
            pair.proxy.set(*direction, Mode::Blackhole);
        }
        pair.degraded().await;
        pair.proxy.set_both(Mode::Pass);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_both_ways_degrades_b_until_it_ends() {
    black_hole(&[Direction::ToServer, Direction::ToClient]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_on_the_way_to_redis_degrades_b_until_it_ends() {
    black_hole(&[Direction::ToServer]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_on_the_way_back_degrades_b_until_it_ends() {
    black_hole(&[Direction::ToClient]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_stalls_and_delivers_late_serves_nothing_stale() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        pair.proxy.set_both(Mode::Stall);
        pair.degraded().await;
        pair.proxy.set_both(Mode::Pass);
    })
    .await;
}
