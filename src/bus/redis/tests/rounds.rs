//! Publish, verify, journal: what each says, and what a lane's counter survives.

use std::time::SystemTime;

use super::*;
use crate::ErrorKind;
use crate::bus::JOURNAL_PAGE;

fn micros_now() -> u64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    now.as_micros() as u64
}

#[tokio::test]
async fn an_event_is_numbered_journaled_and_delivered_to_all() {
    let server = RedisServer::start();
    let (a, mut at_a) = join(&server.url(), bus_config(1)).await;
    let (_b, mut at_b) = join(&server.url(), bus_config(2)).await;
    let head = a.verify(0).await.unwrap().head;

    // The second one is no UTF-8, the third is empty.
    let payloads = [
        Bytes::from_static(b"one"),
        Bytes::from_static(b"\xff\x00\r\n"),
        Bytes::new(),
    ];
    for (payload, n) in payloads.iter().zip(1..) {
        let position = a.publish(0, payload.clone(), vec![]).await.unwrap();
        assert_eq!(
            position,
            Position {
                sequence: head.sequence + n,
                ..head
            }
        );
        assert_eq!(message(&mut at_a).await, (position, payload.clone()));
        assert_eq!(message(&mut at_b).await, (position, payload.clone()));
    }

    let journal = a.journal(0, head.sequence + 1).await.unwrap();
    assert_eq!(
        journal.head,
        Position {
            sequence: head.sequence + 3,
            ..head
        }
    );
    let expected = [
        (head.sequence + 2, payloads[1].clone()),
        (head.sequence + 3, payloads[2].clone()),
    ];
    assert_eq!(journal.events, expected);
    assert_eq!(a.verify(0).await.unwrap().head, journal.head);
}

#[tokio::test]
async fn a_counter_begins_at_the_clock_and_counts_exactly() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    let before = micros_now();
    let first = bus.publish(0, Bytes::new(), vec![]).await.unwrap();
    assert!(
        (before..=micros_now() + 1).contains(&first.sequence),
        "{first:?} after {before}"
    );
    assert!((1..1 << 52).contains(&first.epoch), "{first:?}");
    for n in 1..100 {
        let next = bus.publish(0, Bytes::new(), vec![]).await.unwrap();
        assert_eq!(
            next,
            Position {
                sequence: first.sequence + n,
                ..first
            }
        );
    }

    // A counter made by a publish belongs to no server yet: the next verification begins an epoch.
    let verified = bus.verify(0).await.unwrap();
    assert_ne!(verified.head.epoch, first.epoch);
    assert_eq!(verified.head.sequence, first.sequence + 99);
    assert_eq!(bus.verify(0).await.unwrap().head, verified.head);
}

#[tokio::test]
async fn the_journal_is_capped_and_read_by_pages() {
    let server = RedisServer::start();
    let (bus, _events) = join(
        &server.url(),
        BusConfig {
            journal: 700,
            ..bus_config(1)
        },
    )
    .await;
    let start = bus.verify(0).await.unwrap().head.sequence;
    let publishes: Vec<_> = (0..1_500)
        .map(|_| bus.publish(0, Bytes::new(), vec![]))
        .collect();
    for publish in publishes {
        publish.await.unwrap();
    }
    let end = start + 1_500;

    let lost = bus.journal(0, start).await.unwrap();
    // Redis trims by whole nodes of 100 entries.
    assert!(
        (end - 800..=end - 699).contains(&lost.events[0].0),
        "{}",
        end - lost.events[0].0
    );
    assert_eq!(lost.events.len(), JOURNAL_PAGE);
    let page = bus.journal(0, end - 600).await.unwrap();
    let rest = bus.journal(0, page.events.last().unwrap().0).await.unwrap();
    let all: Vec<u64> = page
        .events
        .iter()
        .chain(&rest.events)
        .map(|(sequence, _)| *sequence)
        .collect();
    assert_eq!(all, (end - 599..=end).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_a_journal_nothing_is_kept() {
    let server = RedisServer::start();
    let (bus, _events) = join(
        &server.url(),
        BusConfig {
            journal: 0,
            ..bus_config(1)
        },
    )
    .await;
    let head = bus.verify(0).await.unwrap().head;
    bus.publish(0, Bytes::new(), vec![]).await.unwrap();
    let journal = bus.journal(0, head.sequence).await.unwrap();
    assert_eq!(journal.head.sequence, head.sequence + 1);
    assert_eq!(journal.events, []);
}

#[tokio::test]
async fn scripts_are_loaded_again_when_the_server_forgot_them() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    for _ in 0..3 {
        admin(&server).cmd(&["SCRIPT", "FLUSH"]);
        bus.publish(0, Bytes::from_static(b"x"), vec![])
            .await
            .unwrap();
        assert_eq!(message(&mut events).await.1, "x");
    }
}

#[tokio::test]
async fn a_lost_counter_begins_another_epoch_ahead_of_itself() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    let mut last = bus.verify(0).await.unwrap().head;
    for loss in [vec!["FLUSHALL"], vec!["DEL", "us:{shop:0}s"]] {
        bus.publish(0, Bytes::new(), vec![]).await.unwrap();
        admin(&server).cmd(&loss);
        let head = bus.verify(0).await.unwrap().head;
        assert_ne!(head.epoch, last.epoch, "{loss:?}");
        assert!(head.sequence > last.sequence, "{loss:?}");
        // The journal of the old epoch is gone as well.
        assert_eq!(bus.journal(0, 0).await.unwrap().events, [], "{loss:?}");
        last = head;
    }
}

