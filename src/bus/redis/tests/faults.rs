//! Connections that are cut, fall silent or lag; each must be noticed, and repaired by itself.

use std::time::Instant;

use super::proxy::Proxy;
use super::*;
use crate::ErrorKind;
use crate::bus::{EVENT_QUEUE, GapCause, SubscriptionRepair};

async fn gap(events: &mut Events) {
    let event = next(events).await;
    assert!(
        matches!(event, BusEvent::Gap(GapCause::Disconnected)),
        "{event:?}"
    );
}

/// The peer is back: both connections must work within [`BACK`].
async fn works_again(bus: &RedisBus, events: &mut Events) {
    let back = Instant::now();
    subscribed(events).await;
    publish_until_acknowledged(bus).await;
    message(events).await;
    assert!(back.elapsed() < BACK, "{:?}", back.elapsed());
    assert!(bus.connected());
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_is_used_again() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    server.kill();
    gap(&mut events).await;
    until(async || !bus.connected()).await;

    let began = Instant::now();
    let error = bus
        .publish(0, Bytes::from_static(b"lost"), vec![])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bus);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());

    server.restart();
    subscribed(&mut events).await;
    until(async || bus.connected()).await;
    // What failed while the server was away is not sent later.
    assert_eq!(
        admin(&server).cmd(&["EXISTS", "us:{shop:0}s"]).int(),
        Some(0)
    );
    publish_until_acknowledged(&bus).await;
    assert_eq!(message(&mut events).await.1, "x");
}

#[tokio::test]
async fn a_server_that_comes_back_after_long_is_used_again_soon() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    server.kill();
    gap(&mut events).await;
    // Long enough for the delays to have grown to their longest.
    for _ in 0..3 {
        bus.verify(0).await.unwrap_err();
    }
    server.restart();
    works_again(&bus, &mut events).await;
}

#[tokio::test]
async fn a_bus_may_start_before_its_server() {
    let server = RedisServer::start();
    server.kill();
    let (bus, mut events) = RedisBus::start(bus_config(1), &redis_config(&server.url())).unwrap();
    let error = bus.ready(Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bus);
    server.restart();
    bus.ready(PATIENCE).await.unwrap();
    works_again(&bus, &mut events).await;
}

#[tokio::test]
async fn a_subscriber_that_is_killed_subscribes_again() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    for _ in 0..3 {
        assert_eq!(admin(&server).kill_subscribers(), 1);
        gap(&mut events).await;
        works_again(&bus, &mut events).await;
    }
}

#[tokio::test]
async fn a_black_hole_is_noticed_and_the_bus_works_again_after_it() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let (bus, mut events) = join(&proxy.url(), bus_config(1)).await;
    publish_until_acknowledged(&bus).await;
    message(&mut events).await;

    proxy.swallow();
    let began = Instant::now();
    let mut errors = 0;
    until(async || {
        errors += u32::from(bus.verify(0).await.is_err());
        !bus.connected()
    })
    .await;
    assert!((1..=3).contains(&errors), "{errors}");
    gap(&mut events).await;
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    bus.verify(0).await.unwrap_err();

    proxy.heal();
    works_again(&bus, &mut events).await;
}

#[tokio::test]
async fn a_black_hole_is_noticed_while_commands_keep_coming() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let (bus, _events) = join(&proxy.url(), bus_config(1)).await;
    proxy.swallow();
    let began = Instant::now();
    let busy = async {
        let mut publishes = tokio::task::JoinSet::new();
        while bus.connected() {
            let bus = Arc::clone(&bus);
            publishes.spawn(async move { bus.publish(0, Bytes::new(), vec![]).await });
            sleep(Duration::from_millis(10)).await;
        }
        publishes
    };
    let mut publishes = timeout(PATIENCE, busy).await.expect("it was noticed");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    while let Some(result) = publishes.join_next().await {
        assert_eq!(result.unwrap().unwrap_err().kind(), ErrorKind::Bus);
    }
}

