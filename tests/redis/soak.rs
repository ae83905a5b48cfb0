//! Faults at random, one after the other, on a fleet of processes under load.
//!
//! `make soak` runs it for `SOAK_SECONDS`; `SOAK_SEED` repeats a plan. What the machine makes of the
//! load differs from run to run, the faults and their order do not.

mod plan;

use std::env;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::fleet::TURN;
use plan::{Fault, Plan};
use testkit::fleet::Fleet;
use testkit::judge::{Judge, Load, Phase, Writes};

const INSTANCES: usize = 3;

/// The defaults of the settings, which the fleet runs with.
const MAX_STALENESS: Duration = Duration::from_secs(2);
const MEMBER_TIMEOUT: Duration = Duration::from_secs(5);

/// What a busy machine and the way back to the reader may add to a bound.
const ALLOWANCE: Duration = Duration::from_millis(250);

/// How long a write that was acknowledged may be missing in what is read.
const BOUND: Duration = MAX_STALENESS.saturating_add(ALLOWANCE);

/// The same of a write that a client has seen, even if its writer has died.
const SEEN_BOUND: Duration = MEMBER_TIMEOUT.saturating_add(BOUND);

/// An account is written about every ten seconds and read much more often: an instance that misses a write
/// keeps the old value for as long as the bound after a crash, and no later write hides that.
const LOAD: Load = Load {
    accounts: 150,
    reads_per_second: 300,
    writes_per_second: 12,
};

/// Until many accounts have been read on every instance.
const WARM_UP: Duration = Duration::from_millis(1_500);

/// How soon after a fault every instance is coherent again. Nothing of the promise depends on it;
/// beyond this it would not come back at all.
const RECOVERY: Duration = Duration::from_secs(20);

/// How soon after the last fault all answer from memory.
const HITS_AGAIN: Duration = Duration::from_secs(20);

/// What `make soak` does without further words.
const SECONDS: u64 = 60;

/// Seeds are short, so that a reader can type one.
const SEEDS: u64 = 1_000_000;

/// What a run has seen.
#[derive(Debug, Default)]
struct Tally {
    seed: u64,
    faults: usize,
    reads: usize,
    /// Reads soon after a write of what they read: those that can be stale.
    exposed: usize,
    writes: u64,
    /// Reads beyond a bound.
    stale: usize,
    /// The longest that a write was missing after it was acknowledged, and after a client saw it.
    worst: Duration,
    worst_seen: Duration,
    unanswered: usize,
    /// What went wrong, in words.
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, phase: &Phase, fault: Option<Fault>) {
        let Writes {
            acknowledged,
            unconfirmed,
            refused,
            unknown,
        } = phase.writes;
        self.reads += phase.reads();
        self.exposed += phase.exposed;
        self.writes += acknowledged + unconfirmed + refused + unknown;
        self.worst = self.worst.max(phase.staleness.max);
        self.worst_seen = phase
            .behind
            .iter()
            .copied()
            .fold(self.worst_seen, Duration::max);
        let late = |times: &[Duration], bound| times.iter().filter(|time| **time > bound).count();
        let broken = late(&phase.stale, BOUND) + late(&phase.behind, SEEN_BOUND);
        self.stale += broken;
        let silent = |at: usize| fault.is_some_and(|fault| fault.silences(at));
        let failed = phase.instances.iter().enumerate();
        let unanswered: usize = failed
            .filter(|(at, _)| !silent(*at))
            .map(|(_, share)| share.failed)
            .sum();
        self.unanswered += unanswered;
        if broken + unanswered > 0 {
            self.wrong.push(phase.to_string());
        }
    }

    fn is_good(&self) -> bool {
        self.stale == 0 && self.unanswered == 0 && self.wrong.is_empty()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let survived = if self.is_good() {
            "survived"
        } else {
            "NOT SURVIVED"
        };
        write!(
            f,
            "soak: {} faults {survived}, {} reads, {} writes, {} stale reads, worst staleness \
             {:.2} s of {:.2} s, {:.2} s of {:.2} s where a writer died, {} reads unanswered (seed {})",
            self.faults,
            thousands(self.reads),
            thousands(self.writes as usize),
            self.stale,
            self.worst.as_secs_f64(),
            BOUND.as_secs_f64(),
            self.worst_seen.as_secs_f64(),
            SEEN_BOUND.as_secs_f64(),
            self.unanswered,
            self.seed
        )
    }
}

pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Runs the plan of a seed for so long, or so many faults.
async fn soak(seed: u64, length: Duration, faults: usize) -> Tally {
    let _turn = TURN.lock().await;
    let mut tally = Tally {
        seed,
        ..Tally::default()
    };
    let fleet = Fleet::start(INSTANCES).await;
    let judge = Judge::start(fleet.services.clone(), LOAD).await;
    let began = Instant::now();
    tally.add(&judge.phase("warm up", WARM_UP).await, None);
    let mut killed = None;
    for (fault, pause) in Plan::new(seed, INSTANCES).take(faults) {
        if began.elapsed() >= length {
            break;
        }
        let at = began.elapsed().as_secs_f64();
        let phase = judge.during(&fault.to_string(), fault.happen(&fleet)).await;
        // Shown with `--nocapture`, and when something went wrong.
        eprintln!("{at:>7.1} s  {fault}");
        tally.add(&phase, Some(fault));
        let back = async {
            for service in &fleet.services {
                service.until_healthy(RECOVERY).await;
            }
            sleep(pause).await;
        };
        // What a halted process left unanswered may end only now; it was asked before.
        tally.add(
            &judge.during(&format!("after {fault}"), back).await,
            Some(fault),
        );
        tally.faults += 1;
        if fault.kills() {
            killed = Some(Instant::now());
        }
    }
    // The last writer that was killed in the middle of a write is finished for.
    let recovered = killed.map(|killed| killed + MEMBER_TIMEOUT + MAX_STALENESS);
    let left = recovered.map(|at| at.saturating_duration_since(Instant::now()));
    tally.add(
        &judge.phase("recovery", left.unwrap_or_default()).await,
        None,
    );
    let after = judge.until_hits("after all", HITS_AGAIN).await;
    tally.add(&after, None);
    if !after.is_caching() {
        tally.wrong.push(format!("hits did not come back: {after}"));
    }
    tally.wrong.extend(judge.settle().await);
    tally
}

fn assert_good(tally: &Tally) {
    assert!(tally.is_good(), "{tally}\n{}", tally.wrong.join("\n"));
    assert!(
        tally.faults > 0 && tally.exposed > 100 && tally.writes > 40,
        "proves nothing: {tally:?}"
    );
}

/// A variable that is a number, where it is set.
fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| unreachable!("{name} must be a number, not {text}")))
}

/// How long each part of `make soak` runs.
pub(crate) fn seconds() -> u64 {
    number("SOAK_SECONDS").unwrap_or(SECONDS)
}

pub(crate) fn seed() -> u64 {
    number("SOAK_SEED").unwrap_or_else(|| fastrand::u64(..SEEDS))
}

/// For the last lines of `make soak`; the test's own runner has words of its own.
pub(crate) fn report(summary: &impl fmt::Display) {
    if let Some(file) = env::var_os("SOAK_SUMMARY") {
        let file = OpenOptions::new().append(true).create(true).open(file);
        writeln!(file.unwrap(), "{summary}").unwrap();
    }
    eprintln!("{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make soak"]
async fn faults_at_random_keep_the_bound_for_as_long_as_you_like() {
    let (seed, seconds) = (seed(), seconds());
    eprintln!("seed {seed}, {seconds} s");
    let tally = soak(seed, Duration::from_secs(seconds), usize::MAX).await;
    report(&tally);
    assert_good(&tally);
}

/// Shows that the long run works: Redis killed; an instance stopped while
/// messages to another are lost, doubled and swapped; and one killed in writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_faults_at_random_keep_the_bound() {
    let tally = soak(46_945, RECOVERY, 3).await;
    eprintln!("{tally}");
    assert_good(&tally);
    assert_eq!(tally.faults, 3, "too slow a machine: {tally}");
}

#[test]
fn one_seed_gives_one_plan() {
    let plan = |seed| {
        let faults = Plan::new(seed, INSTANCES).take(200);
        faults.map(|step| format!("{step:?}")).collect::<Vec<_>>()
    };
    assert_eq!(plan(1), plan(1));
    assert_ne!(plan(1), plan(2));
    // Every kind of fault and trouble is there before long.
    let all = plan(3).join("\n");
    for kind in [
        "RedisKilled",
        "RedisStopped",
        "Flushed",
        "KeyLost",
        "ClientsKilled",
        "OnTwo",
        "Killed(",
        "Stopped(",
        "KilledInWrites(",
        "StoppedInWrites(",
        "Cut(Fin)",
        "Cut(Rst)",
        "Refused",
        "Blackhole",
        "Stalled",
        "Slow",
        "Messages",
        "Deaf",
    ] {
        assert!(all.contains(kind), "{kind} never happens");
    }
    for (fault, _) in Plan::new(4, INSTANCES).take(200) {
        if let Fault::OnTwo([(one, _), (other, _)]) = fault {
            assert_ne!(one, other);
        }
        if let Fault::On(at, trouble) = fault {
            assert_eq!(fault.silences(at), trouble.halts());
            assert!(!fault.silences(at + 1));
        }
    }
}
