//! One run: two runtimes, what stands on them, and the judge's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use unstale::InstanceState;

use super::fleet::{MAX_STALENESS, Node};
use super::plan::{Fault, Plan};
use super::tally::{Summary, Tally};
use super::truth::Truth;
use super::watch::{PATIENCE, Seat, Workers, memory, stacks};
use super::work::Worker;
use testkit::proxy::Proxy;
use testkit::redis::RedisServer;

const INSTANCES: usize = 3;

const TASKS: usize = 64;

/// How often the judge looks.
const LOOK: Duration = Duration::from_millis(100);

/// After this part of a run everything has been in use, and memory is looked at.
const WARM: u32 = 10;

/// A long run may not grow by more: caches are bounded, and so is what the judge remembers.
const GROWTH: u64 = 128 << 20;

/// Runs from this length on are long.
const LONG: Duration = Duration::from_secs(60);

/// What the instances stand on.
pub(super) struct World {
    pub(super) redis: RedisServer,
    pub(super) proxies: Vec<Proxy>,
    pub(super) truth: Arc<Truth>,
}

/// One run.
pub(super) struct Stress {
    seed: u64,
    outside: Runtime,
    /// The runtime of the instances and tasks.
    inside: Runtime,
    world: Arc<World>,
    nodes: Arc<[Node]>,
    pub(super) tally: Arc<Tally>,
    seats: Vec<Arc<Seat>>,
    workers: Workers,
    stop: Arc<AtomicBool>,
    /// The faults of this run, as they begin.
    begun: Receiver<String>,
    faults: usize,
    trouble: JoinHandle<()>,
}

fn runtime(workers: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(workers).enable_all().build();
    runtime.expect("threads")
}

/// Lets one fault after the other happen until `stop`; each ends before the next.
fn trouble(
    plan: impl Iterator<Item = (Fault, Duration)> + Send + 'static,
    outside: &Runtime,
    world: &Arc<World>,
    stop: &Arc<AtomicBool>,
) -> (Receiver<String>, JoinHandle<()>) {
    let (say, begun) = mpsc::channel();
    let (world, stop) = (world.clone(), stop.clone());
    let began = Instant::now();
    let trouble = outside.spawn(async move {
        for (fault, pause) in plan {
            if stop.load(Relaxed) {
                break;
            }
            let at = began.elapsed().as_secs_f64();
            let _ = say.send(format!("{at:>7.1} s  {fault:?}"));
            fault.happen(&world).await;
            tokio::time::sleep(pause).await;
        }
    });
    (begun, trouble)
}

impl Stress {
    /// The run of a seed.
    pub(super) fn start(seed: u64) -> Self {
        Self::with(seed, Some(MAX_STALENESS), Plan::new(seed, INSTANCES))
    }

    pub(super) fn with(
        seed: u64,
        bound: Option<Duration>,
        plan: impl Iterator<Item = (Fault, Duration)> + Send + 'static,
    ) -> Self {
        let (outside, inside) = (runtime(1), runtime(2));
        let truth = Arc::new(Truth::new());
        let redis = RedisServer::start_with(&["--appendonly", "yes"]);
        let port = redis.port();
        let proxies = outside.block_on(async {
            let mut proxies = Vec::new();
            for _ in 0..INSTANCES {
                proxies.push(Proxy::start(port).await);
            }
            proxies
        });
        // Events of every other seed are signed.
        let signed = !seed.is_multiple_of(2);
        let nodes: Vec<Node> = inside.block_on(async {
            let mut nodes = Vec::new();
            for (index, proxy) in proxies.iter().enumerate() {
                nodes.push(Node::start(index, &proxy.url(), &truth, bound, signed).await);
            }
            nodes
        });
        let world = World {
            redis,
            proxies,
            truth,
        };
        let (world, stop) = (Arc::new(world), Arc::default());
        let (begun, trouble) = trouble(plan, &outside, &world, &stop);
        Self {
            seed,
            workers: Workers::of(inside.handle()),
            outside,
            inside,
            world,
            nodes: nodes.into(),
            tally: Arc::default(),
            seats: (0..TASKS).map(|_| Arc::default()).collect(),
            stop,
            begun,
            faults: 0,
            trouble,
        }
    }

    pub(super) fn begin(&self, pause: Duration) {
        let mut seeds = Rng::with_seed(self.seed);
        for seat in &self.seats {
            let worker = Worker {
                rng: Rng::with_seed(seeds.u64(..)),
                nodes: self.nodes.clone(),
                truth: self.world.truth.clone(),
                tally: self.tally.clone(),
                seat: seat.clone(),
                stop: self.stop.clone(),
                pause,
            };
            self.inside.spawn(worker.run());
        }
    }

