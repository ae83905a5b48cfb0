//! What happens to the server.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_restart_begins_a_new_epoch_at_the_next_verification() {
    let mut pair = pair().await;
    let before = pair.publish("1 2").await;
    pair.bus.restart();
    assert_eq!(pair.heard(), "1 2 !Disconnected +");
    // Until then numbers go on in the old epoch.
    let between = pair.publish("3").await;
    assert_eq!(
        between,
        Position {
            sequence: before.sequence + 1,
            ..before
        }
    );
    let verified = pair.b.verify(0).await.unwrap();
    assert_ne!(verified.head.epoch, before.epoch);
    assert_eq!(verified.head.sequence, between.sequence);
    assert!(verified.known);
    assert!(pair.b.journal(0, 0).await.unwrap().events.is_empty());
    assert_eq!(pair.a.verify(0).await.unwrap().head, verified.head);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_loses_events_hands_their_numbers_out_again() {
    let mut pair = pair().await;
    let before = pair.publish("1 2 3").await;
    pair.bus.restart_losing(2);
    let again = pair.publish("4").await;
    assert_eq!(
        again,
        Position {
            sequence: before.sequence - 1,
            ..before
        }
    );
    let journal = pair.a.journal(0, before.sequence - 3).await.unwrap();
    assert_eq!(
        journal.events,
        [
            (before.sequence - 2, text("1")),
            (before.sequence - 1, text("4")),
        ]
    );
    assert_eq!(pair.heard(), "1 2 3 !Disconnected + 4");
    assert_ne!(pair.b.verify(0).await.unwrap().head.epoch, before.epoch);
}

#[tokio::test(start_paused = true)]
async fn a_failover_is_seen_by_the_next_verification_only() {
    let mut pair = pair().await;
    let before = pair.publish("1 2").await;
    pair.bus.fail_over_losing(1);
    assert_eq!(pair.heard(), "1 2");
    assert!(pair.b.connected());
    let head = pair.b.verify(0).await.unwrap().head;
    assert_eq!(head.sequence, before.sequence - 1);
    assert_ne!(head.epoch, before.epoch);
}

#[tokio::test(start_paused = true)]
async fn a_restart_during_a_silence_is_found_out_when_it_heals() {
    let mut pair = pair().await;
    pair.faults.silence();
    pair.bus.restart();
    assert_eq!(pair.heard(), "");
    assert_eq!(failure(pair.b.verify(0)).await, (ErrorKind::Bus, SECOND));
    pair.faults.heal();
    assert_eq!(pair.heard(), "!Disconnected +");
    assert!(pair.b.verify(0).await.is_ok());
    // The next silence breaks nothing.
    pair.faults.silence();
    pair.faults.heal();
    assert_eq!(pair.heard(), "");
}

#[tokio::test(start_paused = true)]
async fn a_flush_takes_everything_and_no_instance_notices() {
    for empty_restart in [false, true] {
        let mut pair = pair().await;
        let before = pair.publish("1").await;
        sleep(SECOND).await;
        if empty_restart {
            pair.bus.restart_empty();
            assert_eq!(pair.heard(), "1 !Disconnected +");
        } else {
            pair.bus.flush();
            assert_eq!(pair.heard(), "1");
        }
        let after = pair.b.verify(0).await.unwrap();
        assert_ne!(after.head.epoch, before.epoch);
        // The time that went by is in the new number.
        assert!(after.head.sequence > before.sequence);
        assert!(!after.known);
    }
}

#[tokio::test(start_paused = true)]
async fn journal_counter_and_members_are_lost_one_by_one() {
    let pair = pair().await;
    let before = pair.publish("1 2").await;
    pair.bus.drop_journal();
    let journal = pair.a.journal(0, 0).await.unwrap();
    assert!(journal.events.is_empty());
    assert_eq!(journal.head, before);
    assert_eq!(pair.b.verify(0).await.unwrap().head, before);

    // The journal outlives its counter, and its numbers are higher: it begins again.
    pair.publish("3").await;
    pair.bus.drop_counter();
    let after = pair.publish("4").await;
    assert!(after.sequence <= before.sequence);
    assert_ne!(after.epoch, before.epoch);
    assert_eq!(
        pair.a.journal(0, 0).await.unwrap().events,
        [(after.sequence, text("4"))]
    );

    // Even the same number again is too low.
    pair.bus.drop_counter();
    let same = pair.publish("5").await;
    assert_eq!(same.sequence, after.sequence);
    let journal = pair.a.journal(0, 0).await.unwrap();
    assert_eq!(journal.events, [(same.sequence, text("5"))]);

    pair.bus.drop_members();
    assert!(!pair.b.verify(0).await.unwrap().known);
}

#[tokio::test(start_paused = true)]
async fn members_that_were_lost_do_not_orphan_intents() {
    let pair = pair().await;
    let mut id = [0; 16];
    id[7] = 1;
    let intent = crate::bus::Intent {
        id,
        deadline: 30 * SECOND,
        payload: text("orphan"),
    };
    pair.a.announce(0, vec![intent]).await.unwrap();
    pair.bus.drop_members();
    // A registration by a record alone must not pass for a member list that is whole.
    pair.b.announce(0, vec![]).await.unwrap();
    assert_eq!(pair.b.verify(0).await.unwrap().recovered, 1);
    assert_eq!(pair.b.verify(0).await.unwrap().recovered, 0);
    sleep(30 * SECOND).await;
    assert_eq!(pair.b.verify(0).await.unwrap().recovered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_writer_is_heard_without_a_sequence() {
    let mut pair = pair().await;
    let head = pair.publish("1").await;
    pair.bus.publish_raw(0, "short");
    pair.bus
        .publish_raw(0, vec![0; 16 + crate::event::MAX_PAYLOAD + 1]);
    let mut forged = Vec::new();
    forged.extend(7_u64.to_be_bytes());
    forged.extend(9_u64.to_be_bytes());
    forged.extend(b"forged");
    pair.bus.publish_raw(0, forged);
    pair.events.recv().await.unwrap();
    assert!(matches!(
        pair.events.recv().await,
        Some(BusEvent::Garbled { lane: 0 })
    ));
    assert!(matches!(
        pair.events.recv().await,
        Some(BusEvent::Garbled { lane: 0 })
    ));
    let Some(BusEvent::Message {
        position, payload, ..
    }) = pair.events.recv().await
    else {
        unreachable!("long enough to be a message");
    };
    assert_eq!((position.epoch, position.sequence), (7, 9));
    assert_eq!(payload, text("forged"));
    assert_eq!(pair.a.journal(0, 0).await.unwrap().head, head);
}
