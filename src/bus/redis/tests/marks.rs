//! Marks, and which relay works: one at a time, and the next at once where it ends in order.

use super::*;
use crate::bus::{Mark, MarkAt, Reached};

const LONG: Duration = Duration::from_secs(30);

/// Returns whether this relay is refused the lease for so long.
async fn refused(bus: &RedisBus, relay: u64, lease: Duration) -> bool {
    let mark = Mark {
        source: "orders".to_owned(),
        at: None,
        lease: Some((relay, lease)),
    };
    bus.mark(0, mark).await.unwrap().refused
}

#[tokio::test]
async fn a_lease_that_is_given_up_is_free_and_only_its_relay_can_do_that() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    assert!(!refused(&bus, 0xA, LONG).await);
    assert!(refused(&bus, 0xB, LONG).await);
    assert!(
        !refused(&bus, 0xB, Duration::ZERO).await,
        "it asks for none"
    );
    assert!(refused(&bus, 0xB, LONG).await, "it was not its own");
    assert!(!refused(&bus, 0xA, LONG).await);
    assert!(!refused(&bus, 0xA, Duration::ZERO).await);
    assert!(!refused(&bus, 0xB, LONG).await);
    assert!(refused(&bus, 0xA, LONG).await);
    // The same of a relay that has no lease.
    assert!(!refused(&bus, 0xA, Duration::ZERO).await);
    assert!(refused(&bus, 0xA, LONG).await);
}

/// An instance whose caches name the source.
async fn watching(server: &RedisServer) -> (Arc<RedisBus>, Events) {
    let joined = join(&server.url(), bus_config(1)).await;
    joined.0.watch(Arc::new(["orders".to_owned()]));
    joined
}

/// Marks the lane in its epoch. Returns whether that was set.
async fn marks(bus: &RedisBus, epoch: u64, reached: Reached) -> bool {
    let at = MarkAt {
        epoch,
        reached,
        sequence: 0,
    };
    let mark = Mark {
        source: "orders".to_owned(),
        at: Some(at),
        lease: None,
    };
    bus.mark(0, mark).await.unwrap().set
}

#[tokio::test]
async fn a_mark_comes_with_the_next_verification_and_never_goes_back() {
    let server = RedisServer::start();
    let (bus, _events) = watching(&server).await;
    let first = bus.verify_from(0, Known::default()).await.unwrap();
    let second = bus.verify_from(0, Known::default()).await.unwrap();
    let (epoch, number) = (first.head.epoch, second.counted.number);
    assert!(first.counted.number < number && second.counted.marks.is_empty());
    // A place has 64 bits, of which a number of the script would lose eleven.
    let newer = Reached {
        number,
        place: u64::MAX - 1,
    };
    let older = Reached {
        number: first.counted.number,
        place: 7,
    };
    assert!(marks(&bus, epoch, newer).await && marks(&bus, epoch, older).await);
    let third = bus.verify_from(0, Known::default()).await.unwrap();
    assert_eq!(third.counted.marks, [(0, newer)]);
    assert!(!marks(&bus, epoch + 1, newer).await, "of another epoch");
    let ahead = Reached {
        number: third.counted.number + 1,
        place: 7,
    };
    assert!(!marks(&bus, epoch, ahead).await, "of another state");
}

#[tokio::test]
async fn damaged_fields_count_as_no_number_and_no_mark() {
    let server = RedisServer::start();
    let (bus, _events) = watching(&server).await;
    let epoch = bus
        .verify_from(0, Known::default())
        .await
        .unwrap()
        .head
        .epoch;
    let mut admin = Client::connect(server.port());
    let mut set = |field: &str, value: &str| {
        admin.cmd(&["HSET", "us:{shop:0}s", field, value]);
    };
    for mark in [
        "nonsense",
        "1:2:3",
        &format!("{epoch}:7"),
        &format!("{epoch}:x:7"),
        &format!("{epoch}:7:1e9"),
    ] {
        set("xorders", mark);
        let verified = bus.verify_from(0, Known::default()).await.unwrap();
        assert_eq!(verified.counted.marks, [], "{mark}");
    }
    // What was counted before is forgotten with it, and the clock goes on, if only by milliseconds.
    let mut last = 1;
    for number in ["nonsense", "-5", "1e300", "nan"] {
        set("v", number);
        let verified = bus.verify_from(0, Known::default()).await.unwrap();
        assert!(
            verified.counted.number >= last,
            "{number}: {:?}",
            verified.counted
        );
        last = verified.counted.number;
    }
    set("yorders", "nonsense");
    assert!(!refused(&bus, 0xA, LONG).await);
    assert!(refused(&bus, 0xB, LONG).await);
}
