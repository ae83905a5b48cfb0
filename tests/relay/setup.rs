//! One change at a time: what it makes fresh on every instance, and what it leaves as it was.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use unstale::{Error, Lookup};

use super::program::relay::Relay;
use super::rig::{Rig, Way};
use super::schema::{ACCOUNT, Node};
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

/// When every instance had loaded something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loaded(Instant);

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
    pub(crate) async fn load(
        &self,
        read: impl AsyncFn(&Node) -> Result<Lookup<i64>, Error>,
    ) -> Loaded {
        for node in &self.rig.nodes {
            until("it is a hit", async || answer(node, &read).await.is_hit()).await;
        }
        Loaded(Instant::now())
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

    /// Whether every instance has what it had then: no invalidation came for it.
    pub(crate) async fn keeps(
        &self,
        loaded: Loaded,
        read: impl AsyncFn(&Node) -> Result<Lookup<i64>, Error>,
    ) -> bool {
        let mut keeps = true;
        for node in &self.rig.nodes {
            let since = loaded.0.elapsed();
            let read = answer(node, &read).await;
            keeps &= read.is_hit() && read.age >= since;
        }
        keeps
    }

    /// Waits until what was committed so far has come to every instance: of every lane, since the log has an order
    /// and so has each lane.
    pub(crate) async fn settled(&self) {
        let all = self
            .run("UPDATE accounts SET version = version + 1 WHERE id < 32")
            .await;
        for id in 0..ROWS / 2 {
            let now = self.rig.database.number(ACCOUNT, &[&id]).await.unwrap();
            self.fresh(all, now, async |node| node.accounts.lookup(&id).await)
                .await;
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
