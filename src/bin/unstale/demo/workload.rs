//! What the services of the demo do all the time: read a lot, write a little.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use unstale::{Cache, WriteError};

use super::fleet::{Fleet, Link, ROWS};
use super::judge::Judge;
use super::source::{Source, Version};

/// The instance whose reads the cache with nothing but a TTL gets as well.
pub(crate) const MIRRORED: usize = 1;

/// Writes of a flood; the journal holds fewer, and Redis up to a hundred more than it is asked for.
const FLOOD: usize = 300;

/// The flood is about rows that are seldom read, so that no read waits for what it drops.
const FLOODED: u64 = ROWS as u64 / 2;

/// Readers of each instance, and what each does in a tick: 1,500 reads a second together.
const READERS: u64 = 6;
const READ_TICK: Duration = Duration::from_millis(20);
const READS: usize = 5;

/// A write of one of the instances, in turn, this often.
const WRITE_TICK: Duration = Duration::from_millis(40);

/// How long a commit takes.
const COMMIT: Duration = Duration::from_millis(1);

/// How long the reads and writes under way at the end may take to finish.
const STOP: Duration = Duration::from_secs(3);

/// The readers and writers have seeds of their own, the same ones in every run.
const SEED: u64 = 7;

/// What the workload has counted.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Judges the fleet's reads.
    pub(crate) fleet: Judge,
    /// Judges the reads of the cache with nothing but a TTL.
    pub(crate) alone: Judge,
    /// Reads that failed.
    pub(crate) failed: AtomicU64,
    pub(crate) writes: AtomicU64,
    /// Nothing was committed: the instance could not tell Redis first.
    pub(crate) refused: AtomicU64,
    /// Committed, not acknowledged in time: these have not been published yet.
    pub(crate) unconfirmed: AtomicU64,
}

/// The tasks that read and write until they are stopped.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Workload {
    pub(crate) fn start(fleet: &Fleet) -> Self {
        let tally = Arc::new(Tally {
            fleet: Judge::new(fleet.bound),
            alone: Judge::new(fleet.bound),
            failed: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unconfirmed: AtomicU64::new(0),
        });
        let stop = Arc::new(AtomicBool::new(false));
        let popularity = Arc::new(Zipf::new(ROWS));
        let mut tasks = JoinSet::new();
        for (member, number) in fleet.members.iter().zip(0_u64..) {
            let service = Service {
                cache: member.cache.clone(),
                mirror: (number == MIRRORED as u64).then(|| fleet.alone.clone()),
                source: fleet.source.clone(),
                popularity: popularity.clone(),
                tally: tally.clone(),
                stop: stop.clone(),
            };
            for reader in 0..READERS {
                let seed = SEED + number * READERS + reader;
                tasks.spawn(service.clone().read(Rng::with_seed(seed)));
            }
            let every = WRITE_TICK * fleet.members.len() as u32;
            tasks.spawn(service.write(Rng::with_seed(SEED << 32 | number), every));
        }
        Self { tally, stop, tasks }
    }

    /// Lets the instances that are well write more than the journal holds.
    pub(crate) fn flood(&self, fleet: &Fleet) -> JoinHandle<()> {
        let well = fleet.members.iter().filter(|it| it.link == Link::Up);
        let caches: Vec<_> = well.map(|member| member.cache.clone()).collect();
        let mut writers = JoinSet::new();
        for (number, cache) in caches.iter().enumerate() {
            let (cache, source) = (cache.clone(), fleet.source.clone());
            let (tally, step) = (self.tally.clone(), caches.len());
            writers.spawn(async move {
                for write in (number..FLOOD).step_by(step) {
                    let key = FLOODED + write as u64 % FLOODED;
                    write_row(&cache, &source, &tally, key, Duration::ZERO).await;
                }
            });
        }
        tokio::spawn(async move { while writers.join_next().await.is_some() {} })
    }

    /// Lets all tasks finish what they do: a write that is dropped on its way stays open.
    pub(crate) async fn stop(mut self) {
        self.stop.store(true, Relaxed);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // Those that are not done then are ended with the set.
        let _ = timeout(STOP, all).await;
    }
}

/// One instance's readers and writer.
#[derive(Clone)]
struct Service {
    cache: Cache<u64, Version>,
    mirror: Option<Cache<u64, Version>>,
    source: Arc<Source>,
    popularity: Arc<Zipf>,
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
}

impl Service {
    async fn read(self, mut rng: Rng) {
        sleep(READ_TICK.mul_f64(rng.f64())).await;
        let mut ticks = interval(READ_TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !self.stop.load(Relaxed) {
            ticks.tick().await;
            for _ in 0..READS {
                let key = self.popularity.sample(&mut rng);
                self.read_from(&self.cache, &self.tally.fleet, key).await;
                if let Some(mirror) = &self.mirror {
                    self.read_from(mirror, &self.tally.alone, key).await;
                }
            }
        }
    }

    async fn read_from(&self, cache: &Cache<u64, Version>, judge: &Judge, key: u64) {
        let began = Instant::now();
        match cache.get(&key).await {
            Ok(Some(version)) => judge.judge(&self.source, key, version, began),
            Ok(None) | Err(_) => {
                self.tally.failed.fetch_add(1, Relaxed);
            }
        }
    }

    async fn write(self, mut rng: Rng, every: Duration) {
        sleep(every.mul_f64(rng.f64())).await;
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !self.stop.load(Relaxed) {
            ticks.tick().await;
            let key = self.popularity.sample(&mut rng);
            write_row(&self.cache, &self.source, &self.tally, key, COMMIT).await;
        }
    }
}

async fn write_row(
    cache: &Cache<u64, Version>,
    source: &Source,
    tally: &Tally,
    key: u64,
    commit: Duration,
) {
    let commit = async {
        if !commit.is_zero() {
            sleep(commit).await;
        }
        Ok::<_, std::convert::Infallible>(source.replace(key))
    };
    let counter = match cache.write(&key, commit).await {
        Ok(version) => {
            source.acknowledge(key, version);
            &tally.writes
        }
        Err(WriteError::Refused(_) | WriteError::Commit(_)) => &tally.refused,
        Err(WriteError::Abandoned(_) | WriteError::Unconfirmed { .. }) => &tally.unconfirmed,
    };
    counter.fetch_add(1, Relaxed);
}

/// Some rows are far more popular than others: row k is read 1 / (k + 1) times as often as row 0.
#[derive(Debug)]
struct Zipf {
    /// For each row, the share of all reads that go to it or to one before it.
    shares: Vec<f64>,
}

impl Zipf {
    fn new(rows: usize) -> Self {
        let mut sum = 0.0;
        let mut shares: Vec<f64> = (1..=rows)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            })
            .collect();
        for share in &mut shares {
            *share /= sum;
        }
        Self { shares }
    }

    fn sample(&self, rng: &mut Rng) -> u64 {
        let random = rng.f64();
        let row = self.shares.partition_point(|share| *share <= random);
        row.min(self.shares.len() - 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popular_rows_are_popular_and_every_row_is_read() {
        let (zipf, mut rng) = (Zipf::new(10), Rng::with_seed(1));
        let mut reads = [0_u32; 10];
        for _ in 0..29_290 {
            reads[zipf.sample(&mut rng) as usize] += 1;
        }
        // 29,290 reads are 10,000 times the harmonic number of 10.
        for (rank, reads) in (1..).zip(reads) {
            let expected = 10_000 / rank;
            assert!(reads.abs_diff(expected) < expected / 5, "{rank}: {reads}");
        }
    }
}
