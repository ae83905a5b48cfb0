//! How an instance starts: without Redis, or with one that refuses it.

use std::time::{Duration, Instant};

use unstale::{ErrorKind, Instance, InstanceState, Outcome};

use super::{PATIENCE, node, settings, until};
use crate::support::nodes::{Node, Source, ms};
use testkit::redis::{RedisServer, free_port};
use testkit::resp::Client;

/// What the documentation says about a start without Redis.
const START_WAIT: Duration = Duration::from_secs(2);

const PASSWORD: &str = "hunter2-p4ssw0rd";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_an_instance_serves_and_it_joins_when_redis_appears() {
    let server = RedisServer::start();
    server.kill();
    let source = Source::default();
    source.set(1, 1);
    let began = Instant::now();
    let late = node(settings(&server.url()), &source).await;
    let took = began.elapsed();
    assert!(took >= START_WAIT - ms(100), "{took:?}");
    assert!(took < PATIENCE, "{took:?}");
    assert_eq!(late.instance.health().state, InstanceState::Degraded);
    assert_eq!(late.get(1).await, Some(1));
    // What it loads lives as long as the bound, not as the TTL.
    until("a hit", async || late.outcome(1).await == Outcome::Hit).await;
    source.set(1, 2);
    until("the bound passes", async || late.get(1).await == Some(2)).await;

    tokio::task::block_in_place(|| server.restart());
    until("it joins", async || {
        late.instance.health().state == InstanceState::Coherent
    })
    .await;
    let peer = node(settings(&server.url()), &source).await;
    source.set(1, 3);
    peer.cache.invalidate(&1).await.unwrap();
    until("it follows", async || late.get(1).await == Some(3)).await;
}

/// Starts, which must fail at once with a text that has `advice` and no secret.
async fn refused(url: &str, lanes: u32, kind: ErrorKind, advice: &[&str]) {
    let mut settings = settings(url);
    settings.lanes = lanes;
    let shown = format!("{settings:?} {:?}", settings.describe());
    let mut refused = None;
    until("it does not wait for Redis", async || {
        let began = Instant::now();
        let started = Instance::start(settings.clone()).await;
        refused = Some(started.expect_err(&format!("{advice:?}")));
        began.elapsed() < START_WAIT
    })
    .await;
    let error = refused.expect("it was tried");
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in advice {
        assert!(text.contains(word), "{word}: {text}");
    }
    for text in [shown, text, format!("{error:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_login_is_an_error_at_once_that_names_the_password() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    for login in ["", &format!(":{PASSWORD}@"), &format!("guest:{PASSWORD}@")] {
        let url = format!("redis://{login}127.0.0.1:{}", server.port());
        refused(&url, 1, ErrorKind::Auth, &["password", "Redis URL"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_is_an_error_at_once_that_names_it() {
    let server = RedisServer::start();
    let mut admin = Client::connect(server.port());
    let secret = format!(">{PASSWORD}");
    let url = format!("redis://app:{PASSWORD}@127.0.0.1:{}", server.port());
    for (rule, named) in [
        ("-zadd", "zadd"),
        ("-subscribe", "subscribe"),
        ("-evalsha", "evalsha"),
        ("resetchannels", "us:{shop:*"),
    ] {
        let base = [
            "ACL", "SETUSER", "app", "reset", "on", &secret, "~us:*", "&us:*", "+@all",
        ];
        admin.cmd(&[&base[..], &[rule]].concat());
        refused(&url, 1, ErrorKind::Auth, &[named, "ACL SETUSER app"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_of_lanes_is_an_error_at_once_that_names_the_right_one() {
    let server = RedisServer::start();
    let source = Source::default();
    let first = node(settings(&server.url()), &source).await;
    let url = format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port());
    Client::connect(server.port()).cmd(&["CONFIG", "SET", "requirepass", PASSWORD]);
    refused(&url, 4, ErrorKind::Lanes, &["UNSTALE_LANES", "1 lanes"]).await;
    // The fleet that is there does not notice.
    source.set(1, 1);
    first.cache.invalidate(&1).await.unwrap();
    assert_eq!(first.get(1).await, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_printed_shows_the_password() {
    let server = RedisServer::start_with(&["--requirepass", PASSWORD]);
    let url = format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port());
    let mut settings = settings(&url);
    settings.publish_timeout = ms(50);
    let instance = Instance::start(settings.clone()).await.unwrap();
    let running = Node::of(instance.clone(), &Source::default());
    server.kill();
    let unacknowledged = running.cache.invalidate(&1).await.unwrap_err();
    let commit = async { Ok::<_, std::io::Error>(()) };
    let refused = running.cache.write(&1, commit).await.unwrap_err();
    assert_eq!(unacknowledged.kind(), ErrorKind::Bus);
    let text = format!(
        "{settings:?} {:?} {instance:?} {:?} {:?} {unacknowledged} {unacknowledged:?} {refused} \
         {refused:?} {}",
        settings.describe(),
        running.cache,
        instance.health(),
        instance.metrics_text(),
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_without_redis_ends() {
    let mut settings = settings(&format!("redis://127.0.0.1:{}", free_port()));
    settings.publish_timeout = ms(50);
    let away = node(settings, &Source::default()).await;
    away.cache.invalidate(&1).await.unwrap_err();
    let shutdown = tokio::time::timeout(PATIENCE, away.instance.shutdown());
    let error = shutdown.await.expect("it ends").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bus);
    assert_eq!(away.instance.health().state, InstanceState::Closed);
}
