//! Many callers on several instances.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant as Moment, sleep};

use super::third_party::Client;
use super::tokens::{Shares, Tokens};
use super::{application, instance, metric, recorded, third_party};
use crate::support::fleet::until;
use testkit::redis::RedisServer;

const INSTANCES: usize = 4;

const CALLERS: usize = 100;

/// Calls to the third party that 100 concurrent callers on each of 4 instances lead to.
async fn calls(shares: Shares) -> u64 {
    let (server, dir) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let third_party = third_party(dir.path()).await;
    // Long enough for all to come before the first has its answer.
    third_party.slow(Duration::from_secs(2));
    let mut fleet = Vec::new();
    for _ in 0..INSTANCES {
        let instance = instance(&server).await;
        let client = Arc::new(Client::new(third_party.url()).unwrap());
        let tokens = Tokens::build(&instance, client, shares).unwrap();
        fleet.push((instance, tokens));
    }
    if shares == Shares::Fleet {
        recorded(&server).await;
    }
    let credentials = application("corp-7", "secret");
    third_party.register(&credentials, "7200").unwrap();
    let mut callers = JoinSet::new();
    for n in 0..INSTANCES * CALLERS {
        let (tokens, credentials) = (fleet[n % INSTANCES].1.clone(), credentials.clone());
        callers.spawn(async move { tokens.get(&credentials).await.unwrap().unwrap() });
    }
    let mut got = callers.join_all().await;
    let issued = third_party.issued().unwrap();
    got.dedup();
    assert!(got.len() as u64 >= issued, "{issued} tokens for no caller");
    let misses: u64 = fleet.iter().map(|it| it.1.cache().stats().misses).sum();
    let coalesced: u64 = fleet.iter().map(|it| it.1.cache().stats().coalesced).sum();
    assert_eq!(misses, INSTANCES as u64);
    assert_eq!(coalesced, (INSTANCES * (CALLERS - 1)) as u64);
    let series = r#"unstale_shared_waits_total{cache="tokens",outcome="found"}"#;
    let waited: u64 = fleet.iter().map(|it| metric(&it.0, series)).sum();
    assert_eq!(waited, INSTANCES as u64 - issued);
    issued
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_tokens_are_asked_for_once_by_each_instance() {
    assert_eq!(calls(Shares::Instance).await, INSTANCES as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_tokens_are_asked_for_once_by_the_whole_fleet() {
    assert_eq!(calls(Shares::Fleet).await, 1);
}

/// By the kernel's clock, over Redis and HTTP: a token that lives two seconds, which an issuer that is
/// down does not replace. It is served for all of its life, and never beyond.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_tokens_are_served_by_no_instance_beyond_their_end() {
    const LIVES: Duration = Duration::from_secs(2);
    let (server, dir) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let third_party = third_party(dir.path()).await;
    let credentials = application("corp-7", "secret");
    third_party.register(&credentials, r#""2""#).unwrap();
    let mut fleet = Vec::new();
    for _ in 0..INSTANCES {
        let instance = instance(&server).await;
        let client = Arc::new(Client::new(third_party.url()).unwrap());
        let tokens = Tokens::build(&instance, client, Shares::Fleet).unwrap();
        fleet.push((instance, tokens));
    }
    recorded(&server).await;
    assert!(fleet[0].1.get(&credentials).await.unwrap().is_some());
    // Issued by now.
    let got = Moment::now();
    third_party.set_down(true);
    let mut readers = JoinSet::new();
    for (_, tokens) in &fleet {
        let (tokens, credentials) = (tokens.clone(), credentials.clone());
        readers.spawn(async move {
            let (mut served, mut refused) = (Vec::new(), None);
            while got.elapsed() < LIVES * 3 / 2 || refused.is_none() {
                let asked = got.elapsed();
                match tokens.get(&credentials).await {
                    Ok(token) => served.push(token.map(|_| asked).unwrap()),
                    Err(_) => refused = refused.or(Some(got.elapsed())),
                }
                sleep(Duration::from_millis(10)).await;
            }
            (served.into_iter().max().unwrap(), refused)
        });
    }
    for (latest, refused) in readers.join_all().await {
        assert!(latest < LIVES, "served {latest:?} after it was issued");
        assert!(refused > Some(LIVES * 3 / 4), "refused after {refused:?}");
    }
    assert_eq!(third_party.issued().unwrap(), 1);
    third_party.set_down(false);
    // The last error is kept for a second.
    until("it is asked again", async || {
        let token = fleet[1].1.get(&credentials).await;
        token.is_ok_and(|token| token.is_some())
    })
    .await;
}
