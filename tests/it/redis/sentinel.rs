//! Under Redis Sentinel: the primary changes, and who was it before may not know.

#[cfg(feature = "shared")]
mod tier;

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use unstale::{ErrorKind, Instance, Outcome, Settings, State, testing};

use super::cluster::rights;
use super::watch::Watch;
use super::{MAX_STALENESS, fences, node, settings, until};
use crate::support::nodes::{Node, Source, ms};
use crate::support::sentinel::SentinelFleet;
use crate::support::tls::Certificates;

/// An event that only the old primary took is sent again after the writer's next verification,
/// which fails there: one interval, and what a call and a question take on a busy machine.
const REPUBLISHED: Duration = ms(600);

struct Fleet {
    redis: SentinelFleet,
    source: Source,
    a: Node,
    b: Node,
}

impl Fleet {
    async fn start() -> Self {
        let redis = SentinelFleet::start();
        let settings = settings(&redis.url());
        Self::on(redis, settings).await
    }

    async fn on(redis: SentinelFleet, settings: Settings) -> Self {
        let source = Source::default();
        let a = node(settings.clone(), &source).await;
        let b = node(settings, &source).await;
        Self {
            redis,
            source,
            a,
            b,
        }
    }

    async fn watch(&self) -> Watch {
        Watch::begin(&self.a, &self.b, &self.source, REPUBLISHED).await
    }

    /// Both have taken up the new primary's epoch and vouch for their lanes.
    async fn moved(&self) {
        until("both are with the new primary", async || {
            [&self.a, &self.b].iter().all(|node| {
                fences(node, "epoch") > 0 && node.instance.health().state == State::Coherent
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_killed_and_back_on_its_port() {
    let fleet = Fleet::start().await;
    let watch = fleet.watch().await;
    fleet.redis.primary.kill();
    block_in_place(|| fleet.redis.wait_for_promotion());
    fleet.moved().await;
    watch.worked().await;
    // It comes back as a primary, and takes writes until the sentinels demote it.
    block_in_place(|| fleet.redis.primary.restart());
    let late = node(settings(&fleet.redis.url()), &fleet.source).await;
    watch.worked().await;
    sleep(MAX_STALENESS * 2).await;
    watch.end().await;
    assert_eq!(late.instance.health().state, State::Coherent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_stopped_and_continued_when_it_was_replaced() {
    let fleet = Fleet::start().await;
    let watch = fleet.watch().await;
    block_in_place(|| {
        fleet.redis.primary.stop();
        fleet.redis.wait_for_promotion();
    });
    fleet.redis.primary.cont();
    fleet.moved().await;
    watch.worked().await;
    sleep(MAX_STALENESS * 2).await;
    watch.end().await;
}

/// Sentinels and servers, and what each says of where the others are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_over_tls() {
    let tls = Certificates::new();
    let redis = SentinelFleet::start_over(Some(&tls));
    let mut settings = settings(&redis.url());
    settings.tls_ca = Some(tls.file("other.crt"));
    let stranger = Instance::start(settings.clone()).await.unwrap();
    assert_eq!(stranger.health().state, State::Degraded);
    settings.tls_ca = Some(tls.file("ca.crt"));
    let fleet = Fleet::on(redis, settings).await;
    let watch = fleet.watch().await;
    block_in_place(|| fleet.redis.fail_over());
    fleet.moved().await;
    watch.worked().await;
    sleep(MAX_STALENESS * 2).await;
    watch.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_majority_of_the_sentinels_no_verification() {
    let fleet = Fleet::start().await;
    let watch = fleet.watch().await;
    fleet.redis.kill_sentinels(1);
    sleep(MAX_STALENESS * 2).await;
    watch.worked().await;
    assert_eq!(fleet.b.instance.health().state, State::Coherent);
    fleet.redis.kill_sentinels(2);
    until("nobody vouches for the primary", async || {
        fleet.b.instance.health().state == State::Degraded
    })
    .await;
    let error = Instance::start(settings(&fleet.redis.url())).await;
    assert_eq!(error.unwrap().health().state, State::Degraded);
    drop(watch);
}

/// With a login of its own, and no more rights than documented.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_that_ask_for_a_login_and_the_programs_commands() {
    let redis = SentinelFleet::start();
    let rights = rights("sentinel-users.acl");
    let set = ["ACL", "SETUSER", "watcher", "on", ">w4tch"];
    let set: Vec<&str> = set
        .into_iter()
        .chain(rights.iter().map(String::as_str))
        .collect();
    redis.at_sentinels(&set);
    redis.at_sentinels(&["ACL", "SETUSER", "default", "off"]);
    let refused = Instance::start(settings(&redis.url())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Auth, "{refused}");
    let url = format!(
        "{}&sentinel_user=watcher&sentinel_password=w4tch",
        redis.url()
    );
    let unknown = url.replace("service=", "service=not");
    let unknown = Instance::start(settings(&unknown)).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Settings, "{unknown}");
    let text = format!("{refused:?}{unknown:?}{unknown}");
    assert!(!text.contains("w4tch"), "{text}");
    let source = Source::default();
    let node = node(settings(&url), &source).await;
    assert_eq!(node.get(1).await, None);
    source.set(1, 1);
    #[cfg(feature = "cli")]
    for args in [&["invalidate", "rows", "1"][..], &["status"], &["doctor"]] {
        let ran = block_in_place(|| crate::cli::run_on(&url, args));
        assert_eq!(ran.status, Some(0), "{ran:?}");
    }
    #[cfg(not(feature = "cli"))]
    node.cache.invalidate(&1).await.unwrap();
    until("the event", async || node.get(1).await == Some(1)).await;
}

/// The primary is replaced without a word to it, and keeps its subscribers; a writer that starts
/// now is with the new one. Whether an instance of before goes on serving what it holds.
async fn demoted_behind_its_back() -> bool {
    let redis = SentinelFleet::start();
    let source = Source::default();
    source.set(1, 1);
    let b = node(settings(&redis.url()), &source).await;
    until("B hits", async || {
        b.get(1).await == Some(1) && b.outcome(1).await == Outcome::Hit
    })
    .await;
    redis.fail_over();
    let a = node(settings(&redis.url()), &source).await;
    source.set(1, 2);
    let changed = Instant::now();
    a.cache.invalidate(&1).await.unwrap();
    let due = MAX_STALENESS + REPUBLISHED;
    while changed.elapsed() < due * 3 {
        let stale = b.get(1).await == Some(1);
        if stale && changed.elapsed() > due {
            return true;
        }
        sleep(ms(5)).await;
    }
    false
}

#[tokio::test]
async fn a_demoted_primary_that_keeps_its_subscribers_is_not_believed() {
    assert!(!demoted_behind_its_back().await);
}

#[tokio::test]
async fn without_still_the_primary_a_demoted_one_is_believed() {
    let _without = testing::Without::new(testing::Mechanism::StillThePrimary);
    assert!(demoted_behind_its_back().await);
}
