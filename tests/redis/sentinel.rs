//! Under Redis Sentinel: the primary changes, and the previous one may not know.

mod tier;

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;
use unstale::{ErrorKind, Instance, InstanceState, Outcome, Settings, internals};

use super::cluster::{goes_on_serving, rights};
use super::watch::Watch;
use super::{MAX_STALENESS, fences, node, settings, until};
use crate::support::nodes::{Node, Source, ms};
use testkit::sentinel::SentinelFleet;
use testkit::tls::Certificates;

/// An event that only the old primary took is sent again after the writer's next verification,
/// which fails there: one interval, a call and a question.
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

    /// Both have taken up the new primary's epoch and have verified their lanes.
    async fn moved(&self) {
        until("both are with the new primary", async || {
            [&self.a, &self.b].iter().all(|node| {
                fences(node, "epoch") > 0 && node.instance.health().state == InstanceState::Coherent
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_that_comes_back_on_its_port_serves_nothing_stale() {
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
    until("the late one is coherent", async || {
        late.instance.health().state == InstanceState::Coherent
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_primary_that_goes_on_when_it_was_replaced_serves_nothing_stale() {
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
async fn a_failover_over_tls_serves_nothing_stale() {
    let Some(tls) = Certificates::for_server() else {
        return;
    };
    let redis = SentinelFleet::start_over(Some(&tls));
    let mut settings = settings(&redis.url());
    settings.tls_ca = Some(tls.file("other.crt"));
    let stranger = Instance::start(settings.clone()).await.unwrap();
    assert_eq!(stranger.health().state, InstanceState::Degraded);
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
async fn without_a_majority_of_the_sentinels_nothing_is_verified() {
    let fleet = Fleet::start().await;
    let watch = fleet.watch().await;
    fleet.redis.kill_sentinels(1);
    sleep(MAX_STALENESS * 2).await;
    watch.worked().await;
    until("B is coherent", async || {
        fleet.b.instance.health().state == InstanceState::Coherent
    })
    .await;
    fleet.redis.kill_sentinels(2);
    until("no sentinel confirms the primary", async || {
        fleet.b.instance.health().state == InstanceState::Degraded
    })
    .await;
    let error = Instance::start(settings(&fleet.redis.url())).await;
    assert_eq!(error.unwrap().health().state, InstanceState::Degraded);
    drop(watch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_that_name_the_primary_in_two_ways_are_one_majority() {
    let redis = SentinelFleet::start();
    let two_ways = redis.url();
    block_in_place(|| redis.announce_a_name());
    redis.kill_sentinels(1);
    let source = Source::default();
    let node = node(settings(&two_ways), &source).await;
    until("it is coherent", async || {
        node.instance.health().state == InstanceState::Coherent
    })
    .await;
}

/// With a login of its own, and no more rights than documented.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_that_ask_for_a_login_accept_instances_and_the_programs_commands() {
    let redis = SentinelFleet::start();
    let rights = rights("sentinel-users.acl");
    let set = ["ACL", "SETUSER", "watcher", "on", ">w4tch"];
    let set: Vec<&str> = set
        .into_iter()
        .chain(rights.iter().map(String::as_str))
        .collect();
    redis.at_sentinels(&set);
    let url = format!(
        "{}&sentinel_user=watcher&sentinel_password=w4tch",
        redis.url()
    );
    let needed = "sentinel|get-master-addr-by-name";
    redis.at_sentinels(&["ACL", "SETUSER", "watcher", &format!("-{needed}")]);
    let mute = Instance::start(settings(&url)).await.unwrap_err();
    assert_eq!(mute.kind(), ErrorKind::Auth, "{mute}");
    let remedy = format!("ACL SETUSER watcher +{needed}");
    assert!(mute.to_string().contains(&remedy), "{mute}");
    redis.at_sentinels(&["ACL", "SETUSER", "watcher", &format!("+{needed}")]);
    redis.at_sentinels(&["ACL", "SETUSER", "default", "off"]);
    let refused = Instance::start(settings(&redis.url())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Auth, "{refused}");
    let unknown = url.replace("service=", "service=not");
    let unknown = Instance::start(settings(&unknown)).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Settings, "{unknown}");
    let text = format!("{refused:?}{unknown:?}{unknown}");
    assert!(!text.contains("w4tch"), "{text}");
    let source = Source::default();
    let node = node(settings(&url), &source).await;
    assert_eq!(node.get(1).await, None);
    source.set(1, 1);
    for args in [&["invalidate", "rows", "1"][..], &["status"], &["doctor"]] {
        let ran = block_in_place(|| testkit::program::run_on(&url, args));
        assert_eq!(ran.status, Some(0), "{ran:?}");
    }
    until("the event", async || node.get(1).await == Some(1)).await;
}

/// The primary is replaced without notice to it, and keeps its subscribers; a writer that starts
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
    goes_on_serving(&b, &redis.url(), &source).await
}

#[tokio::test]
async fn a_demoted_primary_that_keeps_its_subscribers_is_not_believed() {
    assert!(!demoted_behind_its_back().await);
}

#[tokio::test]
async fn without_still_the_primary_a_demoted_one_is_believed() {
    let _without = internals::Without::new(internals::Mechanism::StillThePrimary);
    assert!(demoted_behind_its_back().await);
}
