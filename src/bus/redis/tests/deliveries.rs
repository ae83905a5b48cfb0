//! Events that are delivered together: numbered one by one, in order, and none of them lost unnoticed.

use super::*;
use crate::bus::redis::scripts;
use testkit::resp::Value;

/// Subscribers of no instance, from which on deliveries have pauses: as many as lane.lua says, and some.
const SUBSCRIBERS: usize = 110;

/// They hear the lane's channel, and the last of them is read.
fn subscribers(server: &RedisServer) -> Vec<Client> {
    let subscribe = |_| {
        let mut client = admin(server);
        client.cmd(&["SUBSCRIBE", "us:{shop:0}e0"]);
        client
    };
    (0..SUBSCRIBERS).map(subscribe).collect()
}

/// Publishes so many events at the same time.
async fn burst(bus: &Arc<RedisBus>, events: u8) -> Vec<Position> {
    let mut publishing = tokio::task::JoinSet::new();
    for n in 0..events {
        let bus = Arc::clone(bus);
        publishing.spawn(async move { bus.publish(0, Bytes::from(vec![n; 30]), Vec::new()).await });
    }
    let mut positions: Vec<Position> = publishing
        .join_all()
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    positions.sort_by_key(|position| position.sequence);
    positions
}

/// The events of this many that are delivered next, in order.
async fn delivered(events: &mut Events, expected: &[Position]) {
    for position in expected {
        assert_eq!(message(events).await.0, *position);
    }
}

fn waiting(admin: &mut Client) -> bool {
    admin.cmd(&["HEXISTS", "us:{shop:0}s", "n"]).text() == "1"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_delivered_together_in_order_where_there_are_many_subscribers() {
    for journal in [4_096, 0] {
        let server = RedisServer::start();
        let (bus, mut events) = join(
            &server.url(),
            BusConfig {
                journal,
                ..bus_config(1)
            },
        )
        .await;
        let mut listeners = subscribers(&server);
        let (mut tap, mut admin) = (listeners.pop().expect("one"), admin(&server));
        let mut heard = 0;
        until(async || {
            let positions = burst(&bus, 20).await;
            delivered(&mut events, &positions).await;
            let mut messages = 0;
            while heard < positions.last().expect("one").sequence {
                let message = tokio::task::block_in_place(|| tap.read().expect("a message"));
                let Value::Text(bytes) = &message.array()[2] else {
                    unreachable!("{message:?}")
                };
                let events = scripts::message(bytes).expect("ours");
                heard = events.last().expect("one").0.sequence;
                messages += 1;
            }
            messages < positions.len() / 2
        })
        .await;
        assert!(!waiting(&mut admin), "its publisher came back");
        let verified = bus.verify(0).await.unwrap();
        assert!(!verified.pause.is_zero(), "{verified:?}");
    }
}

/// What it takes to deliver is measured by the publisher that comes back at once; 5 us are what is
/// assumed before.
#[tokio::test]
async fn the_pause_follows_what_delivering_takes() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    let _listeners = subscribers(&server);
    let mut admin = admin(&server);
    let mut cost = || {
        let pace = admin.cmd(&["HGET", "us:{shop:0}s", "d"]).text();
        pace.rsplit(':').next().expect("a cost").to_owned()
    };
    let position = burst(&bus, 1).await;
    delivered(&mut events, &position).await;
    until(async || cost() != "5.00").await;
}

/// One measure counts as far as a server may be as slow, and the next message waits accordingly.
#[tokio::test]
async fn a_measure_keeps_its_bounds() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    bus.publish(0, Bytes::from_static(b"an event"), Vec::new())
        .await
        .unwrap();
    let mut admin = admin(&server);
    let script = scripts::SOURCES[scripts::Script::Deliver as usize];
    let (first, last) = ("1", "99999999999999999");
    // The clock of a sender is ahead, or an hour behind; nothing grows by more than a quarter at once.
    for (before, sent, expected) in [
        ("5.00", last, "1.00"),
        ("5.00", first, "6.25"),
        ("48.00", first, "50.00"),
    ] {
        let pace = format!("0:2000:{before}");
        admin.cmd(&["HSET", "us:{shop:0}s", "d", &pace]);
        let keys = ["EVAL", script, "2", "us:{shop:0}s", "us:{shop:0}d"];
        admin.cmd(&[&keys[..], &["e0", sent, "100"]].concat());
        let pace = admin.cmd(&["HGET", "us:{shop:0}s", "d"]).text();
        assert_eq!(pace, format!("0:2000:{expected}"));
    }
}

