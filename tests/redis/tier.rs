//! Two instances with a shared tier over servers that take each other's place.

use unstale::{Instance, Outcome, SharedTier};

use super::watch::Watch;
use super::{settings, until};
use crate::support::nodes::{Node, Source, ms};
use crate::support::sharing;

/// A row that is changed once, while no instance can hear of it.
pub(super) const CHANGED: u64 = 500;

/// Rows that are not changed, from here on.
const STILL: u64 = 1_000;

/// What both kinds of deployment have in common.
pub(super) struct Pair {
    pub(super) source: Source,
    pub(super) a: sharing::Node,
    pub(super) b: sharing::Node,
    /// The next row that no instance has.
    next: u64,
}

impl Pair {
    /// Both have found a value of the other's.
    pub(super) async fn start(url: &str) -> Self {
        let source = Source::default();
        let start = async || {
            let instance = Instance::start(settings(url)).await.unwrap();
            let shared = SharedTier::new().fleet_single_flight(ms(300));
            sharing::Node::of(instance, &source, shared)
        };
        let (a, b) = (start().await, start().await);
        let mut pair = Self {
            source,
            a,
            b,
            next: STILL,
        };
        pair.works().await;
        pair
    }

    /// B finds what A has loaded, and A what B has; the rows have not been read before.
    pub(super) async fn works(&mut self) {
        let both = [(&self.a, &self.b), (&self.b, &self.a)];
        for (one, other) in both {
            let mut row = self.next;
            until("what one has loaded the other finds", async || {
                row += 1;
                self.source.set(row, row);
                let stored = one.stores("stored");
                assert_eq!(one.get(row).await, Some(row));
                // It may not be stored, or not be found: then the next row is.
                let mut looks = 0..100;
                while one.stores("stored") == stored && looks.next().is_some() {
                    tokio::time::sleep(ms(5)).await;
                }
                let found = other.outcome(row).await == Outcome::Tier;
                assert_eq!(other.get(row).await, Some(row));
                found
            })
            .await;
            self.next = row;
        }
    }

    /// A row that both have in memory and that is in Redis.
    pub(super) async fn stored(&self, row: u64, value: u64) {
        self.source.set(row, value);
        until("it is in Redis", async || {
            let published = self.a.cache.invalidate(&row).await.is_ok();
            let stored = self.a.stores("stored");
            assert_eq!(self.a.get(row).await, Some(value));
            let mut looks = 0..100;
            while self.a.stores("stored") == stored && looks.next().is_some() {
                tokio::time::sleep(ms(5)).await;
            }
            let stored = self.a.stores("stored") > stored;
            published && stored && self.b.get(row).await == Some(value)
        })
        .await;
    }

    /// A writes a row and B reads it, all the while; every read of B is judged.
    pub(super) async fn watch(&self, grace: std::time::Duration) -> Watch {
        let node = |node: &sharing::Node| Node {
            instance: node.instance.clone(),
            cache: node.cache.clone(),
        };
        Watch::begin(&node(&self.a), &node(&self.b), &self.source, grace).await
    }
}