#[tokio::test]
async fn a_restart_begins_another_epoch_even_if_the_data_survived() {
    let server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    let head = bus.verify(0).await.unwrap().head;
    bus.publish(0, Bytes::new(), vec![]).await.unwrap();
    server.kill();
    server.restart();
    subscribed(&mut events).await;
    let mut after = None;
    until(async || {
        after = bus.verify(0).await.ok();
        after.is_some()
    })
    .await;
    let after = after.unwrap();
    assert_ne!(after.head.epoch, head.epoch);
    assert_eq!(after.head.sequence, head.sequence + 1);
    assert_eq!(bus.journal(0, head.sequence).await.unwrap().events, []);
    // The members survived too.
    assert!(after.known);
}

#[tokio::test]
async fn a_journal_that_outlived_its_counter_does_not_stop_publishing() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    bus.verify(0).await.unwrap();
    admin(&server).cmd(&["XADD", "us:{shop:0}j", "9000000000000000-0", "e", "old"]);
    let position = bus
        .publish(0, Bytes::from_static(b"new"), vec![])
        .await
        .unwrap();
    let held = admin(&server).cmd(&["XLEN", "us:{shop:0}j"]).int();
    assert_eq!(held, Some(1), "begun again with the event");
    assert_eq!(
        bus.journal(0, position.sequence - 1).await.unwrap().head,
        NOWHERE
    );
}

/// A journal of a life of the server that no verification has found.
const NOWHERE: Position = Position {
    epoch: 0,
    sequence: 0,
};

/// 1: one server answers a verification with a head; 2: a replica is promoted that lacks it, and gives its
/// number to another event; 3: the journal is read there.
#[tokio::test]
async fn a_journal_of_another_life_of_the_server_fills_no_gap() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    let before = bus.verify(0).await.unwrap().head;
    let event = Bytes::from_static(b"x");
    bus.publish(0, event.clone(), vec![]).await.unwrap();
    let journal = bus.journal(0, before.sequence).await.unwrap();
    assert_eq!(journal.events, [(before.sequence + 1, event.clone())]);
    admin(&server).cmd(&["HSET", "us:{shop:0}s", "r", "another"]);
    let journal = bus.journal(0, before.sequence).await.unwrap();
    assert_eq!((journal.head, journal.events), (NOWHERE, vec![]));
}

#[tokio::test]
async fn a_missing_lane_has_an_empty_journal() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    let journal = bus.journal(0, 0).await.unwrap();
    assert_eq!(
        journal.head,
        Position {
            epoch: 0,
            sequence: 0
        }
    );
    assert_eq!(journal.events, []);
}

