//! Instances in one process, each with the same four caches, which have every option between them.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use unstale::{BoxError, Cache, CacheBuilder, Instance, Loaded, Settings, SharedTier};

use super::truth::{Place, TAGS, Truth};
use crate::support::nodes::ms;

pub(super) const TABLES: usize = 4;

/// A table's cache.
pub(super) const NAMES: [&str; TABLES] = ["ahead", "tier", "before", "small"];

pub(super) const MAX_STALENESS: Duration = ms(1_000);

/// Longer than any load that ends by itself.
const LOAD_TIMEOUT: Duration = ms(2_000);

/// How long an instance waits for the load of another one.
const FLEET_WAIT: Duration = ms(100);

/// What loaders return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) table: usize,
    pub(super) key: u64,
    pub(super) version: u64,
    /// So that values differ in size, and some are compressed.
    pad: String,
}

impl Row {
    fn new(place: Place, version: u64) -> Self {
        let bytes = match place.key % 16 {
            0 => 3_000,
            some => some as usize * 20,
        };
        Self {
            table: place.table,
            key: place.key,
            version,
            pad: "x".repeat(bytes),
        }
    }
}

pub(super) type Rows = Cache<u64, Row>;

/// One instance.
pub(super) struct Node {
    pub(super) index: usize,
    pub(super) instance: Instance,
    pub(super) caches: [Rows; TABLES],
}

pub(super) fn tag(key: u64) -> String {
    format!("tag-{}", key % TAGS)
}

/// A load as sources have it: some at once, some slow; one in a hundred fails, and one in a thousand
/// panics.
pub(super) async fn load(truth: Arc<Truth>, place: Place) -> Result<Loaded<Row>, BoxError> {
    let version = truth.load(place)?;
    let slow = fastrand::u64(0..40);
    // Reads first and answers later, as a slow query does.
    if slow <= 20 {
        sleep(ms(slow)).await;
    }
    match fastrand::u32(0..1_000) {
        // A panic without the words of the panic's hook.
        0 => resume_unwind(Box::new("a planned panic")),
        1..=10 => return Err("the source refuses".into()),
        _ => {}
    }
    let loaded = Loaded::new(version.map(|version| Row::new(place, version)));
    let loaded = loaded.tag(tag(place.key));
    // Some rows say how long they live.
    Ok(match place.key % 13 {
        0 => loaded.ttl(ms(fastrand::u64(100..2_000))),
        _ => loaded,
    })
}

async fn load_many(
    truth: Arc<Truth>,
    table: usize,
    keys: Vec<u64>,
) -> Result<Vec<(u64, Loaded<Row>)>, BoxError> {
    let mut rows = Vec::new();
    for key in keys {
        let version = truth.load(Place { table, key })?;
        let row = version.map(|version| Row::new(Place { table, key }, version));
        rows.push((key, Loaded::new(row).tag(tag(key))));
    }
    sleep(ms(fastrand::u64(0..20))).await;
    if fastrand::u32(0..200) == 0 {
        return Err("the source refuses".into());
    }
    Ok(rows)
}

impl Node {
    pub(super) async fn start(
        index: usize,
        url: &str,
        truth: &Arc<Truth>,
        bound: Option<Duration>,
        signed: bool,
    ) -> Self {
        let mut settings = Settings::default();
        settings.redis_url = Some(url.to_owned());
        settings.namespace = "stress".to_owned();
        settings.lanes = 2;
        settings.verify_interval = ms(200);
        settings.max_staleness = bound;
        settings.member_timeout = ms(2_000);
        settings.write_timeout = ms(5_000);
        settings.publish_timeout = ms(500);
        settings.audit = Some(0.001);
        settings.signing_key = signed.then(|| "thirty-two random bytes of a key".to_owned());
        let instance = Instance::start(settings).await.expect("valid settings");
        let cache = |table| build(&instance, table, truth);
        Self {
            index,
            caches: [cache(0), cache(1), cache(2), cache(3)],
            instance,
        }
    }
}

fn build(instance: &Instance, table: usize, truth: &Arc<Truth>) -> Rows {
    let one = truth.clone();
    let cache: CacheBuilder<u64, Row> = instance.cache(NAMES[table]).loader(move |key| {
        let truth = one.clone();
        load(truth, Place { table, key })
    });
    let many = truth.clone();
    let batch = move |keys: Vec<u64>| load_many(many.clone(), table, keys);
    let weigh = |_: &u64, row: &Row| 100 + row.pad.len() as u64;
    let cache = cache.load_timeout(LOAD_TIMEOUT).audit(PartialEq::eq);
    let tier = || SharedTier::new().fleet_single_flight(FLEET_WAIT);
    let cache = match NAMES[table] {
        // Due again as soon as it is loaded.
        "ahead" => cache.ttl(ms(100)).refresh_ahead(0.1).capacity(300),
        // Ordinary settings.
        "tier" => cache
            .ttl(ms(10_000))
            .refresh_ahead(0.8)
            .capacity(300)
            .stale_if_error(ms(5_000))
            .tier(tier()),
        "before" => cache
            .ttl(ms(1_500))
            .negative_ttl(ms(1_000))
            .refresh_ahead(ms(500))
            .capacity(100)
            .stale_if_error(ms(3_000))
            .unknown_loads(200)
            .batch_loader(batch),
        _ => cache
            .ttl(ms(3_000))
            .refresh_ahead(ms(300))
            .capacity(50)
            .max_bytes(1 << 20)
            .weigher(weigh)
            .max_loads(16)
            .batch_loader(batch)
            .tier(tier().ttl(ms(6_000))),
    };
    cache.build().expect("valid options")
}