#[tokio::test]
async fn a_black_hole_is_noticed_though_no_caller_waits_for_its_timeout() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let (bus, _events) = join(&proxy.url(), bus_config(1)).await;
    proxy.swallow();
    let began = Instant::now();
    until(async || {
        // Only the last one sees an error, when the connection is given up under it.
        let _ = timeout(Duration::from_millis(50), bus.verify(0)).await;
        !bus.connected()
    })
    .await;
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_black_hole_under_an_idle_subscription_is_noticed_when_a_repair_is_asked_for() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let (bus, mut events) = join(&proxy.url(), bus_config(1)).await;
    proxy.swallow();
    let began = Instant::now();
    bus.repair_subscription(SubscriptionRepair::Resubscribe);
    gap(&mut events).await;
    // The proof did not come within the command timeout.
    assert!(
        began.elapsed() > Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_is_stopped_and_continued_is_used_again() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    server.stop();
    let mut timeouts = 0;
    until(async || {
        timeouts += u32::from(bus.verify(0).await.is_err());
        timeouts >= 3
    })
    .await;
    server.cont();
    let back = Instant::now();
    // The subscription may have survived, or be made again; what is published meanwhile is lost.
    until(async || {
        let _ = bus.publish(0, Bytes::new(), vec![]).await;
        let event = timeout(Duration::from_millis(50), events.recv()).await;
        matches!(event, Ok(Some(BusEvent::Message { .. })))
    })
    .await;
    assert!(back.elapsed() < BACK, "{:?}", back.elapsed());
    bus.verify(0).await.unwrap();
}

/// fred's task waits for room in the socket and reads nothing.
#[tokio::test]
async fn calls_to_a_stopped_server_whose_socket_is_full_time_out() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    server.stop();
    let payload = Bytes::from(vec![b'x'; crate::event::MAX_PAYLOAD]);
    let began = Instant::now();
    let mut publishes = tokio::task::JoinSet::new();
    for _ in 0..400 {
        let (bus, payload) = (Arc::clone(&bus), payload.clone());
        publishes.spawn(async move { bus.publish(0, payload, vec![]).await });
    }
    while let Some(result) = publishes.join_next().await {
        assert_eq!(result.unwrap().unwrap_err().kind(), ErrorKind::Bus);
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    bus.verify(0).await.unwrap_err();
    until(async || !bus.connected()).await;
    server.cont();
    let back = Instant::now();
    publish_until_acknowledged(&bus).await;
    assert!(back.elapsed() < BACK, "{:?}", back.elapsed());
}

#[tokio::test]
async fn a_slow_moment_costs_no_connection() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    let mut sleeper = admin(&server);
    let asleep = std::thread::spawn(move || sleeper.cmd(&["DEBUG", "SLEEP", "1.3"]));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let bus = Arc::clone(&bus);
        calls.spawn(async move { bus.verify(0).await });
    }
    while calls.join_next().await.is_some() {}
    until(async || bus.verify(0).await.is_ok()).await;
    asleep.join().unwrap();
    publish_until_acknowledged(&bus).await;
    // No gap: the same subscription.
    message(&mut events).await;
}

#[tokio::test]
async fn a_repair_proves_the_subscription_again() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    bus.repair_subscription(SubscriptionRepair::Resubscribe);
    assert!(matches!(next(&mut events).await, BusEvent::Subscribed));
    bus.repair_subscription(SubscriptionRepair::Reconnect);
    gap(&mut events).await;
    assert!(matches!(next(&mut events).await, BusEvent::Subscribed));
    publish_until_acknowledged(&bus).await;
    message(&mut events).await;
}

#[tokio::test]
async fn reconnecting_leaks_no_connections() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    let mut admin = admin(&server);
    for _ in 0..5 {
        bus.repair_subscription(SubscriptionRepair::Reconnect);
        gap(&mut events).await;
        subscribed(&mut events).await;
    }
    until(async || admin.info("connected_clients") == "3").await;
    assert_eq!(admin.info("pubsub_channels"), "1");
}

