//! Instances over a real Redis, through the public API: what the table of bounds says, fault by
//! fault.
//!
//! The clock is the real one, so nothing is concluded from a pause: tests wait for conditions, with
//! a deadline, and [`watch`] judges every read meanwhile.

mod access;
mod cluster;
mod coherence;
mod connections;
mod crash;
mod flood;
mod health;
mod hostile;
mod messages;
mod outage;
mod sentinel;
mod server;
mod signed;
mod start;
#[cfg(feature = "shared")]
mod tier;
mod traffic;
mod watch;

use std::time::Duration;

use tokio::time::{sleep, timeout};
use unstale::{Instance, Settings, State};

use crate::support::nodes::{Node, Source, ms};
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::resp::Client;

/// How long anything may take that is only a matter of a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(3);

const VERIFY_INTERVAL: Duration = ms(100);
const MAX_STALENESS: Duration = ms(400);
const MEMBER_TIMEOUT: Duration = ms(1_000);
const WRITE_TIMEOUT: Duration = ms(2_000);

/// The lane's names in Redis.
const CHANNEL: &str = "us:{shop:0}e0";
const COUNTER: &str = "us:{shop:0}s";
const JOURNAL: &str = "us:{shop:0}j";
const MEMBERS: &str = "us:{shop:0}m";
const INTENTS: &str = "us:{shop:0}w";

/// Counts the open intents, which have names of 16 bytes; members' timeouts are there, too.
pub(crate) const OPEN: &str = "local n = 0; for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do \
    if #id == 16 then n = n + 1 end end return n";

/// A row that no writer changes.
const UNTOUCHED: u64 = 900;

/// What makes a test quick, and nothing else.
pub(crate) fn settings(url: &str) -> Settings {
    let mut settings = Settings::default();
    settings.redis_url = Some(url.to_owned());
    settings.namespace = "shop".to_owned();
    settings.verify_interval = VERIFY_INTERVAL;
    settings.max_staleness = Some(MAX_STALENESS);
    settings.member_timeout = MEMBER_TIMEOUT;
    settings.write_timeout = WRITE_TIMEOUT;
    settings.publish_timeout = ms(300);
    settings
}

/// An instance with one cache.
pub(crate) async fn node(settings: Settings, source: &Source) -> Node {
    Node::of(Instance::start(settings).await.unwrap(), source)
}

/// Two instances on one Redis: A close to it, B behind a proxy.
struct Pair {
    server: RedisServer,
    source: Source,
    a: Node,
    b: Node,
    proxy: Proxy,
}

impl Pair {
    async fn start() -> Self {
        Self::on(RedisServer::start()).await
    }

    async fn on(server: RedisServer) -> Self {
        Self::with(server, settings).await
    }

    /// With the settings that this makes of a URL.
    async fn with(server: RedisServer, settings: impl Fn(&str) -> Settings) -> Self {
        let (source, proxy) = (Source::default(), Proxy::start(server.port()).await);
        let a = node(settings(&server.url()), &source).await;
        let b = node(settings(&proxy.url()), &source).await;
        Self {
            server,
            source,
            a,
            b,
            proxy,
        }
    }

    /// Runs one command of an operator.
    fn admin(&self, command: &[&str]) -> String {
        tokio::task::block_in_place(|| Client::connect(self.server.port()).cmd(command).text())
    }

    /// A changes a row and tells everybody.
    async fn change(&self, key: u64, value: u64) {
        self.source.set(key, value);
        self.a.cache.invalidate(&key).await.unwrap();
    }

    /// Waits until the subscription of B, and not the journal, delivers an event of A.
    async fn pushed(&self) {
        let received = || self.b.metric("unstale_events_received_total");
        until("the subscription delivers", async || {
            let before = received();
            self.a.cache.invalidate(&0).await.unwrap();
            timeout(MAX_STALENESS, until("a push", async || received() > before))
                .await
                .is_ok()
        })
        .await;
    }

    /// Waits until B knows that it is cut off, and no longer answers from memory as before.
    async fn degraded(&self) {
        until("B is degraded", async || {
            self.b.instance.health().state == State::Degraded
        })
        .await;
        let unverified = || misses(&self.b, "unverified");
        let before = unverified();
        until("B loads what it cannot vouch for", async || {
            self.b.get(UNTOUCHED).await;
            unverified() > before
        })
        .await;
    }

    async fn coherent(&self) {
        until("A and B are coherent", async || {
            let both = [&self.a, &self.b];
            both.iter()
                .all(|node| node.instance.health().state == State::Coherent)
        })
        .await;
    }
}

/// Asks again until the answer is yes.
pub(crate) async fn until(what: &str, mut yes: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !yes().await {
            sleep(POLL).await;
        }
    };
    assert!(
        timeout(PATIENCE, asking).await.is_ok(),
        "never became true: {what}"
    );
}

fn gaps(node: &Node, cause: &str) -> u64 {
    node.metric(&format!("unstale_gaps_total{{cause=\"{cause}\"}}"))
}

fn dropped(node: &Node, reason: &str) -> u64 {
    node.metric(&format!(
        "unstale_events_dropped_total{{reason=\"{reason}\"}}"
    ))
}

fn fences(node: &Node, cause: &str) -> u64 {
    node.metric(&format!("unstale_fences_total{{cause=\"{cause}\"}}"))
}

fn repairs(node: &Node, outcome: &str) -> u64 {
    node.metric(&format!("unstale_repairs_total{{outcome=\"{outcome}\"}}"))
}

fn mends(node: &Node, how: &str) -> u64 {
    node.metric(&format!(
        "unstale_subscription_mends_total{{how=\"{how}\"}}"
    ))
}

fn misses(node: &Node, cause: &str) -> u64 {
    node.metric(&format!(
        "unstale_misses_total{{cache=\"rows\",cause=\"{cause}\"}}"
    ))
}
