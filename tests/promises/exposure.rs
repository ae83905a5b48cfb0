//! A writer, a reader on another instance, and how old what the reader got was.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use unstale::{LocalBus, Outcome, Settings};

use crate::support::nodes::{Node, Source, Tier, ms, pair_over, pass};

/// The row that is written and read.
pub(crate) const ROW: u64 = 1;

/// The bound under test, the default.
pub(crate) const MAX_STALENESS: Duration = Duration::from_secs(2);

/// Between two reads.
const SAMPLE: Duration = ms(50);

/// How soon the reader must answer from memory again.
const RECOVERY: Duration = Duration::from_secs(5);

/// `a` writes versions of one row, `b` reads them. The loaders see every version at once, so that
/// an old one can only come from memory.
pub(crate) struct Exposure {
    pub(crate) bus: LocalBus,
    pub(crate) source: Source,
    pub(crate) a: Node,
    pub(crate) b: Node,
    tier: Tier,
    version: u64,
    /// When the invalidation of a version's predecessor was published, by version.
    published: Arc<Mutex<Vec<(u64, Instant)>>>,
    newest_read: u64,
    /// Reads answered with a version whose successor was published.
    pub(crate) stale: usize,
    /// The longest that such a version was served after that.
    pub(crate) worst: Duration,
    /// Reads that took any time at all, and the longest.
    pub(crate) slow: usize,
    pub(crate) slowest: Duration,
}

impl Exposure {
    /// Both instances have been running for a while, and `b` has the row in memory.
    pub(crate) async fn start(settings: Settings, tier: Tier) -> Self {
        let (bus, source, a, b) = pair_over(settings, tier).await;
        let mut exposure = Self {
            bus,
            source,
            a,
            b,
            tier,
            version: 0,
            published: Arc::default(),
            newest_read: 0,
            stale: 0,
            worst: Duration::ZERO,
            slow: 0,
            slowest: Duration::ZERO,
        };
        exposure.write().await;
        exposure.quiet(ms(1_000)).await;
        assert_eq!(exposure.b.outcome(ROW).await, Outcome::Hit);
        assert_eq!(exposure.stale, 0);
        exposure
    }

    /// Commits a version and invalidates; does not wait for a bus that is away.
    pub(crate) async fn write(&mut self) {
        self.version += 1;
        self.source.set(ROW, self.version);
        let (version, published) = (self.version, self.published.clone());
        let acknowledged = self.a.cache.invalidate(&ROW);
        tokio::spawn(async move {
            if acknowledged.await.is_ok() {
                published.lock().unwrap().push((version, Instant::now()));
            }
        });
        // Long enough for an acknowledgement that is not delayed.
        pass(ms(1)).await;
    }

    /// Reads once and judges the answer.
    pub(crate) async fn read(&mut self) -> Outcome {
        let began = Instant::now();
        let lookup = self.b.cache.lookup(&ROW).await.unwrap();
        let now = Instant::now();
        if now > began {
            self.slow += 1;
            self.slowest = self.slowest.max(now - began);
        }
        let version = lookup.value.unwrap();
        let newest = self.newest_read;
        assert!(
            version >= newest,
            "version {version} was read after {newest}"
        );
        self.newest_read = version;
        let published = self.published.lock().unwrap();
        let newer = published.iter().filter(|(newer, _)| *newer > version);
        if let Some(since) = newer.map(|(_, at)| *at).min() {
            self.stale += 1;
            self.worst = self.worst.max(now - since);
        }
        lookup.outcome
    }

    /// Only reads.
    pub(crate) async fn quiet(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.read().await;
            pass(SAMPLE).await;
        }
    }

    /// Reads, and writes between them.
    pub(crate) async fn busy(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.write().await;
            self.quiet(ms(300)).await;
        }
    }

    /// The fault is over: the bound was kept, the reader hears of writes by push again and
    /// answers from memory.
    pub(crate) async fn assert_kept_and_healed(&mut self) {
        pass(ms(1)).await;
        self.quiet(RECOVERY).await;
        let worst = self.worst;
        assert!(
            worst <= MAX_STALENESS,
            "served {worst:?} after its invalidation"
        );
        assert_eq!(self.newest_read, self.version, "not converged");
        let (stale, loads) = (self.stale, self.source.loads());
        for _ in 0..3 {
            self.write().await;
            assert_eq!(self.read().await, Outcome::Miss);
            pass(SAMPLE).await;
            assert_eq!(self.read().await, Outcome::Hit);
        }
        self.quiet(ms(3_000)).await;
        assert_eq!(self.stale, stale, "writes do not arrive by push");
        assert_eq!(self.source.loads(), loads + 3, "hits do not come back");
        let stored = self.count(r#"shared_stores_total{cache="rows",outcome="stored"}"#);
        assert_eq!(stored > 0, self.tier != Tier::Off, "{stored} in the tier");
    }

    /// A series of the reader's metrics, such as `gaps_total{cause="silent"}`.
    pub(crate) fn count(&self, series: &str) -> u64 {
        self.b.metric(&format!("unstale_{series}"))
    }

    pub(crate) fn assert_counted(&self, series: &[&str]) {
        for series in series {
            assert!(
                self.count(series) > 0,
                "{series}:\n{}",
                self.b.instance.metrics_text()
            );
        }
    }

    pub(crate) fn assert_not_counted(&self, series: &[&str]) {
        for series in series {
            assert_eq!(self.count(series), 0, "{series}");
        }
    }
}
