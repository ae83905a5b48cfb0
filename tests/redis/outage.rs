//! Writes while Redis is away, and what is left of them when it is back.

use std::io;
use std::time::{Duration, Instant};

use tokio::task::block_in_place;
use tokio::time::sleep;
use unstale::{ErrorKind, InstanceState, WriteError};

use super::{INTENTS, MEMBERS, OPEN, PATIENCE, node, settings, until};
use crate::support::nodes::{Node, Source, ms};
use testkit::redis::RedisServer;
use testkit::resp::Client;

fn open(server: &RedisServer) -> i64 {
    let mut admin = block_in_place(|| Client::connect(server.port()));
    block_in_place(|| admin.cmd(&["EVAL", OPEN, "1", INTENTS]).int().unwrap())
}

/// A write that must be refused.
async fn refused(node: &Node, key: u64) {
    let never = async { Ok::<_, io::Error>(()) };
    let error = node.cache.write(&key, never).await.unwrap_err();
    assert!(matches!(&error, WriteError::Refused(why) if why.kind() == ErrorKind::Bus));
}

async fn away(node: &Node) {
    until("the connection is lost", async || {
        !node.instance.health().connected
    })
    .await;
}

/// Three writes are refused one after another while Redis is dead.
async fn outage(server: &RedisServer, node: &Node) {
    server.kill();
    for key in 0..3 {
        refused(node, key).await;
    }
    block_in_place(|| server.restart());
    until("the instance is coherent", async || {
        node.get(0).await;
        node.instance.health().state == InstanceState::Coherent
    })
    .await;
}

/// Waits until Redis holds no open write, for two seconds on end.
async fn none_open(server: &RedisServer) {
    let mut since = Instant::now();
    let began = since;
    while since.elapsed() < ms(2_000) {
        if open(server) > 0 {
            since = Instant::now();
        }
        let left = open(server);
        assert!(began.elapsed() < PATIENCE, "{left} writes stay open");
        sleep(ms(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_refused_write_stays_open_when_redis_is_back() {
    let empty = RedisServer::start();
    let saved = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    for server in [empty, saved] {
        let writer = node(settings(&server.url()), &Source::default()).await;
        for _ in 0..3 {
            outage(&server, &writer).await;
            none_open(&server).await;
        }
        assert_eq!(writer.instance.health().open_writes, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_finish_nothing_for_an_instance_that_shut_down_after_an_outage() {
    let server = RedisServer::start();
    let source = Source::default();
    let peer = node(settings(&server.url()), &source).await;
    for _ in 0..3 {
        let writer = node(settings(&server.url()), &source).await;
        outage(&server, &writer).await;
        writer.instance.shutdown().await.unwrap();
        let alone = "return redis.call('ZCOUNT', KEYS[1], 0, '(+inf')";
        until("the peer is the only member", async || {
            peer.get(0).await;
            let mut admin = block_in_place(|| Client::connect(server.port()));
            let members = block_in_place(|| admin.cmd(&["EVAL", alone, "1", MEMBERS]).int());
            members == Some(1)
        })
        .await;
        assert_eq!(open(&server), 0);
        assert_eq!(peer.metric("unstale_recovered_writes_total"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_refused_at_once_when_redis_has_been_away_for_long() {
    let server = RedisServer::start();
    let mut patient = settings(&server.url());
    patient.publish_timeout = ms(5_000);
    let writer = node(patient, &Source::default()).await;
    server.kill();
    away(&writer).await;
    refused(&writer, 0).await;
    // Each of them would wait for as long as a command is waited for, which is a second.
    let began = Instant::now();
    for key in 0..20 {
        refused(&writer, key).await;
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    block_in_place(|| server.restart());
    until("a write succeeds", async || {
        let commit = async { Ok::<_, io::Error>(()) };
        writer.cache.write(&1, commit).await.is_ok()
    })
    .await;
}
