//! Members, their intents, and what becomes of them.

use tokio::sync::mpsc::error::TryRecvError;

use super::*;
use crate::bus::{Intent, IntentId};
use crate::mutants::{Mechanism, Without};

fn intent_id(instance: u64, number: u64) -> IntentId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&instance.to_be_bytes());
    id[8..].copy_from_slice(&number.to_be_bytes());
    id
}

fn intent(instance: u64, number: u64, deadline: Duration, payload: &str) -> Intent {
    Intent {
        id: intent_id(instance, number),
        deadline,
        payload: text(payload),
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_writers_intent_is_published_before_the_head_and_again_at_its_deadline() {
    let bus = LocalBus::default();
    let (a, mut at_a) = bus.attach(config(1));
    let (b, at_b) = bus.attach(config(2));
    a.verify(0).await.unwrap();
    b.verify(0).await.unwrap();
    assert!(
        b.announce(0, vec![intent(2, 1, 30 * SECOND, "orphan")])
            .await
            .unwrap()
    );
    drop((b, at_b)); // A crash: it does not leave.

    advance(MEMBER_TIMEOUT - Duration::from_millis(1)).await;
    let before = a.verify(0).await.unwrap();
    assert_eq!(before.recovered, 0);
    advance(Duration::from_millis(1)).await;
    let after = a.verify(0).await.unwrap();
    assert_eq!(after.recovered, 1);
    assert_eq!(after.head.sequence, before.head.sequence + 1);
    assert_eq!(drain(&mut at_a), "+ orphan");

    // Once is enough until the deadline, which is 30 s after it was recorded.
    advance(24 * SECOND).await;
    assert_eq!(a.verify(0).await.unwrap().recovered, 0);
    advance(SECOND).await;
    assert_eq!(a.verify(0).await.unwrap().recovered, 1);
    advance(60 * SECOND).await;
    assert_eq!(a.verify(0).await.unwrap().recovered, 0);
    assert_eq!(drain(&mut at_a), "orphan");
}

#[tokio::test(start_paused = true)]
async fn a_publish_clears_its_intents() {
    let bus = LocalBus::default();
    let (a, mut at_a) = bus.attach(config(1));
    let (b, _at_b) = bus.attach(config(2));
    a.verify(0).await.unwrap();
    b.announce(
        0,
        vec![
            intent(2, 1, SECOND, "first"),
            intent(2, 2, SECOND, "second"),
        ],
    )
    .await
    .unwrap();
    b.publish(0, text("done"), vec![intent_id(2, 1)])
        .await
        .unwrap();
    advance(MEMBER_TIMEOUT).await;
    assert_eq!(a.verify(0).await.unwrap().recovered, 1);
    assert_eq!(drain(&mut at_a), "+ done second");
}

#[tokio::test(start_paused = true)]
async fn a_member_never_buries_itself_and_learns_when_others_did() {
    let bus = LocalBus::default();
    let (a, _at_a) = bus.attach(config(1));
    let (b, _at_b) = bus.attach(config(2));
    b.announce(0, vec![intent(2, 1, 30 * SECOND, "open")])
        .await
        .unwrap();
    advance(2 * MEMBER_TIMEOUT).await;
    let own = b.verify(0).await.unwrap();
    assert!(own.known);
    assert_eq!(own.recovered, 0);

    advance(MEMBER_TIMEOUT).await;
    assert_eq!(a.verify(0).await.unwrap().recovered, 1);
    assert!(!b.verify(0).await.unwrap().known);
    // Recorded again, later than before: the old deadline no longer clears it.
    assert!(
        b.announce(0, vec![intent(2, 1, 60 * SECOND, "open")])
            .await
            .unwrap()
    );
    advance(20 * SECOND).await;
    b.verify(0).await.unwrap();
    assert_eq!(a.verify(0).await.unwrap().recovered, 0);
    advance(MEMBER_TIMEOUT).await;
    assert_eq!(a.verify(0).await.unwrap().recovered, 1);
}

#[tokio::test(start_paused = true)]
async fn leaving_removes_a_member_but_not_its_open_writes() {
    let bus = LocalBus::default();
    let (a, mut at_a) = bus.attach(config(1));
    let (b, _at_b) = bus.attach(config(2));
    a.announce(0, vec![]).await.unwrap();
    b.announce(0, vec![intent(2, 1, 30 * SECOND, "open")])
        .await
        .unwrap();
    a.close(StillOpen::default()).await;
    a.close(StillOpen::default()).await;
    b.close(StillOpen::default()).await;
    assert_eq!(
        a.publish(0, text("late"), vec![]).await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert!(!a.connected());
    assert_eq!(drain(&mut at_a), "+");
    assert_eq!(at_a.try_recv().unwrap_err(), TryRecvError::Disconnected);

    // The same ids again: only the one that left a write behind is still a member.
    let (a, _at_a) = bus.attach(config(1));
    assert!(!a.verify(0).await.unwrap().known);
    advance(MEMBER_TIMEOUT).await;
    assert_eq!(a.verify(0).await.unwrap().recovered, 1);
}

#[tokio::test(start_paused = true)]
async fn one_beat_buries_a_bounded_number_of_members_the_oldest_first() {
    let bus = LocalBus::default();
    let (a, mut at_a) = bus.attach(config(0));
    a.verify(0).await.unwrap();
    for instance in (1..=130).rev() {
        let (b, _at_b) = bus.attach(config(instance));
        let payload = instance.to_string();
        b.announce(0, vec![intent(instance, 1, 60 * SECOND, &payload)])
            .await
            .unwrap();
        advance(Duration::from_millis(1)).await;
    }
    advance(MEMBER_TIMEOUT).await;
    assert_eq!(a.verify(0).await.unwrap().recovered, 128);
    assert!(drain(&mut at_a).starts_with("+ 130 129 128 "));
    assert_eq!(a.verify(0).await.unwrap().recovered, 2);
    assert_eq!(drain(&mut at_a), "2 1");
    assert_eq!(a.verify(0).await.unwrap().recovered, 0);
}

#[tokio::test(start_paused = true)]
async fn after_the_members_are_lost_every_unknown_writer_is_settled_as_dead_once() {
    let bus = LocalBus::default();
    let (a, mut at_a) = bus.attach(config(1));
    let (b, _at_b) = bus.attach(config(2));
    let open = [
        intent(2, 1, 60 * SECOND, "x"),
        intent(2, 2, 60 * SECOND, "y"),
    ];
    b.announce(0, open.to_vec()).await.unwrap();
    a.announce(0, vec![intent(1, 1, 60 * SECOND, "own")])
        .await
        .unwrap();
    for _ in 0..2 {
        // What was recovered once was noted among the members, and is lost with them.
        bus.drop_members();
        assert_eq!(a.verify(0).await.unwrap().recovered, 2);
        assert_eq!(a.verify(0).await.unwrap().recovered, 0);
    }
    assert_eq!(drain(&mut at_a), "+ x y x y");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_cannot_reach_the_bus_cannot_leave() {
    let bus = LocalBus::default();
    for number in 0..2 {
        let (a, _at_a) = bus.attach(config(1));
        assert_eq!(a.verify(0).await.unwrap().known, number > 0);
        if number == 0 {
            bus.cut(number);
        } else {
            bus.silence(number);
        }
        a.close(StillOpen::default()).await;
    }
    let (a, _at_a) = bus.attach(config(1));
    assert!(a.verify(0).await.unwrap().known);
}

#[tokio::test(start_paused = true)]
async fn a_step_back_of_the_clock_delays_neither_a_burial_nor_a_deadline() {
    for without in [false, true] {
        let _without = without.then(|| Without::new(Mechanism::ServerClockSteps));
        let bus = LocalBus::default();
        let (a, _at_a) = bus.attach(config(1));
        let (b, _at_b) = bus.attach(config(2));
        a.verify(0).await.unwrap();
        b.announce(0, vec![intent(2, 1, 30 * SECOND, "open")])
            .await
            .unwrap();
        drop(b);
        bus.step_clock(-3_600_000);
        a.verify(0).await.unwrap();
        advance(MEMBER_TIMEOUT).await;
        let found = a.verify(0).await.unwrap().recovered;
        advance(30 * SECOND - MEMBER_TIMEOUT).await;
        let settled = a.verify(0).await.unwrap().recovered;
        assert_eq!((found, settled), if without { (0, 0) } else { (1, 1) });
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_forward_of_the_clock_forgets_no_write_of_a_live_writer() {
    for without in [false, true] {
        let _without = without.then(|| Without::new(Mechanism::ServerClockSteps));
        let bus = LocalBus::default();
        let (a, _at_a) = bus.attach(config(1));
        let (b, _at_b) = bus.attach(config(2));
        a.verify(0).await.unwrap();
        b.announce(0, vec![intent(2, 1, 30 * SECOND, "open")])
            .await
            .unwrap();
        bus.step_clock(3_600_000);
        assert_eq!(a.verify(0).await.unwrap().recovered, 1);
        advance(MEMBER_TIMEOUT / 2).await;
        // Cleared, it would not be here again.
        let again = a.verify(0).await.unwrap().recovered;
        assert_eq!(
            again,
            u32::from(without),
            "settled before its writer could beat"
        );
        // In time for what is left of its member timeout.
        assert!(!b.verify(0).await.unwrap().known);
        b.announce(0, vec![intent(2, 1, 20 * SECOND, "open")])
            .await
            .unwrap();
        advance(MEMBER_TIMEOUT - SECOND).await;
        assert_eq!(a.verify(0).await.unwrap().recovered, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_with_a_short_timeout_does_not_expire_one_that_beats_slowly() {
    let bus = LocalBus::default();
    let slow = BusConfig {
        member_timeout: 60 * SECOND,
        ..config(1)
    };
    let (slow, _at_slow) = bus.attach(slow);
    let (hasty, _at_hasty) = bus.attach(config(2));
    slow.announce(0, vec![intent(1, 1, 600 * SECOND, "open")])
        .await
        .unwrap();
    advance(59 * SECOND).await;
    assert_eq!(hasty.verify(0).await.unwrap().recovered, 0);
    assert!(slow.verify(0).await.unwrap().known);
    advance(60 * SECOND).await;
    assert_eq!(hasty.verify(0).await.unwrap().recovered, 1);
}

#[tokio::test(start_paused = true)]
async fn writes_that_are_not_listed_as_open_are_cleared_up_to_the_highest_listed_number() {
    let bus = LocalBus::default();
    let (a, _at_a) = bus.attach(config(1));
    let (b, _at_b) = bus.attach(config(2));
    let recorded = |instance, number| intent(instance, number, 60 * SECOND, "open");
    let all = (1..=4).map(|number| recorded(2, number)).collect();
    b.announce(0, all).await.unwrap();
    a.announce(0, vec![recorded(1, 1)]).await.unwrap();
    let open = StillOpen {
        up_to: 3,
        intents: vec![intent_id(2, 2)],
    };
    b.reconcile(0, open).await.unwrap();
    advance(MEMBER_TIMEOUT).await;
    let (c, mut at_c) = bus.attach(config(3));
    assert_eq!(
        c.verify(0).await.unwrap().recovered,
        3,
        "of b the 2nd and the 4th"
    );
    drain(&mut at_c);
}

#[tokio::test(start_paused = true)]
async fn leaving_clears_the_writes_that_are_not_open() {
    let bus = LocalBus::default();
    let (a, _at_a) = bus.attach(config(1));
    a.announce(0, vec![intent(1, 1, 60 * SECOND, "late")])
        .await
        .unwrap();
    let open = StillOpen {
        up_to: 1,
        intents: vec![],
    };
    a.close(open).await;
    let (b, _at_b) = bus.attach(config(2));
    advance(2 * MEMBER_TIMEOUT).await;
    assert_eq!(b.verify(0).await.unwrap().recovered, 0);
}

#[tokio::test(start_paused = true)]
async fn a_counter_that_goes_back_within_its_epoch_begins_another_with_the_next_event() {
    let bus = LocalBus::default();
    let (a, _at_a) = bus.attach(config(1));
    let begun = a.verify(0).await.unwrap().head;
    for _ in 0..8 {
        a.publish(0, text("x"), vec![]).await.unwrap();
    }
    let before = bus.copy_servers();
    bus.with_lanes(|lane| lane.set_back(5));
    let position = a.publish(0, text("late"), vec![]).await.unwrap();
    assert_ne!(position.epoch, begun.epoch, "taken for a duplicate by all");
    let events = a.journal(0, 0).await.unwrap().events;
    assert_eq!(events, [(position.sequence, text("late"))]);
    let verified = a.verify(0).await.unwrap().head;
    assert_ne!(verified.epoch, position.epoch, "it was provisional");
    assert_eq!(a.verify(0).await.unwrap().head, verified);
    // An older state in the same life of the server looks like any other.
    bus.put_servers_back(&before);
    let head = a.verify(0).await.unwrap().head;
    assert_eq!(
        (head.epoch, head.sequence),
        (begun.epoch, begun.sequence + 8)
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_reports_since_when() {
    let bus = LocalBus::default();
    let (a, _at_a) = bus.attach(config(1));
    assert_eq!(a.away_since(0), None);
    let lost = Instant::now();
    bus.cut(0);
    advance(3 * SECOND).await;
    assert_eq!(a.away_since(0), Some(lost));
    bus.heal(0);
    assert_eq!(a.away_since(0), None);
}
