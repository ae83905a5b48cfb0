//! One change at a time: what it makes fresh on every instance, and what it leaves as it was.

use std::time::Duration;

use testkit::resp::Client;
use tokio::time::{Instant, timeout};
use unstale::{Error, Lookup, internals};

use super::program::relay::Relay;
use super::rig::{Rig, Way};
use super::schema::Node;
use crate::support::over_redis::{PATIENCE, until};

/// So long that nothing is fresh in time unless the relay has published it, and that a machine which is busy ends
/// no entry.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Accounts that exist, some more than there are lanes.
pub(crate) const ROWS: i64 = 64;

/// A fleet with a relay, and nothing that disturbs it.
pub(crate) struct Steady {
    pub(crate) rig: Rig,
    pub(crate) relay: Relay,
}

impl Steady {
    /// Accounts 0 to 63 have version 1.
    pub(crate) async fn start() -> Self {
        Self::over(Rig::bounded(BOUND).await).await
    }

    /// The same with servers that are prepared, and with instances.
    pub(crate) async fn over(rig: Rig) -> Self {
        let insert = format!(
            "INSERT INTO accounts SELECT n, 0 FROM generate_series(0, {}) n",
            ROWS - 1
        );
        rig.sql(&insert).await;
        let relay = rig.relay(Way::Straight).await;
        let steady = Self { rig, relay };
        // A relay that begins drops everything, in every lane. What is changed afterwards comes after that.
        for id in 0..ROWS {
            steady
                .load(async |node| node.accounts.lookup(&id).await)
                .await;
        }
        let all = steady.run("UPDATE accounts SET version = 1").await;
        for id in 0..ROWS {
            steady
                .fresh(all, Some(1), async |node| node.accounts.lookup(&id).await)
                .await;
        }
        steady
    }

    /// Changes rows by SQL; when the commit had returned.
    pub(crate) async fn run(&self, sql: &str) -> Instant {
        self.rig.sql(sql).await;
        Instant::now()
    }

    /// Loads something on every instance, so that it is a hit.
    pub(crate) async fn load(&self, read: impl AsyncFn(&Node) -> Result<Lookup<i64>, Error>) {
        for node in &self.rig.nodes {
            until("it is a hit", async || answer(node, &read).await.is_hit()).await;
        }
    }

    /// Waits until every instance has the new value, which the relay alone can bring about in this time.
    pub(crate) async fn fresh(
        &self,
        committed: Instant,
        new: Option<i64>,
        read: impl AsyncFn(&Node) -> Result<Lookup<i64>, Error>,
    ) {
        let mut last = Duration::ZERO;
        until(&format!("every instance has {new:?}"), async || {
            let mut all = true;
            for node in &self.rig.nodes {
                let began = committed.elapsed();
                if answer(node, &read).await.value != new {
                    (all, last) = (false, began);
                }
            }
            all
        })
        .await;
        assert!(
            last < BOUND / 2,
            "the old value was served {last:?} after the commit"
        );
    }

    /// Returns whether every instance still has what it had loaded: only such a read would load it again.
    pub(crate) async fn keeps(
        &self,
        read: impl AsyncFn(&Node) -> Result<Lookup<i64>, Error>,
    ) -> bool {
        let mut keeps = true;
        for node in &self.rig.nodes {
            keeps &= answer(node, &read).await.is_hit();
        }
        keeps
    }

    /// Waits until what was committed so far has come to every instance. In each lane:
    /// 1: the number of the last verification is read; 2: a relay that marks a higher one has read where the log ends
    /// after 1, and published everything up to there; 3: the head that is read then is behind all of that.
    pub(crate) async fn settled(&self) {
        let mut admin = Client::connect(self.rig.redis.port());
        let lanes = internals::applied(&self.rig.nodes[0].instance).into_keys();
        for lane in lanes {
            let state = format!("us:{{shop:{lane}}}s");
            let mut field = |name: &str| admin.cmd(&["HGET", &state, name]).text();
            let before: u64 = field("v").parse().unwrap();
            let marked = |mark: String| mark.split(':').nth(1)?.parse().ok();
            until("a later number is marked", async || {
                marked(field("xshop")).is_some_and(|number: u64| number > before)
            })
            .await;
            let head: u64 = field("q").parse().unwrap();
            for node in &self.rig.nodes {
                let applied = || internals::applied(&node.instance).get(&lane).copied();
                until("the lane's events are applied", async || {
                    applied().is_some_and(|(_, sequence)| sequence >= head)
                })
                .await;
            }
        }
    }
}

async fn answer(
    node: &Node,
    read: &impl AsyncFn(&Node) -> Result<Lookup<i64>, Error>,
) -> Lookup<i64> {
    timeout(PATIENCE, read(node))
        .await
        .expect("an answer")
        .unwrap()
}
