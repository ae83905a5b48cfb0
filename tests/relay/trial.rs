//! Runs a fault against a fleet under load, and checks the promise before, during and after it.

use std::sync::Arc;
use std::time::Duration;

use testkit::service::Service;
use tokio::time::{Instant, sleep};

use super::fleet;
use super::judge::Judge;
use super::program::relay::Relay;
use super::report::Phase;
use super::rig::{Rig, Way};
use super::{ALLOWANCE, MAX_STALENESS};

/// Long enough that a bound which does not hold shows, and so does a relay that does not come back.
pub(crate) const LONG: Duration = MAX_STALENESS.saturating_mul(3);

/// How long a load runs without a fault.
const CALM: Duration = Duration::from_secs(3);

/// What a fault acts on.
pub(crate) struct Scene {
    pub(crate) rig: Rig,
    pub(crate) relay: Relay,
    pub(crate) judge: Judge,
}

/// What a fault excuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Every read is answered.
    Answered,
    /// The database is away, and so are answers that only it has.
    MayFail,
}

/// Judges a load, with a relay on this way, through a fault. What was seen while it lasted.
pub(crate) async fn trial(
    name: &str,
    way: Way,
    reads: Reads,
    fault: impl AsyncFnOnce(&mut Scene),
) -> Phase {
    trial_over(fleet::start().await, name, way, reads, fault).await
}

/// The same with servers that are prepared, and these services.
pub(crate) async fn trial_over(
    (rig, services): (Rig, Vec<Arc<Service>>),
    name: &str,
    way: Way,
    reads: Reads,
    fault: impl AsyncFnOnce(&mut Scene),
) -> Phase {
    let relay = rig.relay(way).await;
    let judge = Judge::start(rig.database.clone(), services).await;
    let mut scene = Scene { rig, relay, judge };
    scene.judge.proven().await;
    let start = Instant::now();
    sleep(CALM).await;
    let fault_at = Instant::now();
    fault(&mut scene).await;
    // What was loaded before or during the fault is served again, however old it is.
    scene.judge.proven().await;
    let healed = Instant::now();
    sleep(CALM).await;
    // A relay that begins again drops everything, which may come only now.
    scene.judge.proven().await;
    let end = Instant::now();
    let phases = [
        ("before", start, fault_at),
        (name, fault_at, healed),
        ("after", healed, end),
    ];
    let phases = scene.judge.settle(&phases).await;
    let [before, during, after] = phases.try_into().expect("three phases");
    // Shown when an assertion fails, or with `--nocapture`.
    eprint!("{before}{during}{after}");
    let lines = scene.relay.lines();
    for phase in [&before, &during, &after] {
        assert_eq!(phase.violations, [""; 0], "{}; {lines:?}", phase.name);
        assert!(phase.worst <= MAX_STALENESS + ALLOWANCE);
        // A read may begin before the fault, and meet it.
        if reads == Reads::Answered || phase.name == "after" {
            assert_eq!(phase.failed, [""; 0], "{}", phase.name);
        }
        assert!(
            phase.commits > 0 && phase.reads > 0,
            "{}: proves nothing",
            phase.name
        );
    }
    for phase in [&before, &after] {
        assert!(phase.hits > 0, "{}: nothing is cached", phase.name);
        assert!(phase.proven > 0, "{}: no mark proves anything", phase.name);
    }
    during
}
