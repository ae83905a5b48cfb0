//! Instances whose cache has a shared tier.

use tokio::task::JoinHandle;
use unstale::{Cache, Instance, LocalBus, Lookup, Outcome, Settings, SharedTier, testing};

use super::nodes::{Source, metric, ms, pass};

/// One instance with one cache that has a shared tier.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) instance: Instance,
    pub(crate) cache: Cache<u64, u64>,
}

impl Node {
    pub(crate) async fn start(bus: &LocalBus, source: &Source, shared: SharedTier<u64>) -> Self {
        Self::with(bus, source, shared, Settings::default()).await
    }

    pub(crate) async fn with(
        bus: &LocalBus,
        source: &Source,
        shared: SharedTier<u64>,
        settings: Settings,
    ) -> Self {
        let node = Self::of(
            testing::start_on(bus, settings).await.unwrap(),
            source,
            shared,
        );
        // Its first verification since the cache was built begins the record.
        pass(ms(1)).await;
        node
    }

    pub(crate) fn of(instance: Instance, source: &Source, shared: SharedTier<u64>) -> Self {
        let source = source.clone();
        let cache = instance
            .cache::<u64, u64>("rows")
            .tier(shared)
            .ttl_jitter(0.0)
            .loader(move |key: u64| {
                let source = source.clone();
                async move { Ok(source.load(key).await?) }
            })
            .build()
            .unwrap();
        Self { instance, cache }
    }

    pub(crate) async fn get(&self, key: u64) -> Option<u64> {
        self.cache.get(&key).await.unwrap()
    }

    pub(crate) async fn lookup(&self, key: u64) -> Lookup<u64> {
        self.cache.lookup(&key).await.unwrap()
    }

    pub(crate) async fn outcome(&self, key: u64) -> Outcome {
        self.lookup(key).await.outcome
    }

    pub(crate) fn spawn(&self, key: u64) -> JoinHandle<Lookup<u64>> {
        let node = self.clone();
        tokio::spawn(async move { node.lookup(key).await })
    }

    pub(crate) fn reads(&self, outcome: &str) -> u64 {
        self.count("reads", outcome)
    }

    pub(crate) fn stores(&self, outcome: &str) -> u64 {
        self.count("stores", outcome)
    }

    pub(crate) fn waits(&self, outcome: &str) -> u64 {
        self.count("waits", outcome)
    }

    pub(crate) fn count(&self, what: &str, outcome: &str) -> u64 {
        let series = format!("unstale_shared_{what}_total{{cache=\"rows\",outcome=\"{outcome}\"}}");
        metric(&self.instance, &series)
    }

    /// Bytes of the tier, both ways.
    pub(crate) fn bytes(&self) -> u64 {
        ["sent", "received"]
            .map(|way| format!("unstale_bus_{way}_bytes_total{{kind=\"shared\"}}"))
            .iter()
            .map(|series| metric(&self.instance, series))
            .sum()
    }
}
