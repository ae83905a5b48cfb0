//! Which members are alive, and how the writes of the dead are finished.

use super::*;
use crate::bus::Intent;

pub(super) const M: &str = "us:{shop:0}m";
pub(super) const W: &str = "us:{shop:0}w";

/// As short as a test can use.
const MEMBER_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) fn short(instance: u64) -> BusConfig {
    BusConfig {
        member_timeout: MEMBER_TIMEOUT,
        ..bus_config(instance)
    }
}

pub(super) fn intent(instance: u64, number: u64, deadline: Duration) -> Intent {
    let payload = Bytes::from(format!("intent {number}"));
    Intent {
        id: intent_id(instance, number),
        deadline,
        payload,
    }
}

/// Verifies until something was recovered; how much, and the head returned with it.
async fn recover(bus: &RedisBus) -> (u32, Position) {
    let mut found = None;
    until(async || {
        let verified = bus.verify(0).await.unwrap();
        found = Some((verified.recovered, verified.head));
        verified.recovered > 0
    })
    .await;
    found.unwrap()
}

/// How many members and recovered intents there are, and how many open intents.
pub(super) fn left(server: &RedisServer) -> (i64, i64) {
    let mut admin = admin(server);
    let open = "local n = 0; for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do \
        if #id == 16 then n = n + 1 end end return n";
    let (members, intents) = (admin.cmd(&["ZCARD", M]), admin.cmd(&["EVAL", open, "1", W]));
    (members.int().unwrap() - 1, intents.int().unwrap())
}

#[tokio::test]
async fn the_fleet_knows_who_beats() {
    let server = RedisServer::start();
    let (a, _events) = join(&server.url(), bus_config(1)).await;
    assert!(!a.verify(0).await.unwrap().known);
    assert!(a.verify(0).await.unwrap().known);
    assert!(a.announce(0, vec![]).await.unwrap());
    admin(&server).cmd(&["DEL", M]);
    assert!(!a.announce(0, vec![]).await.unwrap());
    assert!(a.verify(0).await.unwrap().known);
}

#[tokio::test]
async fn a_dead_members_writes_are_published_now_and_at_their_deadline() {
    let server = RedisServer::start();
    let (dead, _) = join(&server.url(), short(1)).await;
    let (peer, mut events) = join(&server.url(), short(2)).await;
    let deadline = Duration::from_secs(4);
    let recorded = tokio::time::Instant::now();
    dead.announce(0, vec![intent(1, 1, deadline), intent(1, 2, deadline)])
        .await
        .unwrap();
    drop(dead);

    let (recovered, head) = recover(&peer).await;
    assert_eq!(recovered, 2);
    // The server counts whole milliseconds.
    assert!(recorded.elapsed() >= MEMBER_TIMEOUT - Duration::from_millis(1));
    // Both were published before the head was read.
    let mut payloads = Vec::new();
    for n in [1, 0] {
        let (position, payload) = message(&mut events).await;
        assert_eq!(
            position,
            Position {
                sequence: head.sequence - n,
                ..head
            }
        );
        payloads.push(payload);
    }
    payloads.sort();
    assert_eq!(payloads, ["intent 1", "intent 2"]);
    // The peer and two writes that wait for their deadline.
    assert_eq!(left(&server), (3, 2));

    let mut again = 0;
    until(async || {
        again += peer.verify(0).await.unwrap().recovered;
        again >= 2
    })
    .await;
    assert!(recorded.elapsed() >= deadline);
    message(&mut events).await;
    message(&mut events).await;
    assert_eq!(left(&server), (1, 0));
    assert_eq!(peer.verify(0).await.unwrap().recovered, 0);
}

