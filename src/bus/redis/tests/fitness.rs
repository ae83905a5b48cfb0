//! Servers that answer and cannot serve, and proxies that end what is silent.

use std::io;
use std::sync::Mutex;

use super::*;
use crate::ErrorKind;

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self, part: &str) -> usize {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(part)).count()
    }
}

/// Connections that the server has accepted so far.
fn accepted(server: &RedisServer) -> u64 {
    admin(server)
        .info("total_connections_received")
        .parse()
        .unwrap()
}

/// How often a bus connects in ten seconds of failing verifications. A slow machine connects less.
async fn connections_in_vain(server: &RedisServer, bus: &RedisBus) -> u64 {
    let mut own = 1;
    let before = accepted(server);
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        assert_eq!(bus.verify(0).await.unwrap_err().kind(), ErrorKind::Bus);
        sleep(Duration::from_millis(100)).await;
    }
    own += 1;
    accepted(server) - before - own
}

#[tokio::test]
async fn a_read_only_replica_is_asked_seldom_and_used_once_it_is_promoted() {
    let primary = RedisServer::start();
    let of = format!("127.0.0.1 {}", primary.port());
    let replica = RedisServer::start_with(&["--replicaof", &of, "--repl-diskless-sync-delay", "0"]);
    until(async || admin(&replica).info("master_link_status") == "up").await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let (bus, mut events) = RedisBus::start(bus_config(1), &redis_config(&replica.url())).unwrap();
    until(async || {
        let error = bus.verify(0).await.unwrap_err();
        error.to_string().contains("read-only replica")
    })
    .await;
    let made = connections_in_vain(&replica, &bus).await;
    assert!(made <= 20, "{made} connections in 10 s");
    assert_eq!(log.lines("connected to Redis again"), 0);
    // Once every ten seconds at most.
    assert!((1..=3).contains(&log.lines("read-only replica")));
    let error = bus.ready(Duration::from_millis(100)).await.unwrap_err();
    assert!(error.to_string().contains("read-only replica"), "{error}");
    admin(&replica).cmd(&["REPLICAOF", "NO", "ONE"]);
    until(async || bus.verify(0).await.is_ok()).await;
    bus.ready(PATIENCE).await.unwrap();
    // The subscription has followed: an event arrives.
    subscribed(&mut events).await;
    until(async || {
        publish_until_acknowledged(&bus).await;
        let heard = timeout(Duration::from_secs(1), events.recv()).await;
        matches!(heard, Ok(Some(BusEvent::Message { .. })))
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_is_down_is_asked_over_few_connections() {
    let server = RedisServer::start_with(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &testkit::redis::free_port().to_string(),
    ]);
    let (bus, _events) = RedisBus::start(bus_config(1), &redis_config(&server.url())).unwrap();
    until(async || {
        let error = bus.verify(0).await.unwrap_err();
        error.to_string().contains("cluster is down")
    })
    .await;
    let made = connections_in_vain(&server, &bus).await;
    assert!(made <= 20, "{made} connections in 10 s");
}

#[tokio::test]
async fn a_proxy_that_ends_silent_connections_ends_none() {
    let server = RedisServer::start();
    let proxy = proxy::Proxy::that_ends_silence(server.port(), Duration::from_secs(8)).await;
    let mut config = redis_config(&proxy.url());
    config.times.keepalive = Duration::from_secs(2);
    let mut about = bus_config(1);
    // So long that its beats keep nothing alive.
    about.member_timeout = Duration::from_secs(600);
    let (bus, mut events) = RedisBus::start(about, &config).unwrap();
    bus.ready(PATIENCE).await.unwrap();
    assert!(matches!(next(&mut events).await, BusEvent::Subscribed));
    let made = accepted(&server);
    let quiet = timeout(Duration::from_secs(12), events.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert_eq!(accepted(&server), made + 1, "only the question itself");
}
