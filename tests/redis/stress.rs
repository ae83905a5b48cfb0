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
mod run;
mod tally;
mod truth;
mod watch;
mod work;

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::soak::{report, seconds, seed};
use plan::{Fault, Hold};
use run::Stress;
use tally::Summary;
use testkit::proxy::Direction;
use watch::PATIENCE;

/// Between the bursts of a task in the ordinary tests, which leave the other tests some of the cores.
const PAUSE: Duration = Duration::from_millis(40);

/// `1234567` as `1,234,567`.
fn thousands(number: u64) -> String {
    crate::soak::thousands(usize::try_from(number).unwrap_or(usize::MAX))
}

fn assert_good(summary: &Summary) {
    assert!(summary.is_good(), "{summary}\n{}", summary.wrong.join("\n"));
}

#[test]
#[ignore = "make soak"]
fn sixty_four_tasks_read_nothing_stale_for_as_long_as_you_like() {
    let (seed, seconds) = (seed(), seconds());
    eprintln!("seed {seed}, {seconds} s");
    let summary = Stress::start(seed).run(Duration::from_secs(seconds), Duration::ZERO);
    report(&summary);
    assert_good(&summary);
}

/// Shows that the long run works.
#[test]
fn sixty_four_tasks_read_nothing_stale_for_a_few_seconds() {
    let summary = Stress::start(7).run(Duration::from_secs(4), PAUSE);
    eprintln!("{summary}");
    assert_good(&summary);
}

/// The judge can see it: caches with no bound but their TTL, and an instance that hears nothing.
#[test]
fn where_nothing_but_the_ttl_bounds_staleness_the_judge_finds_stale_reads() {
    const BOTH: &[Direction] = &[Direction::ToServer, Direction::ToClient];
    let deaf = Fault::Held(0, Hold::Blackhole(BOTH), Duration::from_secs(8));
    let mut stress = Stress::with(7, None, std::iter::repeat((deaf, Duration::ZERO)));
    stress.begin(PAUSE);
    let began = Instant::now();
    let found = |this: &Stress| this.tally.stale.load(Relaxed) > 0 || began.elapsed() > PATIENCE;
    stress.until(found).unwrap();
    let summary = stress.end(0, [0; 2], Vec::new());
    assert!(summary.stale > 0 && !summary.is_good(), "{summary}");
}
