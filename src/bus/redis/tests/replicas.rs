//! Subscriptions at replicas: what they hear, and where they go when a replica is gone.

use super::*;
use crate::bus::GapCause;
use crate::bus::redis::listen::Listen;
use crate::url::Place;

fn replica_of(primary: &RedisServer) -> RedisServer {
    let of = format!("127.0.0.1 {}", primary.port());
    let replica = RedisServer::start_with(&["--replicaof", &of, "--repl-diskless-sync-delay", "0"]);
    while admin(&replica).info("master_link_status") != "up" {
        std::thread::sleep(Duration::from_millis(10));
    }
    replica
}

fn at(server: &RedisServer) -> Listen {
    Listen::At(Place {
        host: "127.0.0.1".into(),
        port: server.port(),
    })
}

async fn join_at(primary: &RedisServer, listen: Listen) -> (Arc<RedisBus>, Events) {
    let config = RedisConfig {
        listen,
        ..redis_config(&primary.url())
    };
    let (bus, mut events) = RedisBus::start(bus_config(1), &config).unwrap();
    bus.ready(PATIENCE).await.unwrap();
    assert!(matches!(next(&mut events).await, BusEvent::Subscribed));
    (bus, events)
}

fn subscribers(server: &RedisServer) -> u64 {
    let heard = admin(server).cmd(&["PUBSUB", "NUMSUB", "us:{shop:0}e0"]);
    heard.array()[1].text().parse().unwrap()
}

#[tokio::test]
async fn events_are_heard_at_a_replica() {
    let primary = RedisServer::start();
    let replica = replica_of(&primary);
    for listen in [at(&replica), Listen::Replicas] {
        let (bus, mut events) = join_at(&primary, listen).await;
        assert_eq!((subscribers(&primary), subscribers(&replica)), (0, 1));
        for n in 0..50 {
            let published = bus.publish(0, Bytes::from(vec![n]), Vec::new()).await;
            assert_eq!(
                message(&mut events).await,
                (published.unwrap(), Bytes::from(vec![n]))
            );
        }
        bus.close(StillOpen::default()).await;
        until(async || subscribers(&replica) == 0).await;
    }
}

#[tokio::test]
async fn without_a_replica_the_primary_is_subscribed_at() {
    let primary = RedisServer::start();
    let (bus, mut events) = join_at(&primary, Listen::Replicas).await;
    assert_eq!(subscribers(&primary), 1);
    let published = bus.publish(0, Bytes::from_static(b"x"), Vec::new()).await;
    assert_eq!(message(&mut events).await.0, published.unwrap());
}

/// One that never comes back, and one that is chosen again after its end.
#[tokio::test]
async fn when_the_replica_is_gone_the_primary_is_subscribed_at() {
    let primary = RedisServer::start();
    let replica = replica_of(&primary);
    let (bus, mut events) = join_at(&primary, at(&replica)).await;
    replica.kill();
    loop {
        match next(&mut events).await {
            BusEvent::Gap(cause) => assert_eq!(cause, GapCause::Disconnected),
            BusEvent::Subscribed => break,
            other => unreachable!("{other:?}"),
        }
    }
    assert_eq!(subscribers(&primary), 1);
    let published = bus.publish(0, Bytes::from_static(b"x"), Vec::new()).await;
    assert_eq!(message(&mut events).await.0, published.unwrap());
}

/// A fleet that subscribes at replicas is as many as its members, and its deliveries have pauses.
#[tokio::test]
async fn members_count_as_subscribers() {
    let primary = RedisServer::start();
    let (bus, _events) = join(&primary.url(), bus_config(1)).await;
    bus.verify(0).await.unwrap();
    let mut admin = admin(&primary);
    let place = now(&mut admin).to_string();
    for member in 0..150_u64 {
        let member = (1_000 + member).to_be_bytes();
        // It is never found dead.
        admin.cmd(&[&b"HSET"[..], b"us:{shop:0}w", &member, b"86400000"]);
        admin.cmd(&[&b"ZADD"[..], b"us:{shop:0}m", place.as_bytes(), &member]);
    }
    // An instance that joins counts.
    let (other, _heard) = join(&primary.url(), bus_config(2)).await;
    other.verify(0).await.unwrap();
    bus.publish(0, Bytes::from_static(b"x"), Vec::new())
        .await
        .unwrap();
    let verified = bus.verify(0).await.unwrap();
    // 152 members, 5 us each, a quarter of the time.
    assert_eq!(verified.pause, Duration::from_micros(152 * 5 * 4));
    // They are gone, and with them the pause.
    for member in 0..150_u64 {
        let member = (1_000 + member).to_be_bytes();
        admin.cmd(&[&b"ZREM"[..], b"us:{shop:0}m", &member]);
    }
    bus.verify(0).await.unwrap();
    sleep(Duration::from_millis(5)).await;
    bus.publish(0, Bytes::from_static(b"x"), Vec::new())
        .await
        .unwrap();
    assert_eq!(bus.verify(0).await.unwrap().pause, Duration::ZERO);
}

/// The server's clock, in milliseconds.
fn now(admin: &mut Client) -> u64 {
    let time = admin.cmd(&["TIME"]);
    let seconds: u64 = time.array()[0].text().parse().unwrap();
    seconds * 1_000
}
