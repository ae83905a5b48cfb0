//! Names with several addresses, of which some are silent, and sockets of this machine.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::ErrorKind;

/// An address that answers nothing, as one behind a firewall: its queue is full.
struct Silent {
    address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Silent {
    fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(one) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queued.push(one);
            assert!(queued.len() < 64, "the queue is never full");
        }
        Self {
            address,
            _listener: listener,
            _queued: queued,
        }
    }
}

fn with(addresses: Vec<SocketAddr>, connect: Duration) -> RedisConfig {
    let mut config = redis_config("redis://redis.example");
    config.lookup = Lookup::Fixed(addresses);
    config.times.connect = connect;
    config
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[tokio::test]
async fn a_name_whose_first_address_is_silent_leads_to_the_next() {
    let (server, silent) = (RedisServer::start(), Silent::start());
    // One attempt to connect: an attempt that waits for the first address gets no further.
    let config = with(vec![silent.address, at(server.port())], PATIENCE * 2);
    let (bus, _events) = RedisBus::start(bus_config(1), &config).unwrap();
    bus.ready(PATIENCE).await.unwrap();
    bus.verify(0).await.unwrap();
}

#[tokio::test]
async fn an_address_that_accepts_and_says_nothing_is_left_for_the_next() {
    let server = RedisServer::start();
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mute_address = mute.local_addr().unwrap();
    let config = with(
        vec![mute_address, at(server.port())],
        Duration::from_secs(1),
    );
    let (bus, _events) = RedisBus::start(bus_config(1), &config).unwrap();
    bus.ready(PATIENCE).await.unwrap();
    bus.verify(0).await.unwrap();
}

#[tokio::test]
async fn the_error_names_the_addresses_that_were_tried() {
    let (closed, silent) = (RedisServer::start(), Silent::start());
    closed.kill();
    let addresses = vec![silent.address, at(closed.port())];
    let config = with(addresses.clone(), Duration::from_secs(2));
    let (bus, _events) = RedisBus::start(bus_config(1), &config).unwrap();
    let mut text = String::new();
    until(async || {
        let error = bus.ready(Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bus);
        text = error.to_string();
        text.contains("redis.example")
    })
    .await;
    for part in addresses.iter().map(ToString::to_string) {
        assert!(text.contains(&part), "{part}: {text}");
    }
    assert!(
        text.contains("refused") && text.contains("no answer"),
        "{text}"
    );
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_named() {
    let config = with(Vec::new(), Duration::from_secs(2));
    let (bus, _events) = RedisBus::start(bus_config(1), &config).unwrap();
    until(async || {
        let error = bus.ready(Duration::from_millis(100)).await.unwrap_err();
        error
            .to_string()
            .contains("the name redis.example cannot be looked up")
    })
    .await;
}

#[tokio::test]
async fn a_name_that_the_system_resolves_is_connected_to() {
    let server = RedisServer::start();
    let (bus, _events) = join(
        &format!("redis://localhost:{}", server.port()),
        bus_config(1),
    )
    .await;
    bus.verify(0).await.unwrap();
}

#[tokio::test]
async fn a_socket_of_this_machine_is_connected_to() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("redis.sock");
    let path = path.to_str().unwrap();
    let server = RedisServer::start_with(&["--unixsocket", path, "--requirepass", "right"]);
    let (bus, mut events) = join(&format!("unix://:right@{path}?db=3"), bus_config(1)).await;
    bus.publish(0, Bytes::from_static(b"x"), vec![])
        .await
        .unwrap();
    assert_eq!(message(&mut events).await.1, "x");
    let (other, _events) = join(&format!("unix://{path}?password=right&db=3"), bus_config(2)).await;
    other
        .publish(0, Bytes::from_static(b"y"), vec![])
        .await
        .unwrap();
    assert_eq!(message(&mut events).await.1, "y");
    drop(server);
    until(async || bus.verify(0).await.is_err()).await;
    let error = bus.ready(Duration::from_millis(100)).await.unwrap_err();
    assert!(error.to_string().contains(path), "{error}");
}
