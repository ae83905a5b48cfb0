//! Connections that end, hang, or are refused.

use super::watch::endure;
use super::{Pair, gaps, until};
use crate::support::proxy::{Cut, Direction, Door, Mode};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_killed() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        let killed = pair.admin(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        assert_eq!(killed, "2");
        until("the gap is noticed", async || {
            gaps(&pair.b, "disconnected") == 1
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_connections_killed() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        let before = pair.proxy.accepted();
        let killed = pair.admin(&["CLIENT", "KILL", "TYPE", "normal"]);
        assert_eq!(killed, "2");
        until("another connection", async || {
            pair.proxy.accepted() == before + 1
        })
        .await;
    })
    .await;
    // The subscription had nothing to do with it.
    assert_eq!(gaps(&pair.b, "disconnected"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_ended_and_reset() {
    let pair = Pair::start().await;
    for (cuts, how) in [(1, Cut::Fin), (2, Cut::Rst)] {
        endure(&pair, async |pair| {
            let before = pair.proxy.accepted();
            pair.proxy.cut(how);
            until("both connections again", async || {
                pair.proxy.accepted() >= before + 2 && gaps(&pair.b, "disconnected") == cuts
            })
            .await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_refused_for_a_while() {
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
async fn a_black_hole_both_ways() {
    black_hole(&[Direction::ToServer, Direction::ToClient]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_on_the_way_to_redis() {
    black_hole(&[Direction::ToServer]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_on_the_way_back() {
    black_hole(&[Direction::ToClient]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_stalls_and_delivers_late() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        pair.proxy.set_both(Mode::Stall);
        pair.degraded().await;
        pair.proxy.set_both(Mode::Pass);
    })
    .await;
}