    /// Shown with `--nocapture`, and when something went wrong.
    fn show_faults(&mut self) {
        for fault in self.begun.try_iter() {
            eprintln!("{fault}");
            self.faults += 1;
        }
    }

    /// Returns whether enough was read and written, and something was done to it.
    fn shows_something(&self) -> bool {
        let [reads, writes] = [&self.tally.reads, &self.tally.writes].map(|one| one.load(Relaxed));
        reads > 1_000 && writes > 100 && self.faults > 0
    }

    /// What stands still, in words.
    fn hangs(&mut self) -> Vec<String> {
        let mut hangs = self.workers.hang(PATIENCE);
        for (task, seat) in self.seats.iter().enumerate() {
            hangs.extend(
                seat.hangs(PATIENCE)
                    .map(|call| format!("task {task}: {call}")),
            );
        }
        hangs
    }

    /// Waits for a condition, or for a hang.
    pub(super) fn until(&mut self, mut yes: impl FnMut(&Self) -> bool) -> Result<(), Vec<String>> {
        while !yes(self) {
            thread::sleep(LOOK);
            self.show_faults();
            let hangs = self.hangs();
            if !hangs.is_empty() {
                return Err(hangs);
            }
        }
        Ok(())
    }

    pub(super) fn run(mut self, length: Duration, pause: Duration) -> Summary {
        let began = Instant::now();
        self.begin(pause);
        let mut before = 0;
        let mut hangs = self.until(|_| began.elapsed() >= length / WARM);
        if hangs.is_ok() {
            before = memory();
            let enough = |this: &Self| began.elapsed() >= length && this.shows_something();
            hangs = self.until(enough);
        }
        let after = memory();
        self.stop.store(true, Relaxed);
        if hangs.is_ok() {
            hangs = self.until(|this| this.seats.iter().all(|seat| seat.has_left()));
        }
        let mut wrong = self.tally.notes();
        let hangs = hangs.err().unwrap_or_default();
        if hangs.is_empty() {
            wrong.extend(self.recovers());
            let grown = after.saturating_sub(before);
            if length >= LONG && grown > GROWTH {
                wrong.push(format!("memory grew by {} MiB", grown >> 20));
            }
        } else {
            wrong.extend(hangs.iter().cloned());
            wrong.push(stacks());
        }
        self.end(hangs.len(), [before, after], wrong)
    }

    /// Once the last fault is over: every instance is coherent again, and ends where it is shut down.
    fn recovers(&mut self) -> Option<String> {
        while !self.trouble.is_finished() {
            thread::sleep(LOOK);
        }
        self.show_faults();
        if let Err(error) = self.outside.block_on(&mut self.trouble) {
            return Some(format!("the faults ended early: {error}"));
        }
        let began = Instant::now();
        let coherent = |node: &Node| node.instance.health().state == InstanceState::Coherent;
        while !self.nodes.iter().all(coherent) {
            if began.elapsed() > PATIENCE {
                let health: Vec<_> = self
                    .nodes
                    .iter()
                    .map(|node| node.instance.health())
                    .collect();
                return Some(format!("not coherent again: {health:?}"));
            }
            thread::sleep(LOOK);
        }
        let nodes = self.nodes.clone();
        let ended = self.inside.block_on(async move {
            let shutdowns = async {
                for node in nodes.iter() {
                    // It reports what could not be published in time; here it must only end.
                    let _ = node.instance.shutdown().await;
                }
            };
            timeout(PATIENCE, shutdowns).await
        });
        ended.err().map(|_| "a shutdown does not end".to_owned())
    }

    pub(super) fn end(self, hangs: usize, memory: [u64; 2], wrong: Vec<String>) -> Summary {
        let summary = Summary {
            seed: self.seed,
            faults: self.faults,
            reads: self.tally.reads.load(Relaxed),
            writes: self.tally.writes.load(Relaxed),
            errors: self.tally.errors.load(Relaxed),
            stale: self.tally.stale.load(Relaxed),
            worst: self.tally.worst(),
            hangs,
            memory,
            wrong,
        };
        // Tasks that hang hold threads of their runtime, for which nothing can wait. The server is ended
        // with `world`, whose last other owner is a task outside.
        self.inside.shutdown_background();
        self.outside.shutdown_timeout(PATIENCE);
        summary
    }
}
