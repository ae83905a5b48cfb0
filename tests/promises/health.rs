//! `health()` says `Coherent` only where it is true.

use std::io;

use unstale::internals;
use unstale::{InstanceState, LocalBus, Settings, WriteError};

use crate::support::nodes::{Node, Source, ms, pair, pair_with, pass};

#[tokio::test(start_paused = true)]
async fn an_instance_that_has_lost_a_task_is_not_coherent_and_says_which() {
    let (_bus, _source, a, _b) = pair().await;
    let mut names = internals::tasks(&a.instance);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["coherence", "keeper", "publisher", "reaper"]);
    for name in names {
        let (_bus, _source, a, b) = pair().await;
        pass(ms(3_000)).await;
        assert_eq!(
            a.instance.health().state,
            InstanceState::Coherent,
            "before {name}"
        );
        internals::end_task(&a.instance, name);
        pass(ms(1)).await;
        let health = a.instance.health();
        assert_eq!(health.state, InstanceState::Degraded, "without {name}");
        assert_eq!(health.ended_tasks, [name]);
        assert_eq!(b.instance.health().state, InstanceState::Coherent);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_lanes_are_not_verified_in_time_is_not_coherent() {
    let (bus, source, a, _b) = pair().await;
    source.set(1, 10);
    a.get(1).await;
    // Each verification is answered, too late for the bound to hold.
    bus.faults(0).delay(ms(10_000));
    bus.faults(0).lose_next(1);
    source.set(1, 11);
    bus.drop_journal();
    for _ in 0..100 {
        pass(ms(100)).await;
        a.get(1).await;
        let health = a.instance.health();
        let age = health.verified_age[0].unwrap();
        let in_time = age <= ms(2_000);
        assert!(
            in_time || health.state != InstanceState::Coherent,
            "{health:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_is_coherent_and_stays_so_when_it_is_read_from_again() {
    let (_bus, source, a, _b) = pair_with(Settings::default()).await;
    source.set(1, 10);
    for _ in 0..300 {
        pass(ms(100)).await;
        assert_eq!(a.instance.health().state, InstanceState::Coherent);
    }
    for _ in 0..100 {
        a.get(1).await;
        assert_eq!(a.instance.health().state, InstanceState::Coherent);
        pass(ms(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn verifications_keep_a_pace_while_the_bus_refuses_at_once() {
    let (bus, source, a, _b) = pair().await;
    for key in 0..100 {
        source.set(key, key);
        a.get(key).await;
    }
    bus.faults(0).cut();
    pass(ms(2_500)).await;
    let failed = || a.metric(r#"unstale_verifications_total{outcome="failed"}"#);
    let before = failed();
    for read in 0..4_000 {
        a.get(read % 100).await;
        pass(ms(1)).await;
    }
    let asked = failed() - before;
    assert!((4..=20).contains(&asked), "{asked} verifications in 4 s");
}

/// The lanes of a cluster live on several servers: one in a black hole costs the others nothing.
#[tokio::test(start_paused = true)]
async fn a_lane_that_does_not_answer_keeps_no_other_lane_from_being_verified() {
    let (bus, source) = (LocalBus::default(), Source::default());
    let mut settings = Settings::default();
    settings.lanes = 2;
    settings.max_staleness = Some(ms(1_000));
    settings.verify_interval = ms(400);
    let a = Node::start(&bus, &source, settings).await;
    bus.faults(0).slow_lane(1, ms(1_500));
    let mut oldest = ms(0);
    for key in 0..500_u64 {
        a.get(key).await;
        pass(ms(20)).await;
        let age = a.instance.health().verified_age[0].unwrap();
        oldest = oldest.max(age);
    }
    assert!(oldest <= ms(450), "{oldest:?}");
    assert_eq!(a.instance.health().state, InstanceState::Degraded);
}

#[tokio::test(start_paused = true)]
async fn writes_that_are_refused_in_an_outage_are_not_open_afterwards() {
    let (bus, _source, a, _b) = pair().await;
    let open = || a.instance.health().open_writes;
    let write = |key: u64| {
        let cache = a.cache.clone();
        async move {
            let commit = async { Ok::<_, io::Error>(()) };
            cache.write(&key, commit).await
        }
    };
    // The connection hangs, and then it is lost.
    bus.faults(0).silence();
    for key in 0..3 {
        assert!(matches!(write(key).await, Err(WriteError::Refused(_))));
        assert_eq!(open(), 0, "after {key}");
    }
    bus.faults(0).cut();
    for key in 0..3 {
        assert!(matches!(write(key).await, Err(WriteError::Refused(_))));
        assert_eq!(open(), 0, "after {key}, without a connection");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_commit_failed_is_open_until_its_deadline() {
    let (_bus, _source, a, _b) = pair().await;
    let commit = async { Err::<(), _>(io::Error::other("no")) };
    let write = a.cache.write(&1, commit).await;
    assert!(matches!(write, Err(WriteError::Commit(_))));
    let write_timeout = Settings::default().write_timeout;
    pass(write_timeout - ms(1_000)).await;
    assert_eq!(a.instance.health().open_writes, 1);
    pass(ms(2_000)).await;
    assert_eq!(a.instance.health().open_writes, 0);
}
