//! The server's clock is set, and members have timeouts of their own.

use super::members::{M, W, intent, left, short};
use super::*;

/// Instance 1 as the scripts name it.
const FIRST: &str = "\0\0\0\0\0\0\0\u{1}";

const MINUTE: Duration = Duration::from_secs(60);

/// The server's clock in milliseconds.
fn now(server: &RedisServer) -> i64 {
    let time = "local t = redis.call('TIME'); return t[1] * 1000 + math.floor(t[2] / 1000)";
    admin(server).cmd(&["EVAL", time, "0"]).int().unwrap()
}

fn set_beat(server: &RedisServer, at: i64) {
    admin(server).cmd(&["ZADD", M, &at.to_string(), FIRST]);
}

/// In milliseconds of the server's clock.
fn deadline(server: &RedisServer) -> i64 {
    let read = "for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do if #id == 16 then \
        return struct.unpack('>I8', redis.call('HGET', KEYS[1], id)) end end";
    admin(server).cmd(&["EVAL", read, "1", W]).int().unwrap()
}

#[tokio::test]
async fn a_dead_writer_whose_last_beat_lies_in_the_future_is_found_in_time() {
    let server = RedisServer::start();
    let (dead, _) = join(&server.url(), short(1)).await;
    let (peer, _events) = join(&server.url(), short(2)).await;
    dead.announce(0, vec![intent(1, 1, 10 * MINUTE)])
        .await
        .unwrap();
    drop(dead);
    // The clock has stepped back by an hour since.
    set_beat(&server, now(&server) + 3_600_000);
    let found = async {
        until(async || peer.verify(0).await.unwrap().recovered > 0).await;
    };
    assert!(
        timeout(PATIENCE / 2, found).await.is_ok(),
        "the write of a dead writer waits for its beat to become the past"
    );
}

#[tokio::test]
async fn after_a_step_back_deadlines_come_as_much_earlier() {
    let server = RedisServer::start();
    let (writer, _) = join(&server.url(), bus_config(1)).await;
    let (peer, _events) = join(&server.url(), bus_config(2)).await;
    writer
        .announce(0, vec![intent(1, 1, 100 * MINUTE)])
        .await
        .unwrap();
    let (before, at) = (deadline(&server), now(&server));
    set_beat(&server, at + 3_600_000);
    peer.verify(0).await.unwrap();
    let earlier = before - deadline(&server);
    // The beat is less than an hour ahead by the time that the verification took.
    assert!((3_500_000..=3_600_000).contains(&earlier), "{earlier}");
    assert_eq!(left(&server), (2, 1));
}

#[tokio::test]
async fn a_step_forward_settles_no_write_of_a_live_writer() {
    let server = RedisServer::start();
    let (writer, _) = join(&server.url(), bus_config(1)).await;
    let (peer, _events) = join(&server.url(), bus_config(2)).await;
    peer.verify(0).await.unwrap();
    // To a clock that steps forward, all beats are old and all deadlines past.
    writer
        .announce(0, vec![intent(1, 1, Duration::ZERO)])
        .await
        .unwrap();
    set_beat(&server, 1);
    assert_eq!(peer.verify(0).await.unwrap().recovered, 1);
    assert_eq!(left(&server), (2, 1), "the write is open still");
    // The writer learns that it is unknown, and answers for its write again.
    assert!(!writer.verify(0).await.unwrap().known);
    writer
        .announce(0, vec![intent(1, 1, MINUTE)])
        .await
        .unwrap();
    assert_eq!(left(&server), (2, 1));
    assert_eq!(peer.verify(0).await.unwrap().recovered, 0);
}

#[tokio::test]
async fn an_instance_with_a_short_timeout_does_not_expire_one_that_beats_slowly() {
    let server = RedisServer::start();
    let slow = BusConfig {
        member_timeout: MINUTE,
        ..bus_config(1)
    };
    let (slow, _) = join(&server.url(), slow).await;
    let (hasty, _events) = join(&server.url(), short(2)).await;
    slow.announce(0, vec![intent(1, 1, 10 * MINUTE)])
        .await
        .unwrap();
    set_beat(&server, now(&server) - 20_000);
    assert_eq!(hasty.verify(0).await.unwrap().recovered, 0);
    assert!(slow.verify(0).await.unwrap().known);
    // Once it is silent for longer than its own, it is found dead.
    set_beat(&server, now(&server) - 61_000);
    assert_eq!(hasty.verify(0).await.unwrap().recovered, 1);
}

#[tokio::test]
async fn a_hundred_slow_beaters_hide_no_dead_member() {
    let server = RedisServer::start();
    let (hasty, _events) = join(&server.url(), short(999)).await;
    hasty.verify(0).await.unwrap();
    let mut admin = admin(&server);
    for n in 0..200 {
        let id = format!("slow{n:04}");
        admin.cmd(&["HSET", W, &id, "60000"]);
        let at = (now(&server) - 20_000).to_string();
        admin.cmd(&["ZADD", M, &at, &id]);
    }
    assert_eq!(hasty.verify(0).await.unwrap().recovered, 0);
    let (dead, _) = join(&server.url(), short(1)).await;
    dead.announce(0, vec![intent(1, 1, 10 * MINUTE)])
        .await
        .unwrap();
    drop(dead);
    set_beat(&server, now(&server) - 30_000);
    assert_eq!(hasty.verify(0).await.unwrap().recovered, 1);
}