#[tokio::test]
async fn a_consumer_that_is_too_slow_learns_of_it() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    // 20 MB: more than the queue and the sockets' buffers hold together.
    let total = 200_000;
    let mut admin = admin(&server);
    flood(&mut admin, total);
    until(async || {
        let subscriber = admin.cmd(&["CLIENT", "LIST", "TYPE", "pubsub"]).text();
        events.len() == EVENT_QUEUE && subscriber.contains(" omem=0 ")
    })
    .await;
    // Commands are not held up by deliveries that are not taken.
    bus.verify(0).await.unwrap();
    let mut last = 0;
    loop {
        match next(&mut events).await {
            BusEvent::Message { position, .. } => {
                // Nothing is missing without a report of it.
                assert_eq!(position.sequence, last + 1);
                last = position.sequence;
            }
            BusEvent::Gap(GapCause::Lagged) => break,
            other => unreachable!("{other:?}"),
        }
    }
    assert!(last < total, "all {total} fitted into the queue");
    // What comes after the gap is delivered again.
    flood(&mut admin, 1);
    loop {
        match next(&mut events).await {
            BusEvent::Message { position, .. } if position.sequence == 1 => return,
            // What had arrived by then.
            BusEvent::Message { position, .. } => assert!(position.sequence > last),
            BusEvent::Gap(GapCause::Lagged) => {}
            other => unreachable!("{other:?}"),
        }
    }
}

/// A burst that a consumer keeps up with is delivered whole, however fast it came.
#[tokio::test]
async fn a_flood_loses_nothing() {
    let server = RedisServer::start();
    let (_bus, mut events) = join(&server.url(), bus_config(1)).await;
    let total = 100_000;
    let port = server.port();
    let flood = std::thread::spawn(move || flood(&mut Client::connect(port), total));
    let (mut last, mut batch) = (0, Vec::new());
    while last < total {
        timeout(PATIENCE, events.recv_many(&mut batch, 1_024))
            .await
            .expect("events");
        for event in batch.drain(..) {
            let BusEvent::Message { position, .. } = event else {
                unreachable!("{event:?}")
            };
            assert_eq!(position.sequence, last + 1);
            last += 1;
        }
    }
    flood.join().unwrap();
}

/// Publishes events 1, 2, .. of some epoch as fast as the server can.
fn flood(client: &mut Client, total: u64) {
    let script = "for i = 1, tonumber(ARGV[1]) do \
                  redis.call('PUBLISH', 'us:{shop:0}e0', struct.pack('>I8I8I4', 1, i, #ARGV[2]) .. ARGV[2]) end";
    client.cmd(&["EVAL", script, "0", &total.to_string(), &"x".repeat(40)]);
}

/// The server ends the subscription of a slot that it gives away. Nothing else shows it where the slot comes
/// back before anything is published.
#[tokio::test]
async fn a_lane_whose_slot_goes_and_comes_back_is_subscribed_again() {
    let port = testkit::redis::free_port().to_string();
    let server = RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-port", &port]);
    let mut admin = admin(&server);
    admin.cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let url = server.url().replace("redis://", "redis-cluster://");
    until(async || {
        admin
            .cmd(&["CLUSTER", "INFO"])
            .text()
            .contains("cluster_state:ok")
    })
    .await;
    let (bus, mut events) = join(&url, bus_config(1)).await;
    let slot = admin.cmd(&["CLUSTER", "KEYSLOT", "us:{shop:0}s"]).text();
    admin.cmd(&["CLUSTER", "DELSLOTS", &slot]);
    admin.cmd(&["CLUSTER", "ADDSLOTS", &slot]);
    gap(&mut events).await;
    subscribed(&mut events).await;
    publish_until_acknowledged(&bus).await;
    message(&mut events).await;
}
