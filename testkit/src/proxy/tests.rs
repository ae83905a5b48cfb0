//! The faults are what they claim to be, seen from a real client of a real server.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

use super::*;
use crate::redis::RedisServer;
use crate::resp::{Client, Value};

/// Longer than anything that happens at once, shorter than a test is patient.
const QUIET: Duration = Duration::from_millis(150);

async fn connect(port: u16) -> Client {
    spawn_blocking(move || Client::connect(port)).await.unwrap()
}

/// Runs blocking calls of a client; it comes back with their result.
async fn with<T: Send + 'static>(
    mut client: Client,
    work: impl FnOnce(&mut Client) -> T + Send + 'static,
) -> (Client, T) {
    spawn_blocking(move || {
        let result = work(&mut client);
        (client, result)
    })
    .await
    .unwrap()
}

async fn ping(client: Client) -> (Client, io::Result<Value>) {
    with(client, |client| client.try_cmd(&["PING"])).await
}

/// How the proxy gets rid of a client that connects now.
async fn rebuff(proxy: &Proxy) -> ErrorKind {
    let read = async {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await?;
        client.read_u8().await
    };
    read.await.unwrap_err().kind()
}

/// A subscriber through the proxy, and a publisher beside it.
async fn pair(server: &RedisServer, proxy: &Proxy, hello: &'static str) -> (Client, Client) {
    let subscriber = connect(proxy.port()).await;
    let (subscriber, _) = with(subscriber, move |client| {
        client.cmd(&["HELLO", hello]);
        client.cmd(&["SUBSCRIBE", "c"]);
    })
    .await;
    (subscriber, connect(server.port()).await)
}

async fn publish(publisher: Client, payloads: &'static [&'static str]) -> Client {
    let publishing = with(publisher, move |client| {
        for payload in payloads {
            assert_eq!(client.cmd(&["PUBLISH", "c", payload]), Value::Int(1));
        }
    });
    publishing.await.0
}

async fn receive(subscriber: Client, count: usize) -> (Client, Vec<String>) {
    with(subscriber, move |client| {
        (0..count)
            .map(|_| client.read().unwrap().array()[2].text())
            .collect()
    })
    .await
}

#[tokio::test]
async fn single_messages_are_dropped_doubled_and_swapped_on_a_healthy_connection() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    for hello in ["2", "3"] {
        let (subscriber, publisher) = pair(&server, &proxy, hello).await;
        proxy.next_fates([Fate::Drop, Fate::Pass, Fate::Duplicate, Fate::Swap]);
        publish(publisher, &["1", "2", "3", "4", "5"]).await;
        let (_, seen) = receive(subscriber, 5).await;
        assert_eq!(seen, ["2", "3", "3", "5", "4"], "RESP{hello}");
    }
    assert_eq!(
        proxy.counts(),
        Counts {
            pushes: 10,
            dropped: 2,
            duplicated: 2,
            swapped: 2
        }
    );
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test]
async fn a_filter_sees_channel_and_payload() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let (subscriber, publisher) = pair(&server, &proxy, "3").await;
    proxy.filter(|push| match (push.channel, push.payload) {
        (b"c", b"2") => Fate::Drop,
        _ => Fate::Pass,
    });
    publish(publisher, &["1", "2", "3"]).await;
    let (_, seen) = receive(subscriber, 2).await;
    assert_eq!(seen, ["1", "3"]);
}

#[tokio::test]
async fn a_delay_makes_each_direction_later_and_keeps_the_order() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let (subscriber, publisher) = pair(&server, &proxy, "3").await;
    proxy.set(Direction::ToClient, Mode::Delay(QUIET));
    let start = Instant::now();
    let publisher = publish(publisher, &["1", "2"]).await;
    while proxy.counts().pushes < 2 {
        sleep(RETRY).await;
    }
    proxy.set(Direction::ToClient, Mode::Pass);
    publish(publisher, &["3"]).await;
    let (_, seen) = receive(subscriber, 3).await;
    assert_eq!(seen, ["1", "2", "3"]);
    assert!(start.elapsed() >= QUIET);
}

