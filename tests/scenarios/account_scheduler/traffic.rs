//! What the instances count is what Redis counts, and idle ones hardly speak.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use unstale::Settings;

use super::sample::{self, MODEL, PLATFORM};
use super::{Fleet, GATEWAYS, NOW, ids};
use crate::support::fleet::{Bytes, until};
use testkit::resp::Client;

/// Counted are the bytes of RESP, requests, replies and pushes, of all kinds; not those of TCP. Redis
/// counts the same, for all its clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_the_byte_counters_agree_with_redis_within_five_percent() {
    let mut fleet = Fleet::start().await;
    let begun = (fleet.admin.traffic(), fleet.counted(&[]));
    for gateway in &fleet.gateways {
        gateway.pool.warm_up(&ids()).await.unwrap();
    }
    for round in 0..60_u64 {
        let gateway = &fleet.gateways[round as usize % GATEWAYS];
        let mut changed = sample::account(round * 3);
        changed.scheduling.priority = 50;
        let three = [round, round + 1, round + 2];
        let (put, forget, used) = tokio::join!(
            gateway.pool.put(vec![changed]),
            fleet.gateways[0].pool.forget(&three),
            gateway.pool.used(BTreeSet::from([round]), NOW),
        );
        assert_eq!((put.unwrap(), forget.unwrap(), used.unwrap()), (1, (), ()));
        for gateway in &fleet.gateways {
            gateway
                .pool
                .choose(PLATFORM, MODEL, NOW)
                .await
                .unwrap()
                .unwrap();
        }
    }
    settled(&fleet).await;
    let values = agree(&mut fleet, begun);
    assert!(values.sent > 1_000_000 && values.received > 1_000_000);
    // Beside so many values events hardly count, so they are looked at alone.
    let begun = (fleet.admin.traffic(), fleet.counted(&[]));
    for round in 0..200 {
        let fifty: Vec<u64> = (round..round + 50).collect();
        let gateway = &fleet.gateways[round as usize % GATEWAYS];
        gateway.pool.forget(&fifty).await.unwrap();
    }
    settled(&fleet).await;
    let events = agree(&mut fleet, begun);
    assert!(events.sent > 80_000 && events.received > 320_000);
}

/// Waits until everything is delivered, and what is stored in the background is stored.
async fn settled(fleet: &Fleet) {
    fleet.delivered().await;
    let mut seen = fleet.counted(&["shared"]);
    until("nothing is on its way", async || {
        sleep(Duration::from_millis(500)).await;
        std::mem::replace(&mut seen, fleet.counted(&["shared"])) == seen
    })
    .await;
}

/// What Redis has counted since then; the instances have counted the same, within 5 % each way.
fn agree(fleet: &mut Fleet, begun: (Bytes, Bytes)) -> Bytes {
    let (theirs, ours) = (fleet.admin.traffic(), fleet.counted(&[]));
    let (theirs, ours) = (theirs.since(begun.0), ours.since(begun.1));
    println!("counted {ours:?}, Redis {theirs:?}");
    let near = |ours: u64, theirs: u64| ours.abs_diff(theirs) * 20 <= theirs;
    assert!(near(ours.sent, theirs.sent), "{ours:?} {theirs:?}");
    assert!(near(ours.received, theirs.received), "{ours:?} {theirs:?}");
    theirs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_an_idle_fleet_sends_its_beats_and_seldom_a_ping() {
    const WINDOW: Duration = Duration::from_secs(10);
    let mut fleet = Fleet::with(10).await;
    let (half, keepalive) = {
        let settings = Settings::default();
        (settings.member_timeout / 2, settings.keepalive)
    };
    // At first they verify at the full rate.
    until("they are idle", async || {
        let before = fleet.admin.calls(&["evalsha"]);
        sleep(half / 2).await;
        fleet.admin.calls(&["evalsha"]) - before <= GATEWAYS as u64
    })
    .await;
    let mut monitor = Client::connect(fleet.server.port());
    monitor.cmd(&["MONITOR"]);
    let began = Instant::now();
    let before = fleet.admin.calls(&["evalsha"]);
    sleep(WINDOW).await;
    let beats = fleet.admin.calls(&["evalsha"]) - before;
    let most = began.elapsed().as_millis() / half.as_millis() + 1;
    println!("{GATEWAYS} idle gateways: {beats} beats in {WINDOW:?}, at most {most} each");
    assert!(beats >= GATEWAYS as u64 && beats <= GATEWAYS as u64 * most as u64);
    // What clients have sent, scripts' own commands apart: the beats, and the questions above.
    fleet.admin.cmd(&["ECHO", "the end"]);
    let mut sent = Vec::new();
    loop {
        let line = block_in_place(|| monitor.read()).unwrap().text();
        let Some((_, command)) = line.split_once("] ") else {
            continue;
        };
        match command.split('"').nth(1).unwrap() {
            "ECHO" => break,
            "INFO" => {}
            _ if line.contains(" lua] ") => {}
            name => sent.push(name.to_ascii_uppercase()),
        }
    }
    // A subscription that is silent is asked for a sign of life.
    let (pings, rest): (Vec<&String>, Vec<&String>) = sent.iter().partition(|name| *name == "PING");
    let most = began.elapsed().as_millis() / keepalive.as_millis() + 1;
    assert!(pings.len() as u128 <= GATEWAYS as u128 * most, "{sent:?}");
    assert!(rest.iter().all(|name| *name == "EVALSHA"), "{sent:?}");
    assert!(rest.len() as u64 >= beats);
}