#[tokio::test]
async fn a_write_past_its_deadline_is_published_now_and_when_its_writer_has_had_time_to_beat() {
    let server = RedisServer::start();
    let (dead, _) = join(&server.url(), short(1)).await;
    let (peer, _events) = join(&server.url(), short(2)).await;
    dead.announce(0, vec![intent(1, 1, Duration::ZERO)])
        .await
        .unwrap();
    drop(dead);
    let found = tokio::time::Instant::now();
    assert_eq!(recover(&peer).await.0, 1);
    assert_eq!(left(&server), (2, 1));
    assert_eq!(recover(&peer).await.0, 1);
    assert!(found.elapsed() >= MEMBER_TIMEOUT - Duration::from_millis(1));
    assert_eq!(left(&server), (1, 0));
}

#[tokio::test]
async fn losing_the_members_does_not_orphan_their_writes() {
    let server = RedisServer::start();
    // Silent for less than this timeout all the while.
    let (writer, _) = join(&server.url(), bus_config(1)).await;
    let (peer, mut events) = join(&server.url(), bus_config(2)).await;
    writer
        .announce(0, vec![intent(1, 7, Duration::from_secs(60))])
        .await
        .unwrap();
    admin(&server).cmd(&["DEL", M]);

    // Whatever makes the list again must not hide that it was lost: here it is a record, not a verification.
    assert!(!peer.announce(0, vec![]).await.unwrap());
    assert_eq!(peer.verify(0).await.unwrap().recovered, 1);
    assert_eq!(message(&mut events).await.1, "intent 7");

    // The writer lives: it learns that it is unknown, and answers for its write again.
    let known = writer
        .announce(0, vec![intent(1, 7, Duration::from_secs(60))])
        .await
        .unwrap();
    assert!(!known);
    assert_eq!(left(&server), (2, 1));
    assert_eq!(peer.verify(0).await.unwrap().recovered, 0);
    writer
        .publish(0, Bytes::new(), vec![intent_id(1, 7)])
        .await
        .unwrap();
    assert_eq!(left(&server), (2, 0));

    // Or it publishes before it has learned that: nothing is left to wait for the deadline.
    let open = vec![intent(1, 8, Duration::from_secs(60))];
    writer.announce(0, open).await.unwrap();
    admin(&server).cmd(&["DEL", M]);
    assert_eq!(peer.verify(0).await.unwrap().recovered, 1);
    assert_eq!(left(&server), (2, 1), "the peer and the write that waits");
    writer
        .publish(0, Bytes::new(), vec![intent_id(1, 8)])
        .await
        .unwrap();
    assert_eq!(left(&server), (1, 0));
}

#[tokio::test]
async fn losing_the_intents_is_reported_to_every_member() {
    let server = RedisServer::start();
    let (writer, _) = join(&server.url(), bus_config(1)).await;
    let (peer, _events) = join(&server.url(), bus_config(2)).await;
    let open = || vec![intent(1, 7, Duration::from_secs(60))];
    writer.announce(0, open()).await.unwrap();
    peer.verify(0).await.unwrap();
    admin(&server).cmd(&["DEL", W]);

    // The first that asks must not hide it from the others.
    assert!(!peer.verify(0).await.unwrap().known);
    assert!(!writer.verify(0).await.unwrap().known);
    writer.announce(0, open()).await.unwrap();
    assert_eq!(left(&server), (2, 1));
    assert!(peer.verify(0).await.unwrap().known);
    assert!(writer.verify(0).await.unwrap().known);
}

#[tokio::test]
async fn losing_the_members_does_not_forget_what_waits_for_its_deadline() {
    let server = RedisServer::start();
    let (dead, _) = join(&server.url(), short(1)).await;
    let (peer, _events) = join(&server.url(), short(2)).await;
    dead.announce(0, vec![intent(1, 1, Duration::from_secs(60))])
        .await
        .unwrap();
    drop(dead);
    assert_eq!(recover(&peer).await.0, 1);
    admin(&server).cmd(&["DEL", M]);
    assert_eq!(peer.verify(0).await.unwrap().recovered, 1);
    // The peer, and the write with its deadline.
    assert_eq!(left(&server), (2, 1));
    assert_eq!(peer.verify(0).await.unwrap().recovered, 0);
}

