//! A machine that stands still, and a wall clock that is adjusted or set: nothing gets older than it may,
//! and what need not be dropped stays.

use std::time::{Duration, Instant as Std};

use tokio::time::sleep;
use unstale::{Instance, LocalBus, Outcome, Settings, internals};

use crate::support::nodes::{Node, Source, ms};

/// As in `over_redis`: a matter of the machine, however slow it is.
const PATIENCE: Duration = Duration::from_secs(120);

/// A bound that a busy machine does not reach by being slow.
const BOUND: Duration = Duration::from_secs(600);

async fn node(source: &Source, ttl: Duration) -> (LocalBus, Node) {
    let bus = LocalBus::default();
    let mut settings = Settings::default();
    settings.max_staleness = Some(BOUND);
    settings.ttl = ttl;
    settings.ttl_jitter = 0.0;
    let instance = Instance::start_on(&bus, settings).await.unwrap();
    (bus, Node::of(instance, source))
}

async fn until(what: &str, mut yes: impl AsyncFnMut() -> bool) {
    let began = Std::now();
    while !yes().await {
        assert!(began.elapsed() < PATIENCE, "never became true: {what}");
        sleep(ms(3)).await;
    }
}

fn jumps(node: &Node) -> u64 {
    node.metric("unstale_clock_jumps_total")
}

fn fences(node: &Node) -> u64 {
    node.metric(r#"unstale_fences_total{cause="clock"}"#)
}

#[tokio::test]
async fn a_small_step_of_the_clock_drops_nothing_and_a_jump_beyond_the_bound_drops_everything() {
    let source = Source::default();
    source.set(1, 10);
    let (_bus, node) = node(&source, Duration::from_secs(24 * 3600)).await;
    assert_eq!(node.get(1).await, Some(10));
    let (fenced, loads) = (fences(&node), source.loads());
    // 400 ms every 15 s, and what a machine adds that is really kept from running.
    for step in 1..=20 {
        let before = jumps(&node);
        internals::miss_time(ms(400));
        until("it is seen", async || jumps(&node) > before).await;
        assert_eq!(node.outcome(1).await, Outcome::Hit, "step {step}");
    }
    assert_eq!((fences(&node), source.loads()), (fenced, loads));
    internals::miss_time(BOUND + ms(5_000));
    until("it is fenced", async || fences(&node) > fenced).await;
    source.set(1, 11);
    until("it is loaded again", async || node.get(1).await == Some(11)).await;
}

#[tokio::test]
async fn missed_time_counts_against_the_bound_and_against_the_ttl() {
    let source = Source::default();
    source.set(1, 10);
    // The bus is gone, so nothing is proven again.
    let (bus, served) = node(&source, Duration::from_secs(24 * 3600)).await;
    assert_eq!(served.get(1).await, Some(10));
    bus.faults(0).cut();
    assert_eq!(served.cache.peek(&1), Some(10));
    let before = fences(&served);
    let halves = BOUND / 2 + ms(1_000);
    internals::miss_time(halves);
    assert_eq!(
        served.cache.peek(&1),
        Some(10),
        "half of the bound has passed"
    );
    internals::miss_time(halves);
    assert_eq!(
        served.cache.peek(&1),
        None,
        "more than the bound has passed"
    );
    drop(served);

    let (_bus, short) = node(&source, Duration::from_secs(3_000)).await;
    assert_eq!(short.get(1).await, Some(10));
    for _ in 0..10 {
        assert_eq!(short.outcome(1).await, Outcome::Hit);
        let seen = jumps(&short);
        internals::miss_time(Duration::from_secs(299));
        // One look that sees three of them sees a jump beyond the bound.
        until("it is seen", async || jumps(&short) > seen).await;
    }
    assert_eq!(short.outcome(1).await, Outcome::Hit, "2,990 s of 3,000");
    internals::miss_time(Duration::from_secs(299));
    assert_eq!(short.outcome(1).await, Outcome::Miss, "the TTL is over");
    assert_eq!(before, 0);
}
