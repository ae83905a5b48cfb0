//! A fleet under load keeps its promise through every fault, seen from outside.
//!
//! Three processes of the reference service share one Redis, each over a way of its own, and one
//! database; writers and readers use their HTTP ports only.
//! Each test is one row of the table of bounds.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use testkit::fleet::Fleet;
use testkit::judge::{Judge, Load, Phase, Writes};
use testkit::proxy::{Cut, Door, Fate, Mode};

const INSTANCES: usize = 3;

/// The default of `UNSTALE_MAX_STALENESS`, which the fleet runs with.
const MAX_STALENESS: Duration = Duration::from_secs(2);

/// What a busy machine and the way back to the reader may add to the bound.
const ALLOWANCE: Duration = Duration::from_millis(250);

/// Until most accounts have been read once on every instance.
const WARM_UP: Duration = Duration::from_millis(700);

/// Latency that no fault causes: a call that waits for what is away waits for 250 ms and more.
const NOISE: Duration = Duration::from_millis(200);

/// How long anything may take that is only a matter of the machine, however slow it is.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two fleets under load at once would measure each other.
pub(crate) static TURN: Mutex<()> = Mutex::const_new(());

/// Whom a fault may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Affects {
    /// Redis itself: every instance may become slower.
    All,
    /// One instance's way to Redis, or one instance for a moment: the others stay as fast.
    One(usize),
    /// One instance that cannot answer meanwhile.
    Stopped(usize),
}

/// Runs a fault against a fleet under load and checks the promise before, during and after.
async fn trial(name: &str, affects: Affects, fault: impl AsyncFnOnce(&Fleet)) {
    let _turn = TURN.lock().await;
    let fleet = Fleet::start(INSTANCES).await;
    let judge = Judge::start(fleet.services.clone(), Load::default()).await;
    judge.phase("warm up", WARM_UP).await;
    let before = judge.phase("before", Duration::from_millis(1_500)).await;
    let during = judge.during(name, fault(&fleet)).await;
    let after = judge.until_hits("after", PATIENCE).await;
    let violations = judge.settle().await;

    // Shown when one of the assertions fails, or with `--nocapture`.
    eprintln!("{before}{during}{after}");
    assert_eq!(violations, [""; 0]);
    for phase in [&before, &during, &after] {
        let worst = phase.staleness.max;
        assert!(
            worst <= MAX_STALENESS + ALLOWANCE,
            "{}: stale by {worst:?}",
            phase.name
        );
        assert_eq!(
            failed(phase, affects),
            0,
            "{}: reads that were not answered",
            phase.name
        );
        assert_as_fast_as(&before, phase, affects);
    }
    assert!(
        after.is_caching(),
        "hits did not come back within {PATIENCE:?}"
    );
    assert!(
        before.exposed > 0 && before.writes.acknowledged > 0,
        "proves nothing"
    );
    assert!(during.exposed + after.exposed > 0, "proves nothing");
}

/// Asserts that the instances which a fault does not touch stay as fast as they were, or as fast as
/// the machine lets anything be at that time: `GET /livez` is the control.
fn assert_as_fast_as(before: &Phase, phase: &Phase, affects: Affects) {
    for (instance, (usual, now)) in before.instances.iter().zip(&phase.instances).enumerate() {
        let unaffected = match affects {
            Affects::All => false,
            Affects::One(one) | Affects::Stopped(one) => instance != one,
        };
        let (usual, control) = (usual.latency.p90, now.control.p90);
        let now = now.latency.p90;
        let slow = now > NOISE.max(3 * usual).max(3 * control);
        assert!(
            !(unaffected && slow),
            "{}: instance {instance} took {now:?} at p90, {usual:?} before, control {control:?}",
            phase.name
        );
    }
}

/// Reads without an answer 200, where one is due.
fn failed(phase: &Phase, affects: Affects) -> usize {
    let excused = match affects {
        Affects::Stopped(instance) => phase.instances[instance].failed,
        Affects::All | Affects::One(_) => 0,
    };
    phase.failed() - excused
}

