//! The Redis bus against a real redis-server.

mod access;
mod clock;
mod counter;
mod deliveries;
mod dial;
mod failover;
mod faults;
mod fitness;
mod logins;
mod marks;
mod members;
mod proxy;
mod refused;
mod replicas;
#[cfg(feature = "cli")]
mod rights;
mod rounds;
mod tier;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use testkit::redis::RedisServer;
use testkit::resp::Client;
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};

use super::dial::Lookup;
use super::logins::LoginSource;
use super::target::Times;
use super::{RedisBus, RedisConfig};
use crate::bus::{Bus, BusConfig, BusEvent, IntentId, Known, Position, StillOpen};

/// How long anything may take that is only a matter of a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the bus promises is 1.5 s until a peer that is back is used again; the rest is for a slow machine.
const BACK: Duration = Duration::from_secs(20);

type Events = Receiver<BusEvent>;

fn bus_config(instance: u64) -> BusConfig {
    BusConfig {
        namespace: "shop".to_owned(),
        instance,
        lanes: 1,
        journal: 4_096,
        member_timeout: Duration::from_secs(5),
        signs: false,
        keys: Vec::new(),
        traffic: Arc::default(),
        outages: Arc::default(),
        tasks: Arc::default(),
    }
}

fn redis_config(url: &str) -> RedisConfig {
    RedisConfig {
        listen: super::listen::Listen::Primary,
        url: url.to_owned(),
        tls_ca: None,
        tls_cert: None,
        tls_key: None,
        tls_server_name: None,
        login: LoginSource::Url,
        lookup: Lookup::System,
        times: Times {
            connect: Duration::from_secs(5),
            command: Duration::from_secs(1),
            keepalive: Duration::from_secs(10),
        },
    }
}

/// A bus that is ready, and its events after the first, [`BusEvent::Subscribed`].
async fn join(url: &str, config: BusConfig) -> (Arc<RedisBus>, Events) {
    let (bus, mut events) = RedisBus::start(config, &redis_config(url)).expect("a valid URL");
    bus.ready(PATIENCE).await.expect("Redis is there");
    assert!(matches!(next(&mut events).await, BusEvent::Subscribed));
    (bus, events)
}

async fn next(events: &mut Events) -> BusEvent {
    timeout(PATIENCE, events.recv())
        .await
        .expect("an event")
        .expect("the bus is open")
}

/// The next event, which must be a message of lane 0.
async fn message(events: &mut Events) -> (Position, Bytes) {
    match next(events).await {
        BusEvent::Message {
            lane: 0,
            position,
            payload,
        } => (position, payload),
        other => unreachable!("a message was expected, not {other:?}"),
    }
}

/// Skips what comes before a proven subscription.
async fn subscribed(events: &mut Events) {
    while !matches!(next(events).await, BusEvent::Subscribed) {}
}

/// Asks again until the answer is yes.
async fn until(mut yes: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !yes().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, asking)
        .await
        .expect("it never became true");
}

/// Publishes until it is acknowledged. Returns how often it was not.
async fn publish_until_acknowledged(bus: &RedisBus) -> u32 {
    let mut failures = 0;
    until(
        async || match bus.publish(0, Bytes::from_static(b"x"), vec![]).await {
            Ok(_) => true,
            Err(_) => {
                failures += 1;
                false
            }
        },
    )
    .await;
    failures
}

fn intent_id(instance: u64, number: u64) -> IntentId {
    (u128::from(instance) << 64 | u128::from(number)).to_be_bytes()
}

fn admin(server: &RedisServer) -> Client {
    Client::connect(server.port())
}