#[tokio::test]
async fn another_number_of_lanes_is_refused_and_changes_nothing() {
    let server = RedisServer::start();
    let (two, _events) = join(
        &server.url(),
        BusConfig {
            lanes: 2,
            ..bus_config(1)
        },
    )
    .await;
    two.verify(0).await.unwrap();
    two.verify(1).await.unwrap();
    let (one, _events) = join(&server.url(), bus_config(2)).await;
    let dump = || admin(&server).cmd(&["DUMP", "us:{shop:0}s"]);
    let (before, members) = (dump(), admin(&server).cmd(&["ZCARD", "us:{shop:0}m"]));

    let error = one.verify(0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lanes);
    assert!(
        error
            .to_string()
            .contains("has 2 lanes in Redis and this instance 1"),
        "{error}"
    );
    assert_eq!(dump(), before);
    assert_eq!(admin(&server).cmd(&["ZCARD", "us:{shop:0}m"]), members);
}

#[tokio::test]
async fn a_payload_that_is_no_message_is_garbled() {
    let server = RedisServer::start();
    let (_bus, mut events) = join(&server.url(), bus_config(1)).await;
    let long = "x".repeat(crate::event::MAX_PAYLOAD + 17);
    for text in ["", "fifteen bytes..", "epoch...sequence", &long] {
        admin(&server).cmd(&["PUBLISH", "us:{shop:0}e0", text]);
        assert!(
            matches!(next(&mut events).await, BusEvent::Garbled { lane: 0 }),
            "{}",
            text.len()
        );
    }
    let empty = "epoch...sequence\0\0\0\0";
    admin(&server).cmd(&["PUBLISH", "us:{shop:0}e0", empty]);
    assert_eq!(message(&mut events).await.1, "");
}

#[tokio::test]
async fn errors_of_the_server_say_what_to_do() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    bus.verify(0).await.unwrap();
    let mut admin = admin(&server);
    for (set, unset, word) in [
        (["min-replicas-to-write", "1"], "0", "NOREPLICAS"),
        (["maxmemory", "1"], "0", "OOM"),
    ] {
        admin.cmd(&["CONFIG", "SET", set[0], set[1]]);
        let error = bus.publish(0, Bytes::new(), vec![]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bus);
        assert!(error.to_string().contains(word), "{error}");
        admin.cmd(&["CONFIG", "SET", set[0], unset]);
        bus.publish(0, Bytes::new(), vec![]).await.unwrap();
    }
    // A port without a listener: the server is a replica now, and read-only.
    admin.cmd(&["REPLICAOF", "127.0.0.1", "1"]);
    let error = bus.publish(0, Bytes::new(), vec![]).await.unwrap_err();
    assert!(
        error.to_string().contains("must lead to the primary"),
        "{error}"
    );
    admin.cmd(&["REPLICAOF", "NO", "ONE"]);
    publish_until_acknowledged(&bus).await;
}

#[tokio::test]
async fn a_closed_bus_refuses_calls_and_leaves_nothing_behind() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    bus.verify(0).await.unwrap();
    bus.close(StillOpen::default()).await;
    bus.close(StillOpen::default()).await;
    let error = bus.publish(0, Bytes::new(), vec![]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(!bus.connected());
    let mut admin = admin(&server);
    // Only the placeholder.
    assert_eq!(admin.cmd(&["ZCARD", "us:{shop:0}m"]).int(), Some(1));
    until(async || admin.info("connected_clients") == "1").await;
}

#[tokio::test]
async fn a_dropped_bus_leaves_no_connections() {
    let server = RedisServer::start();
    let (bus, events) = join(&server.url(), bus_config(1)).await;
    let mut admin = admin(&server);
    assert_eq!(admin.info("connected_clients"), "3");
    drop((bus, events));
    until(async || admin.info("connected_clients") == "1").await;
}

#[tokio::test]
async fn a_lane_that_does_not_exist_is_an_error() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    assert_eq!(bus.verify(1).await.unwrap_err().kind(), ErrorKind::Lanes);
}

#[tokio::test]
async fn lanes_are_separate() {
    let server = RedisServer::start();
    let (bus, mut events) = join(
        &server.url(),
        BusConfig {
            lanes: 3,
            ..bus_config(1)
        },
    )
    .await;
    let before = bus.verify(0).await.unwrap().head;
    let position = bus
        .publish(2, Bytes::from_static(b"x"), vec![])
        .await
        .unwrap();
    match next(&mut events).await {
        BusEvent::Message {
            lane: 2,
            position: at,
            payload,
        } => {
            assert_eq!((at, payload), (position, Bytes::from_static(b"x")));
        }
        other => unreachable!("{other:?}"),
    }
    assert_eq!(bus.verify(0).await.unwrap().head, before);
}