#[tokio::test]
async fn a_published_write_is_not_recovered() {
    let server = RedisServer::start();
    let (writer, _) = join(&server.url(), short(1)).await;
    let (peer, _events) = join(&server.url(), short(2)).await;
    writer
        .announce(0, vec![intent(1, 1, Duration::from_secs(60))])
        .await
        .unwrap();
    writer
        .publish(0, Bytes::new(), vec![intent_id(1, 1)])
        .await
        .unwrap();
    drop(writer);
    let mut recovered = 0;
    until(async || {
        recovered += peer.verify(0).await.unwrap().recovered;
        left(&server) == (1, 0)
    })
    .await;
    assert_eq!(recovered, 0);
}

#[tokio::test]
async fn no_member_expires_itself() {
    let server = RedisServer::start();
    let config = BusConfig {
        member_timeout: Duration::ZERO,
        ..bus_config(1)
    };
    let (bus, _events) = join(&server.url(), config).await;
    bus.announce(0, vec![intent(1, 1, Duration::from_secs(60))])
        .await
        .unwrap();
    for _ in 0..3 {
        let verified = bus.verify(0).await.unwrap();
        assert!(verified.known);
        assert_eq!(verified.recovered, 0);
    }
}

#[tokio::test]
async fn more_dead_than_one_call_settles_are_settled_before_the_head_is_read() {
    let server = RedisServer::start();
    let (dead, _) = join(&server.url(), short(1)).await;
    let (peer, _events) = join(&server.url(), short(2)).await;
    let intents = (0..1_200)
        .map(|n| intent(1, n, Duration::from_secs(60)))
        .collect();
    dead.announce(0, intents).await.unwrap();
    drop(dead);
    let mut admin = admin(&server);
    for n in 0..300 {
        admin.cmd(&["ZADD", M, "1", &format!("dead{n:04}")]);
    }
    let start = peer.journal(0, 0).await.unwrap().head.sequence;
    let mut seen = 0;
    until(async || {
        seen += peer.verify(0).await.unwrap().recovered;
        seen >= 1_200
    })
    .await;
    assert_eq!(seen, 1_200);
    let head = peer.verify(0).await.unwrap().head;
    assert!(head.sequence >= start + 1_200);
    assert_eq!(admin.cmd(&["ZCARD", M]).int(), Some(1_202));
}

#[tokio::test]
async fn leaving_with_open_writes_leaves_them_to_the_peers() {
    let server = RedisServer::start();
    let (writer, _) = join(&server.url(), short(1)).await;
    let (peer, _events) = join(&server.url(), short(2)).await;
    writer
        .announce(0, vec![intent(1, 1, Duration::from_secs(60))])
        .await
        .unwrap();
    writer.close(StillOpen::default()).await;
    assert_eq!(left(&server), (1, 1));
    assert_eq!(recover(&peer).await.0, 1);
}

#[tokio::test]
async fn writes_that_are_not_listed_as_open_are_cleared_up_to_the_highest_listed_number() {
    let server = RedisServer::start();
    let (writer, _) = join(&server.url(), bus_config(1)).await;
    let (peer, _events) = join(&server.url(), bus_config(2)).await;
    let minute = Duration::from_secs(60);
    let all = (1..=4).map(|number| intent(1, number, minute)).collect();
    writer.announce(0, all).await.unwrap();
    peer.announce(0, vec![intent(2, 1, minute)]).await.unwrap();
    let open = StillOpen {
        up_to: 3,
        intents: vec![intent_id(1, 2)],
    };
    writer.reconcile(0, open).await.unwrap();
    assert_eq!(left(&server), (2, 3), "of the writer the 2nd and the 4th");
    // Leaving does the same, and leaves where nothing is left.
    let open = StillOpen {
        up_to: 4,
        intents: vec![],
    };
    writer.close(open).await;
    assert_eq!(left(&server), (1, 1));
    let fields = admin(&server).cmd(&["HLEN", W]).int();
    assert_eq!(fields, Some(3), "the peer, its write and the placeholder");
}
