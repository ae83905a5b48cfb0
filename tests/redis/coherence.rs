//! Two instances are coherent over a real Redis, and apart from all others on it.

use tokio::time::Instant;
use unstale::Outcome;

use super::{Pair, node, settings, until};
use crate::support::nodes::{Node, Source, ms};
use testkit::proxy::Mode;
use testkit::redis::{RedisServer, free_port};
use testkit::resp::Client;
use testkit::tls::Certificates;

/// A write on `from` is seen on `to`, which had the old value in memory.
async fn follows(source: &Source, from: &Node, to: &Node, key: u64) {
    source.set(key, 1);
    from.cache.invalidate(&key).await.unwrap();
    until("the first value", async || to.get(key).await == Some(1)).await;
    until("a hit", async || to.outcome(key).await == Outcome::Hit).await;
    source.set(key, 2);
    from.cache.invalidate(&key).await.unwrap();
    until("the second value", async || to.get(key).await == Some(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_either_instance_is_seen_by_the_other() {
    let pair = Pair::start().await;
    follows(&pair.source, &pair.a, &pair.b, 1).await;
    follows(&pair.source, &pair.b, &pair.a, 2).await;
    // By the subscription, not by a verification.
    pair.pushed().await;
    assert!(pair.b.metric("unstale_events_applied_total") >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instances_own_events_come_back_and_are_measured() {
    let pair = Pair::start().await;
    pair.change(1, 1).await;
    until("the echo", async || {
        pair.a.metric("unstale_propagation_seconds_count") > 0
    })
    .await;
    assert_eq!(super::dropped(&pair.a, "own"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_announces_itself_in_all_lanes_at_once() {
    let many = |url: &str| {
        let mut settings = settings(url);
        settings.lanes = 32;
        settings.publish_timeout = ms(5_000);
        settings
    };
    let pair = Pair::with(RedisServer::start(), many).await;
    let one_way = ms(100);
    pair.proxy.set_both(Mode::Delay(one_way));
    let batch = pair.b.instance.batch().tag(&pair.b.cache, "tens-1");
    let began = Instant::now();
    let mut announced = began;
    let commit = async {
        announced = Instant::now();
        Ok::<_, std::io::Error>(())
    };
    batch.write(commit).await.unwrap();
    let took = announced - began;
    // One round trip, and not 32 of them.
    assert!(took >= 2 * one_way && took < 64 * one_way, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_and_namespaces_are_apart() {
    let server = RedisServer::start();
    let source = Source::default();
    let here = node(settings(&server.url()), &source).await;
    let database = node(settings(&format!("{}/5", server.url())), &source).await;
    let mut other = settings(&server.url());
    other.namespace = "stock".to_owned();
    let namespace = node(other, &source).await;
    for node in [&here, &database, &namespace] {
        source.set(1, 1);
        node.get(1).await;
    }
    source.set(1, 2);
    here.cache.invalidate(&1).await.unwrap();
    until("the echo", async || super::dropped(&here, "own") == 1).await;
    for node in [&database, &namespace] {
        // Each has its own order of events: what it publishes comes back as its first.
        node.cache.invalidate(&2).await.unwrap();
        until("the echo", async || super::dropped(node, "own") == 1).await;
        assert_eq!(node.metric("unstale_events_received_total"), 1);
        assert_eq!(super::misses(node, "invalidated"), 0);
    }
    assert_eq!(here.metric("unstale_events_received_total"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_documented_rights_is_refused_nothing() {
    let server = RedisServer::start();
    let rights = super::cluster::rights("users.acl");
    let mut command = vec!["ACL", "SETUSER", "app", "reset", "on", ">s3cret"];
    command.extend(rights.iter().map(String::as_str));
    let mut admin = Client::connect(server.port());
    admin.cmd(&command);
    let url = format!("redis://app:s3cret@127.0.0.1:{}", server.port());
    let source = Source::default();
    let a = node(settings(&url), &source).await;
    let b = node(settings(&url), &source).await;
    follows(&source, &a, &b, 1).await;
    source.set(1, 3);
    let commit = async { Ok::<_, std::io::Error>(()) };
    b.cache.write(&1, commit).await.unwrap();
    until("the write", async || a.get(1).await == Some(3)).await;
    a.instance.shutdown().await.unwrap();
    // Nothing was refused on the way.
    assert!(admin.cmd(&["ACL", "LOG"]).array().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_coherent_over_tls() {
    let Some(tls) = Certificates::for_server() else {
        return;
    };
    let port = free_port();
    let arguments = tls.arguments(port, "yes");
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let _server = RedisServer::start_with(&arguments);
    // The server asks for a client certificate, too.
    let mut settings = settings(&format!("rediss://127.0.0.1:{port}"));
    settings.tls_ca = Some(tls.file("ca.crt"));
    settings.tls_cert = Some(tls.file("tls.crt"));
    settings.tls_key = Some(tls.file("tls.key"));
    let source = Source::default();
    let a = node(settings.clone(), &source).await;
    let b = node(settings, &source).await;
    follows(&source, &a, &b, 1).await;
}