#[tokio::test]
async fn a_black_hole_keeps_connections_and_resets_those_that_lost_bytes() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let (idle, client) = (connect(proxy.port()).await, connect(proxy.port()).await);
    let (idle, client) = (ping(idle).await.0, ping(client).await.0);

    proxy.set_both(Mode::Blackhole);
    let mut lost = tokio::spawn(ping(client));
    assert!(
        tokio::time::timeout(QUIET, &mut lost).await.is_err(),
        "nothing, not even an end"
    );
    server.kill();
    let orphan = connect(proxy.port()).await;
    let mut lost_end = tokio::spawn(ping(orphan));
    server.restart();
    let late = connect(proxy.port()).await;
    assert!(
        tokio::time::timeout(QUIET, &mut lost).await.is_err(),
        "the server's end is lost too"
    );
    assert!(
        tokio::time::timeout(QUIET, &mut lost_end).await.is_err(),
        "its refusal as well"
    );

    proxy.set_both(Mode::Pass);
    let error = lost.await.unwrap().1.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(lost_end.await.unwrap().1.is_err());
    assert!(ping(idle).await.1.is_err(), "its server died meanwhile");
    assert_eq!(
        ping(late).await.1.unwrap().text(),
        "PONG",
        "nothing of it was lost"
    );
}

#[tokio::test]
async fn a_stall_delivers_everything_afterwards() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let (subscriber, publisher) = pair(&server, &proxy, "3").await;
    proxy.set(Direction::ToClient, Mode::Stall);
    publish(publisher, &["1", "2"]).await;
    let mut receiving = tokio::spawn(receive(subscriber, 2));
    assert!(tokio::time::timeout(QUIET, &mut receiving).await.is_err());
    proxy.set(Direction::ToClient, Mode::Pass);
    assert_eq!(receiving.await.unwrap().1, ["1", "2"]);
}

#[tokio::test]
async fn cuts_end_the_present_connections_only() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    for (cut, end) in [
        (Cut::Rst, ErrorKind::ConnectionReset),
        (Cut::Fin, ErrorKind::UnexpectedEof),
    ] {
        let client = ping(connect(proxy.port()).await).await.0;
        proxy.cut(cut);
        let (_, error) = with(client, Client::read).await;
        assert_eq!(error.unwrap_err().kind(), end);
        assert!(ping(connect(proxy.port()).await).await.1.is_ok());
    }
}

#[tokio::test]
async fn a_door_closes_in_three_ways_and_opens_again() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let old = ping(connect(proxy.port()).await).await.0;

    proxy.set_door(Door::Close).await;
    assert_eq!(rebuff(&proxy).await, ErrorKind::UnexpectedEof);
    proxy.set_door(Door::Reset).await;
    assert_eq!(rebuff(&proxy).await, ErrorKind::ConnectionReset);
    proxy.set_door(Door::Refuse).await;
    assert_eq!(rebuff(&proxy).await, ErrorKind::ConnectionRefused);
    assert!(
        ping(old).await.1.is_ok(),
        "a door concerns those who come in"
    );

    proxy.set_door(Door::Open).await;
    assert!(ping(connect(proxy.port()).await).await.1.is_ok());
}

#[tokio::test]
async fn the_server_behind_it_may_move_or_be_away() {
    let (first, second) = (RedisServer::start(), RedisServer::start());
    let proxy = Proxy::start(first.port()).await;
    first.kill();
    assert_eq!(rebuff(&proxy).await, ErrorKind::ConnectionReset);
    proxy.set_upstream(second.port());
    assert_eq!(
        ping(connect(proxy.port()).await).await.1.unwrap().text(),
        "PONG"
    );
}