/// With few subscribers none waits, and nothing is kept.
#[tokio::test]
async fn a_small_fleet_never_waits() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    let positions = burst(&bus, 50).await;
    delivered(&mut events, &positions).await;
    let mut admin = admin(&server);
    assert_eq!(
        admin
            .cmd(&["HMGET", "us:{shop:0}s", "d", "n"])
            .array()
            .len(),
        2
    );
    assert_eq!(admin.cmd(&["HEXISTS", "us:{shop:0}s", "d"]).text(), "0");
    assert_eq!(admin.cmd(&["EXISTS", "us:{shop:0}d"]).text(), "0");
}

/// The script alone, as a writer runs it that does not come back. Returns the event's sequence, if it waits.
fn publish_and_die(admin: &mut Client) -> Option<u64> {
    let script = scripts::SOURCES[scripts::Script::Publish as usize];
    // A moment ago there was a delivery to a thousand.
    let soon = "local t = redis.call('TIME') redis.call('HSET', KEYS[1], 'd', \
                string.format('%.0f:50000:15.00', t[1] * 1000000 + t[2] + 50000))";
    admin.cmd(&["EVAL", soon, "1", "us:{shop:0}s"]);
    let keys = ["3", "us:{shop:0}s", "us:{shop:0}j", "us:{shop:0}d"];
    let args = ["e0", "4096", "an event"];
    let answer = admin.cmd(&[&["EVAL", script][..], &keys, &args].concat());
    let waits = answer.array()[2].text() != "0";
    waits.then(|| answer.array()[1].text().parse().expect("a sequence"))
}

#[tokio::test]
async fn events_whose_publisher_does_not_come_back_are_delivered_by_the_next_verification() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    let head = bus.verify(0).await.unwrap().head;
    let mut admin = admin(&server);
    let mut published = 0;
    until(async || {
        published += 1;
        publish_and_die(&mut admin).is_some()
    })
    .await;
    until(async || {
        bus.verify(0).await.unwrap();
        !waiting(&mut admin)
    })
    .await;
    for n in 1..=published {
        assert_eq!(message(&mut events).await.0.sequence, head.sequence + n);
    }
}

/// Redis may evict what waits: its events are missing then, and none takes the place of another.
#[tokio::test]
async fn an_event_that_is_evicted_while_it_waits_is_a_gap() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    let mut admin = admin(&server);
    let mut lost = None;
    until(async || {
        // Where the machine is slow, it was delivered meanwhile.
        lost = publish_and_die(&mut admin)
            .filter(|_| admin.cmd(&["DEL", "us:{shop:0}d"]).text() == "1");
        lost.is_some()
    })
    .await;
    let position = bus
        .publish(0, Bytes::from_static(b"another"), Vec::new())
        .await
        .unwrap();
    assert_eq!(Some(position.sequence), lost.map(|lost| lost + 1));
    loop {
        let (at, payload) = message(&mut events).await;
        assert_eq!(at == position, payload == "another");
        assert_ne!(Some(at.sequence), lost, "it was never sent");
        if at == position {
            return;
        }
    }
}

/// Whatever another program has left there, events are published and delivered, and a verification names
/// no time beyond the longest pause.
#[tokio::test]
async fn damaged_notes_of_deliveries_stop_nothing() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    let mut admin = admin(&server);
    let huge = "99999999999999999999";
    let fields = [
        ("d", "x"),
        ("d", "1:2:3.4.5"),
        ("d", &*format!("{huge}:{huge}:{huge}")),
        ("n", "x"),
        ("n", &*format!("{huge}:{huge}")),
        ("m", "x"),
        ("m", huge),
    ];
    for (field, damaged) in fields {
        for kind in ["string", "list"] {
            admin.cmd(&["DEL", "us:{shop:0}d"]);
            admin.cmd(&["HDEL", "us:{shop:0}s", "d", "n", "m"]);
            admin.cmd(&["HSET", "us:{shop:0}s", field, damaged]);
            let put = if kind == "list" { "LPUSH" } else { "SET" };
            admin.cmd(&[put, "us:{shop:0}d", "not a message"]);
            let verified = bus.verify(0).await.unwrap();
            assert!(verified.wait < Duration::from_secs(1), "{verified:?}");
            let published = bus.publish(0, Bytes::from_static(b"x"), Vec::new()).await;
            let position = published.unwrap();
            // What waits is delivered by its publisher, which comes back.
            assert_eq!(message(&mut events).await.0, position, "{field} {damaged}");
        }
    }
}
