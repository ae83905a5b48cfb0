//! What becomes of a lane whose counter goes back, and where its epochs come from.

use super::*;

const S: &str = "us:{shop:0}s";

#[tokio::test]
async fn a_counter_that_goes_back_within_its_epoch_begins_another_with_the_next_event() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    let begun = bus.verify(0).await.unwrap().head;
    for _ in 0..8 {
        bus.publish(0, Bytes::from_static(b"x"), vec![])
            .await
            .unwrap();
        message(&mut events).await;
    }
    admin(&server).cmd(&["HINCRBY", S, "q", "-5"]);
    let position = bus
        .publish(0, Bytes::from_static(b"late"), vec![])
        .await
        .unwrap();
    assert_ne!(position.epoch, begun.epoch, "taken for a duplicate by all");
    assert_eq!(message(&mut events).await.0, position);
    let held = admin(&server).cmd(&["XLEN", "us:{shop:0}j"]).int();
    assert_eq!(held, Some(1), "the journal begins again with it");
    // Provisional: a verification begins one that comes from this life of the server.
    let verified = bus.verify(0).await.unwrap().head;
    assert_ne!(verified.epoch, position.epoch);
    assert_eq!(verified.sequence, position.sequence);
    assert_eq!(bus.verify(0).await.unwrap().head, verified);
}

/// 1: an instance applies eight events; 2: an older state of the lane is put back; 3: the counter comes up
/// to where it was. An instance that was away until then would find what it expects.
#[tokio::test]
async fn a_counter_below_what_an_instance_has_applied_begins_another_epoch_for_all() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    let begun = bus.verify(0).await.unwrap().head;
    let known = |sequence, taken| Known {
        applied: Some(Position {
            epoch: begun.epoch,
            sequence,
        }),
        taken,
    };
    let ahead = known(begun.sequence, false);
    assert_eq!(bus.verify_from(0, ahead).await.unwrap().head, begun);
    let applied = known(begun.sequence + 8, false);
    let after = bus.verify_from(0, applied).await.unwrap().head;
    assert_ne!(after.epoch, begun.epoch);
    assert_eq!(after.sequence, begun.sequence);
    // A report about an epoch that is over changes nothing more.
    assert_eq!(bus.verify_from(0, applied).await.unwrap().head, after);
    // A place that was taken twice says as much.
    let taken = Known {
        applied: Some(after),
        taken: true,
    };
    assert_ne!(
        bus.verify_from(0, taken).await.unwrap().head.epoch,
        after.epoch
    );
}

/// The record of the shared tier has seen more than the counter says.
#[cfg(feature = "shared")]
#[tokio::test]
async fn a_counter_below_the_record_of_the_tier_begins_another_epoch() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    bus.share();
    let begun = bus.verify(0).await.unwrap().head;
    for _ in 0..3 {
        let event = Bytes::from_static(b"x");
        bus.publish(0, event, vec![]).await.unwrap();
    }
    assert_eq!(bus.verify(0).await.unwrap().head.epoch, begun.epoch);
    admin(&server).cmd(&["HINCRBY", S, "q", "-2"]);
    assert_ne!(bus.verify(0).await.unwrap().head.epoch, begun.epoch);
}

/// 1: an event takes a sequence past the record; 2: the next one leaves the hole there; 3: a verification
/// begins the record again.
#[cfg(feature = "shared")]
#[tokio::test]
async fn a_hole_in_the_record_is_repaired_by_the_next_verification() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    bus.share();
    let begun = bus.verify(0).await.unwrap().head;
    let mut admin = admin(&server);
    admin.cmd(&["HINCRBY", S, "q", "1"]);
    let event = Bytes::from_static(b"x");
    let position = bus.publish(0, event, vec![]).await.unwrap();
    let hole = admin.cmd(&["HGET", "us:{shop:0}f", "q"]);
    assert_eq!(hole.text(), "");
    let verified = bus.verify(0).await.unwrap().head;
    assert_eq!((verified.epoch, verified), (begun.epoch, position));
    let recorded = admin.cmd(&["HGET", "us:{shop:0}f", "q"]);
    assert_eq!(recorded.text(), position.sequence.to_string());
}

/// Whatever else the journal refuses is no counter that went back.
#[tokio::test]
async fn a_user_who_may_not_write_the_journal_ends_no_epoch() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    let begun = bus.verify(0).await.unwrap().head;
    let mut admin = admin(&server);
    admin.cmd(&["ACL", "SETUSER", "default", "-xadd"]);
    for _ in 0..3 {
        let event = Bytes::from_static(b"x");
        bus.publish(0, event, vec![]).await.unwrap_err();
    }
    admin.cmd(&["ACL", "SETUSER", "default", "+xadd"]);
    assert_eq!(bus.verify(0).await.unwrap().head.epoch, begun.epoch);
}
