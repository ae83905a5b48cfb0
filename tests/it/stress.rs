//! Stress: three instances of one process over one Redis that fails, caches with every option, and
//! 64 tasks that read and write all the time on two cores.
//!
//! It ends without a hang, and no read is older than the promise allows. `make soak` runs it for
//! `SOAK_SECONDS` after the soak itself; `SOAK_SEED` repeats the plan of faults and of calls. In what
//! order the machine runs the tasks differs from run to run.
//!
//! Two runtimes: what is judged has one of its own, so that proxies and faults go on whatever becomes
//! of it. The judge is the test's thread, which no runtime can stop.

mod fleet;
mod plan;
mod tally;
mod truth;
mod watch;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use unstale::State;

use crate::soak::{report, seconds, seed};
use crate::support::proxy::{Direction, Proxy};
use crate::support::redis::RedisServer;
use fleet::{MAX_STALENESS, Node};
use plan::{Fault, Hold, Plan};
use tally::{Summary, Tally};
use truth::Truth;
use watch::{PATIENCE, Seat, Workers, memory, stacks};
use work::Worker;

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
struct World {
    redis: RedisServer,
    proxies: Vec<Proxy>,
    truth: Arc<Truth>,
}

/// One run.
struct Stress {
    seed: u64,
    outside: Runtime,
    /// Of the instances and tasks.
    inside: Runtime,
    world: Arc<World>,
    nodes: Arc<[Node]>,
    tally: Arc<Tally>,
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
    fn start(seed: u64) -> Self {
        Self::with(seed, Some(MAX_STALENESS), Plan::new(seed, INSTANCES))
    }

    fn with(
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

    fn begin(&self, pause: Duration) {
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
    fn until(&mut self, mut yes: impl FnMut(&Self) -> bool) -> Result<(), Vec<String>> {
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

    fn run(mut self, length: Duration, pause: Duration) -> Summary {
        let began = Instant::now();
        self.begin(pause);
        let mut before = 0;
        let mut hangs = self.until(|_| began.elapsed() >= length / WARM);
        if hangs.is_ok() {
            before = memory();
            hangs = self.until(|_| began.elapsed() >= length);
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

    /// Once the last fault is over: every instance is coherent again.
    fn recovers(&mut self) -> Option<String> {
        while !self.trouble.is_finished() {
            thread::sleep(LOOK);
        }
        self.show_faults();
        if let Err(error) = self.outside.block_on(&mut self.trouble) {
            return Some(format!("the faults ended early: {error}"));
        }
        let began = Instant::now();
        let coherent = |node: &Node| node.instance.health().state == State::Coherent;
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
        None
    }

    fn end(self, hangs: usize, memory: [u64; 2], wrong: Vec<String>) -> Summary {
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

/// `1234567` as `1,234,567`.
fn thousands(number: u64) -> String {
    crate::soak::thousands(usize::try_from(number).unwrap_or(usize::MAX))
}

fn assert_good(summary: &Summary) {
    assert!(summary.is_good(), "{summary}\n{}", summary.wrong.join("\n"));
    assert!(
        summary.reads > 1_000 && summary.writes > 100 && summary.faults > 0,
        "proves nothing: {summary:?}"
    );
}

#[test]
#[ignore = "make soak"]
fn sixty_four_tasks_for_as_long_as_you_like() {
    let (seed, seconds) = (seed(), seconds());
    eprintln!("seed {seed}, {seconds} s");
    let summary = Stress::start(seed).run(Duration::from_secs(seconds), Duration::ZERO);
    report(&summary);
    assert_good(&summary);
}

/// So that the long run works when somebody wants it.
#[test]
fn sixty_four_tasks_for_a_few_seconds() {
    let pause = Duration::from_millis(4);
    let summary = Stress::start(7).run(Duration::from_secs(4), pause);
    eprintln!("{summary}");
    assert_good(&summary);
}

/// The judge can see it: caches with no bound but their TTL, and an instance that hears nothing.
#[test]
fn where_nothing_but_the_ttl_bounds_staleness_the_judge_finds_stale_reads() {
    const BOTH: &[Direction] = &[Direction::ToServer, Direction::ToClient];
    let deaf = Fault::Held(0, Hold::Blackhole(BOTH), Duration::from_secs(8));
    let mut stress = Stress::with(7, None, std::iter::repeat((deaf, Duration::ZERO)));
    stress.begin(Duration::from_millis(4));
    let began = Instant::now();
    let found = |this: &Stress| this.tally.stale.load(Relaxed) > 0 || began.elapsed() > PATIENCE;
    stress.until(found).unwrap();
    let summary = stress.end(0, [0; 2], Vec::new());
    assert!(summary.stale > 0 && !summary.is_good(), "{summary}");
}
