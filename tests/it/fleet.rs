//! A fleet under load keeps its promise through every fault, seen from outside.
//!
//! Three processes of the reference service share one Redis, each over a way of its own, and one
//! database; writers and readers use their HTTP ports only.
//! Each test is one row of the table of bounds.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::support::fleet::Fleet;
use crate::support::judge::{Judge, Load, Phase, Writes};
use crate::support::proxy::{Cut, Door, Fate, Mode};

const INSTANCES: usize = 3;

/// The default of `UNSTALE_MAX_STALENESS`, which the fleet runs with.
const MAX_STALENESS: Duration = Duration::from_secs(2);

/// What a busy machine and the way back to the reader may add to the bound.
const ALLOWANCE: Duration = Duration::from_millis(250);

/// Until most accounts have been read once on every instance.
const WARM_UP: Duration = Duration::from_millis(700);

/// How soon a fleet answers from memory again.
const RECOVERY: Duration = Duration::from_secs(5);

/// Latency below which a change is the machine's noise.
const NOISE: Duration = Duration::from_millis(50);

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
    let after = judge.until_hits("after", RECOVERY).await;
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
        "hits did not come back within {RECOVERY:?}"
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
        let (usual, control) = (usual.latency.p99, now.control.p99);
        let now = now.latency.p99;
        let slow = now > NOISE.max(3 * usual).max(3 * control);
        assert!(
            !(unaffected && slow),
            "{}: instance {instance} took {now:?} at p99, {usual:?} before, control {control:?}",
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

/// Asserts that the fault reached an instance: it must know that it is cut off.
async fn assert_degraded(fleet: &Fleet, instance: usize) {
    let health = fleet.services[instance].healthz().await.expect("an answer");
    assert_eq!(health.status, 503, "{}", health.body);
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
    assert!(phase.staleness.p99 <= Duration::from_millis(100));
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
    assert!(phase.exposed > 100 && acknowledged > 20, "proves nothing");
    for proxy in &fleet.proxies {
        assert!(proxy.counts().pushes >= acknowledged / 2, "not by pub/sub");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_and_restarted() {
    let fault = async |fleet: &Fleet| {
        fleet.redis.kill();
        sleep(Duration::from_millis(1_500)).await;
        block_in_place(|| fleet.redis.restart());
    };
    trial("Redis killed, back after 1.5 s", Affects::All, fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stopped_and_continued() {
    let fault = async |fleet: &Fleet| {
        fleet.redis.stop();
        sleep(Duration::from_secs(3)).await;
        for instance in 0..INSTANCES {
            assert_degraded(fleet, instance).await;
        }
        fleet.redis.cont();
    };
    trial("Redis stopped for 3 s", Affects::All, fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_flushed() {
    let fault = async |fleet: &Fleet| {
        fleet.admin(&["FLUSHALL"]);
        sleep(Duration::from_secs(1)).await;
    };
    trial("FLUSHALL", Affects::All, fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_cut() {
    let fault = async |fleet: &Fleet| {
        let connections = fleet.proxies[1].accepted();
        fleet.proxies[1].cut(Cut::Rst);
        sleep(Duration::from_secs(1)).await;
        assert!(fleet.proxies[1].accepted() > connections, "nothing was cut");
    };
    trial("connections of instance 1 reset", Affects::One(1), fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_refused() {
    let fault = async |fleet: &Fleet| {
        fleet.proxies[1].set_door(Door::Refuse).await;
        fleet.proxies[1].cut(Cut::Rst);
        sleep(Duration::from_secs(4)).await;
        assert_degraded(fleet, 1).await;
        fleet.proxies[1].set_door(Door::Open).await;
    };
    trial("instance 1 refused for 4 s", Affects::One(1), fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_in_a_black_hole() {
    let fault = async |fleet: &Fleet| {
        fleet.proxies[1].set_both(Mode::Blackhole);
        sleep(Duration::from_secs(4)).await;
        assert_degraded(fleet, 1).await;
        fleet.proxies[1].set_both(Mode::Pass);
    };
    trial("instance 1 in a black hole for 4 s", Affects::One(1), fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_stopped_and_continued() {
    let fault = async |fleet: &Fleet| {
        fleet.services[1].stop();
        sleep(Duration::from_secs(3)).await;
        fleet.services[1].cont();
    };
    trial("instance 1 stopped for 3 s", Affects::Stopped(1), fault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_messages_lost_doubled_and_swapped() {
    let fault = async |fleet: &Fleet| {
        let proxy = &fleet.proxies[1];
        proxy.filter(|_| match fastrand::u8(..6) {
            0 => Fate::Drop,
            1 => Fate::Duplicate,
            2 => Fate::Swap,
            _ => Fate::Pass,
        });
        sleep(Duration::from_secs(3)).await;
        proxy.next_fates([]);
        let counts = proxy.counts();
        let each = [counts.dropped, counts.duplicated, counts.swapped];
        assert!(
            each.iter().all(|count| *count > 0),
            "nothing was done: {counts:?}"
        );
    };
    trial(
        "messages to instance 1 lost, doubled, swapped",
        Affects::One(1),
        fault,
    )
    .await;
}
