//! A client that writes at one instance reads the write at the other, over a real Redis, even if the event is lost.

use unstale::{LocalBus, Outcome, Token};

use super::{Pair, node, settings, until};
use crate::support::nodes::{Node, ms};
use testkit::proxy::Mode;
use testkit::redis::RedisServer;

/// A replaces the row, and B reads it with the token, as it would come in a cookie.
async fn reads_it(pair: &Pair, value: u64) -> Token {
    pair.source.set(1, value);
    let token = pair.a.cache.invalidate(&1).await.unwrap();
    let cookie = token.to_string();
    let read = pair.b.cache.get_after(&1, &cookie.parse().unwrap()).await;
    assert_eq!(read.unwrap(), Some(value));
    token
}

async fn outcome(node: &Node, token: &Token) -> Outcome {
    node.cache.lookup_after(&1, token).await.unwrap().outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_of_one_instance_is_read_at_the_other() {
    let pair = Pair::start().await;
    for value in 1..200 {
        reads_it(&pair, value).await;
    }
    let token = reads_it(&pair, 200).await;
    until("a hit", async || {
        outcome(&pair.b, &token).await == Outcome::Hit
    })
    .await;
    // B's way to Redis is closed: what is applied is not asked for.
    pair.proxy.set_both(Mode::Blackhole);
    assert_eq!(outcome(&pair.b, &token).await, Outcome::Hit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_read_whatever_becomes_of_the_connection() {
    let pair = Pair::start().await;
    reads_it(&pair, 1).await;
    pair.proxy.set_both(Mode::Blackhole);
    reads_it(&pair, 2).await;
    reads_it(&pair, 3).await;
    pair.proxy.set_both(Mode::Delay(ms(30)));
    reads_it(&pair, 4).await;
    pair.proxy.set_both(Mode::Pass);
    reads_it(&pair, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_outlives_the_server_that_gave_it() {
    let pair = Pair::start().await;
    let before = reads_it(&pair, 1).await;
    pair.admin(&["FLUSHALL"]);
    pair.source.set(1, 2);
    let mut during = None;
    until("it is acknowledged", async || {
        during = pair.a.cache.invalidate(&1).await.ok();
        during.is_some()
    })
    .await;
    // Another epoch: what is published is asked for.
    let read = pair.b.cache.get_after(&1, &during.unwrap()).await;
    assert_eq!(read.unwrap(), Some(2));
    assert_eq!(pair.b.cache.get_after(&1, &before).await.unwrap(), Some(2));
    let after = reads_it(&pair, 3).await;
    let read = pair.b.cache.get_after(&1, &after.and(&before)).await;
    assert_eq!(read.unwrap(), Some(3));
}

/// With a key the channel counts for nothing: the journal does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_key_every_write_is_read_at_the_other() {
    let signed = |url: &str| {
        let mut settings = settings(url);
        settings.signing_key = Some("0123456789abcdef0123456789abcdef".to_owned());
        settings
    };
    let pair = Pair::with(RedisServer::start(), signed).await;
    for value in 1..20 {
        reads_it(&pair, value).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_is_read_after_in_every_lane() {
    let many = |url: &str| {
        let mut settings = settings(url);
        settings.lanes = 8;
        settings
    };
    let pair = Pair::with(RedisServer::start(), many).await;
    for value in 1..20 {
        for key in 10..20 {
            pair.source.set(key, value);
        }
        let token = pair.a.cache.invalidate_tag("tens-1").await.unwrap();
        for key in 10..20 {
            let read = pair.b.cache.get_after(&key, &token).await.unwrap();
            assert_eq!(read, Some(value));
        }
    }
}

/// A token of another fleet says nothing that this one can compare.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_fleet_is_the_latest() {
    let server = RedisServer::start();
    let source = crate::support::nodes::Source::default();
    let here = node(settings(&server.url()), &source).await;
    let bus = LocalBus::default();
    let other = unstale::Instance::start_on(&bus, unstale::Settings::default());
    let other = Node::of(other.await.unwrap(), &source);
    source.set(1, 1);
    assert_eq!(here.get(1).await, Some(1));
    let token = other.cache.invalidate(&1).await.unwrap();
    assert_eq!(outcome(&here, &token).await, Outcome::Hit);
    assert_eq!(here.cache.get_latest(&1).await.unwrap(), Some(1));
}