/// Asks again until the answer is yes.
async fn until(what: &str, mut yes: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !yes().await {
        assert!(Instant::now() < deadline, "never became true: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the fault has reached an instance: it must know that it is cut off.
async fn degraded(fleet: &Fleet, instance: usize) {
    until("it is degraded", async || {
        let health = fleet.services[instance].healthz().await;
        health.is_ok_and(|health| health.status == 503)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_normal_operation_a_write_is_seen_everywhere_at_once() {
    let _turn = TURN.lock().await;
    let fleet = Fleet::start(INSTANCES).await;
    let judge = Judge::start(fleet.services.clone(), Load::default()).await;
    judge.phase("warm up", WARM_UP).await;
    let phase = judge
        .phase("normal operation", Duration::from_secs(5))
        .await;
    let violations = judge.settle().await;

    eprintln!("{phase}");
    assert_eq!(violations, [""; 0]);
    assert!(phase.staleness.max <= MAX_STALENESS + ALLOWANCE);
    assert!(phase.hit_share() > 0.5);
    assert_eq!(phase.failed(), 0);
    let Writes {
        acknowledged,
        unconfirmed,
        refused,
        unknown,
    } = phase.writes;
    assert_eq!(unconfirmed + refused + unknown, 0);
    assert!(phase.exposed > 0 && acknowledged > 0, "proves nothing");
    for proxy in &fleet.proxies {
        assert!(proxy.counts().pushes >= acknowledged / 2, "not by pub/sub");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_over_a_killed_redis_keeps_its_bound() {
    let fault = async |fleet: &Fleet| {
        fleet.redis.kill();
        sleep(Duration::from_millis(1_500)).await;
        block_in_place(|| fleet.redis.restart());
    };
    trial("Redis killed, back after 1.5 s", Affects::All, fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_over_a_stopped_redis_keeps_its_bound() {
    let fault = async |fleet: &Fleet| {
        fleet.redis.stop();
        sleep(Duration::from_secs(3)).await;
        for instance in 0..INSTANCES {
            degraded(fleet, instance).await;
        }
        fleet.redis.cont();
    };
    trial("Redis stopped for 3 s", Affects::All, fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_over_a_flushed_redis_keeps_its_bound() {
    let fault = async |fleet: &Fleet| {
        fleet.admin(&["FLUSHALL"]);
        sleep(Duration::from_secs(1)).await;
    };
    trial("FLUSHALL", Affects::All, fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_cut_off_keeps_its_bound() {
    let fault = async |fleet: &Fleet| {
        let connections = fleet.proxies[1].accepted();
        fleet.proxies[1].cut(Cut::Rst);
        until("another connection", async || {
            fleet.proxies[1].accepted() > connections
        })
        .await;
    };
    trial("connections of instance 1 reset", Affects::One(1), fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_refused_keeps_its_bound() {
    let fault = async |fleet: &Fleet| {
        fleet.proxies[1].set_door(Door::Refuse).await;
        fleet.proxies[1].cut(Cut::Rst);
        sleep(Duration::from_secs(4)).await;
        degraded(fleet, 1).await;
        fleet.proxies[1].set_door(Door::Open).await;
    };
    trial("instance 1 refused for 4 s", Affects::One(1), fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_in_a_black_hole_keeps_its_bound() {
    let fault = async |fleet: &Fleet| {
        fleet.proxies[1].set_both(Mode::Blackhole);
        sleep(Duration::from_secs(4)).await;
        degraded(fleet, 1).await;
        fleet.proxies[1].set_both(Mode::Pass);
    };
    trial("instance 1 in a black hole for 4 s", Affects::One(1), fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_stopped_keeps_its_bound_when_it_goes_on() {
    let fault = async |fleet: &Fleet| {
        fleet.services[1].stop();
        sleep(Duration::from_secs(3)).await;
        fleet.services[1].cont();
    };
    trial("instance 1 stopped for 3 s", Affects::Stopped(1), fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_doubled_and_swapped_messages_keep_the_bound() {
    let fault = async |fleet: &Fleet| {
        let proxy = &fleet.proxies[1];
        proxy.filter(|_| match fastrand::u8(..6) {
            0 => Fate::Drop,
            1 => Fate::Duplicate,
            2 => Fate::Swap,
            _ => Fate::Pass,
        });
        sleep(Duration::from_secs(3)).await;
        until("all kinds of damage", async || {
            let counts = proxy.counts();
            counts.dropped.min(counts.duplicated).min(counts.swapped) > 0
        })
        .await;
        proxy.next_fates([]);
    };
    trial(
        "messages to instance 1 lost, doubled, swapped",
        Affects::One(1),
        fault,
    )
    .await;
}
