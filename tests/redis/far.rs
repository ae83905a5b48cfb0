//! A Redis far away.

use std::time::Duration;

use unstale::{InstanceState, Outcome, Settings};

use super::{PATIENCE, until};
use crate::support::nodes::{Node, Source, ms};
use testkit::proxy::{Mode, Proxy};
use testkit::redis::RedisServer;

/// There, and back again: a round trip takes 300 ms.
const ONE_WAY: Duration = ms(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_300_ms_away_is_joined_with_the_defaults_and_hit() {
    let (server, source) = (RedisServer::start(), Source::default());
    let proxy = Proxy::start(server.port()).await;
    proxy.set_both(Mode::Delay(ONE_WAY));
    let mut settings = Settings::default();
    settings.redis_url = Some(format!("{}/1", proxy.url()));
    let instance = unstale::Instance::start(settings).await.unwrap();
    let node = Node::of(instance, &source);
    until("it is coherent", async || {
        node.instance.health().state == InstanceState::Coherent
    })
    .await;
    source.set(1, 1);
    until("a hit", async || {
        node.get(1).await == Some(1) && node.outcome(1).await == Outcome::Hit
    })
    .await;
    tokio::time::timeout(PATIENCE, node.cache.invalidate(&1))
        .await
        .unwrap()
        .unwrap();
}
