//! An instance with another number of lanes than its fleet does no harm and sees none, whenever it
//! learns of that.

use unstale::{ErrorKind, InstanceState, LocalBus, Settings, WriteError};

use crate::support::nodes::{Node, Source, ms, pass};

const KEYS: u64 = 20;

/// A fleet of one lane, and an instance of four that could not ask when it started.
async fn fleet_and_stranger() -> (LocalBus, Source, Node, Node) {
    let (bus, source) = (LocalBus::default(), Source::default());
    for key in 0..KEYS {
        source.set(key, 1);
    }
    let fleet = Node::start(&bus, &source, Settings::default()).await;
    let mut settings = Settings::default();
    settings.lanes = 4;
    bus.silence_next();
    let stranger = Node::start(&bus, &source, settings).await;
    for key in 0..KEYS {
        fleet.get(key).await;
        stranger.get(key).await;
    }
    bus.faults(1).end_all();
    pass(ms(1_500)).await;
    for key in 0..KEYS {
        stranger.get(key).await;
    }
    (bus, source, fleet, stranger)
}

#[tokio::test(start_paused = true)]
async fn writes_of_an_instance_with_other_lanes_are_refused_and_nothing_is_committed() {
    let (_bus, source, fleet, stranger) = fleet_and_stranger().await;
    assert_eq!(stranger.instance.health().state, InstanceState::Degraded);
    for key in 0..KEYS {
        let commit = async {
            source.set(key, 2);
            Ok::<_, std::io::Error>(())
        };
        match stranger.cache.write(&key, commit).await {
            Err(WriteError::Refused(error)) => assert_eq!(error.kind(), ErrorKind::Lanes),
            other => unreachable!("not refused: {other:?}"),
        }
        let refused = stranger.cache.invalidate(&key).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Lanes);
    }
    for key in 0..KEYS {
        assert_eq!(fleet.get(key).await, Some(1));
    }
    assert_eq!(stranger.instance.health().open_writes, 0);
}

#[tokio::test(start_paused = true)]
async fn an_instance_with_other_lanes_serves_nothing_beyond_the_bound() {
    let (bus, source, fleet, stranger) = fleet_and_stranger().await;
    // Its lane 0, where the fleet's events are, cannot be repaired.
    bus.faults(1).deafen();
    for key in 0..KEYS {
        source.set(key, 2);
        fleet.cache.invalidate(&key).await.unwrap();
    }
    pass(ms(2_100)).await;
    for key in 0..KEYS {
        assert_eq!(stranger.get(key).await, Some(2), "key {key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fleet_whose_lanes_are_right_again_is_coherent_again() {
    let (bus, source, fleet, stranger) = fleet_and_stranger().await;
    drop(fleet);
    bus.flush();
    pass(ms(3_000)).await;
    assert_eq!(stranger.instance.health().state, InstanceState::Coherent);
    source.set(1, 3);
    stranger.cache.invalidate(&1).await.unwrap();
    assert_eq!(stranger.get(1).await, Some(3));
}
