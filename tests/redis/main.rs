//! Instances over a real Redis, through the public API: what the table of bounds says, fault by
//! fault.
//!
//! The clock is the real one, so nothing is concluded from a pause: tests wait for conditions, with
//! a deadline, and [`watch`] judges every read meanwhile.

// What uses the crate cannot be in `testkit`, which its unit tests use, too.
#[path = "../support/mod.rs"]
mod support;

mod access;
mod after;
mod attackers;
mod cluster;
mod coherence;
mod connections;
mod copies;
mod crash;
mod far;
mod fleet;
mod flood;
#[cfg(feature = "shared")]
mod forged;
mod halted;
mod health;
mod hooks;
mod hostile;
mod logs;
mod messages;
mod outage;
mod passwords;
mod replicas;
mod secrets;
mod sentinel;
mod server;
mod services;
mod shared;
mod signed;
mod soak;
mod start;
mod stress;
mod tier;
mod traffic;
mod watch;

use tokio::time::timeout;
use unstale::{InstanceState, Settings};

use crate::support::nodes::{Node, Source};
use crate::support::over_redis::{
    MAX_STALENESS, MEMBER_TIMEOUT, OPEN, PATIENCE, POLL, VERIFY_INTERVAL, WRITE_TIMEOUT, node,
    settings, stale_for, until,
};
use testkit::proxy::Proxy;
use testkit::redis::RedisServer;
use testkit::resp::Client;

/// The lane's names in Redis.
const CHANNEL: &str = "us:{shop:0}e0";
const COUNTER: &str = "us:{shop:0}s";
const JOURNAL: &str = "us:{shop:0}j";
const MEMBERS: &str = "us:{shop:0}m";
const INTENTS: &str = "us:{shop:0}w";

/// The message that delivers one event.
fn one_event(epoch: u64, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let head = [epoch.to_be_bytes(), sequence.to_be_bytes()].concat();
    [&head, &length.to_be_bytes()[..], payload].concat()
}

/// A row that no writer changes.
const UNTOUCHED: u64 = 900;

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

    /// A changes a row and publishes it.
    async fn change(&self, key: u64, value: u64) {
        self.source.set(key, value);
        until("it is acknowledged", async || {
            self.a.cache.invalidate(&key).await.is_ok()
        })
        .await;
    }

    /// Waits until the subscription of B, and not the journal, delivers an event of A.
    async fn pushed(&self) {
        let received = || self.b.metric("unstale_events_received_total");
        until("the subscription delivers", async || {
            let before = received();
            let _ = self.a.cache.invalidate(&0).await;
            timeout(MAX_STALENESS, until("a push", async || received() > before))
                .await
                .is_ok()
        })
        .await;
    }

    /// Waits until B knows that it is cut off, and no longer answers from memory as before.
    async fn degraded(&self) {
        until("B is degraded", async || {
            self.b.instance.health().state == InstanceState::Degraded
        })
        .await;
        let unverified = || misses(&self.b, "unverified");
        let before = unverified();
        until("B loads what it cannot prove fresh", async || {
            self.b.get(UNTOUCHED).await;
            unverified() > before
        })
        .await;
    }

    async fn coherent(&self) {
        until("A and B are coherent", async || {
            let both = [&self.a, &self.b];
            both.iter()
                .all(|node| node.instance.health().state == InstanceState::Coherent)
        })
        .await;
    }
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

fn renewed(node: &Node, how: &str) -> u64 {
    node.metric(&format!(
        "unstale_subscription_repairs_total{{how=\"{how}\"}}"
    ))
}

fn misses(node: &Node, cause: &str) -> u64 {
    node.metric(&format!(
        "unstale_misses_total{{cache=\"rows\",cause=\"{cause}\"}}"
    ))
}
