mod members;

use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::{advance, sleep};

use bytes::Bytes;

use super::*;
use crate::ErrorKind;
use crate::bus::{EVENT_QUEUE, GapCause, JOURNAL_PAGE};
use crate::bus::{Position, StillOpen};
use crate::event::MAX_PAYLOAD;
use crate::metrics::{Kind, Traffic};

const MEMBER_TIMEOUT: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn config(instance: u64) -> BusConfig {
    BusConfig {
        namespace: "test".to_owned(),
        instance,
        lanes: 1,
        journal: 4_096,
        member_timeout: MEMBER_TIMEOUT,
        signs: false,
        keys: Vec::new(),
        traffic: Arc::new(Traffic::default()),
        outages: Arc::default(),
        tasks: Arc::default(),
    }
}

/// What is in the queue now, as text: `+` subscribed, `!cause` a gap, `?` garbled, `#n` the payload
/// of a message.
pub(crate) fn drain(events: &mut Receiver<BusEvent>) -> String {
    let mut out = Vec::new();
    while let Ok(event) = events.try_recv() {
        out.push(match event {
            BusEvent::Subscribed => "+".to_owned(),
            BusEvent::Gap(cause) => format!("!{cause:?}"),
            BusEvent::Message { payload, .. } => String::from_utf8_lossy(&payload).into_owned(),
            BusEvent::Garbled { lane } => format!("?{lane}"),
        });
    }
    out.join(" ")
}

pub(crate) fn text(payload: &str) -> Bytes {
    Bytes::copy_from_slice(payload.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn an_event_reaches_all_of_its_namespace_in_one_order() {
    let bus = LocalBus::default();
    let (a, mut at_a) = bus.attach(config(1));
    let (b, mut at_b) = bus.attach(config(2));
    let (_other, mut at_other) = bus.attach(BusConfig {
        namespace: "other".to_owned(),
        ..config(3)
    });
    let first = a.publish(0, text("one"), vec![]).await.unwrap();
    let second = b.publish(0, text("two"), vec![]).await.unwrap();
    assert_eq!(
        second,
        Position {
            sequence: first.sequence + 1,
            ..first
        }
    );
    assert_eq!(drain(&mut at_a), "+ one two");
    assert_eq!(drain(&mut at_b), "+ one two");
    assert_eq!(drain(&mut at_other), "+");
}

#[tokio::test(start_paused = true)]
async fn the_message_carries_the_position_that_was_acknowledged() {
    let bus = LocalBus::default();
    let (a, mut events) = bus.attach(BusConfig {
        lanes: 2,
        ..config(1)
    });
    let acknowledged = a.publish(1, text("one"), vec![]).await.unwrap();
    assert!(matches!(events.recv().await, Some(BusEvent::Subscribed)));
    let Some(BusEvent::Message {
        lane: 1, position, ..
    }) = events.recv().await
    else {
        unreachable!("a message of lane 1 was published");
    };
    assert_eq!(position, acknowledged);
    // As over Redis: they must survive a script's numbers, and zero means "none".
    assert!(position.sequence < 1 << 53 && position.epoch < 1 << 53 && position.epoch != 0);
}

#[tokio::test(start_paused = true)]
async fn the_first_verification_begins_an_epoch_and_the_next_keeps_it() {
    let bus = LocalBus::default();
    let (a, _events) = bus.attach(config(1));
    // A counter that a publish made has never been checked: the epoch is not kept.
    let published = a.publish(0, text("one"), vec![]).await.unwrap();
    let first = a.verify(0).await.unwrap();
    assert_ne!(first.head.epoch, published.epoch);
    assert_eq!(first.head.sequence, published.sequence);
    assert!(!first.known);
    assert!(a.journal(0, 0).await.unwrap().events.is_empty());

    let second = a.verify(0).await.unwrap();
    assert_eq!(second.head, first.head);
    assert!(second.known);
}

#[tokio::test(start_paused = true)]
async fn the_journal_is_capped_paged_and_read_with_its_head() {
    let bus = LocalBus::default();
    let (a, _events) = bus.attach(BusConfig {
        journal: 1_000,
        ..config(1)
    });
    assert_eq!(
        a.journal(0, 0).await.unwrap().head,
        Position {
            epoch: 0,
            sequence: 0
        }
    );
    let start = a.verify(0).await.unwrap().head.sequence;
    for number in 1..=1_200 {
        a.publish(0, text(&number.to_string()), vec![])
            .await
            .unwrap();
    }
    let page = a.journal(0, start).await.unwrap();
    assert_eq!(page.head.sequence, start + 1_200);
    assert_eq!(page.events.len(), JOURNAL_PAGE);
    assert_eq!(page.events[0], (start + 201, text("201")));
    let last = a.journal(0, start + 1_199).await.unwrap();
    assert_eq!(last.events, [(start + 1_200, text("1200"))]);
    assert!(a.journal(0, start + 1_200).await.unwrap().events.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_journal_can_be_turned_off() {
    let bus = LocalBus::default();
    let (a, _events) = bus.attach(BusConfig {
        journal: 0,
        ..config(1)
    });
    a.verify(0).await.unwrap();
    a.publish(0, text("one"), vec![]).await.unwrap();
    assert!(a.journal(0, 0).await.unwrap().events.is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_number_of_lanes_is_refused_and_changes_nothing() {
    let bus = LocalBus::default();
    let (a, _at_a) = bus.attach(config(1));
    let (b, _at_b) = bus.attach(BusConfig {
        lanes: 4,
        ..config(2)
    });
    let head = a.verify(0).await.unwrap().head;
    let error = b.verify(0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lanes);
    assert_eq!(
        error.to_string(),
        "the namespace was set up with 1 lanes, this instance has 4"
    );
    assert_eq!(a.verify(0).await.unwrap().head, head);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_messages_and_never_the_gap() {
    let bus = LocalBus::default();
    let (a, mut events) = bus.attach(config(1));
    // The first event is `Subscribed`; two messages find no room.
    for number in 0..=EVENT_QUEUE {
        a.publish(0, text(&number.to_string()), vec![])
            .await
            .unwrap();
    }
    let mut received = 0;
    let mut last = None;
    while let Ok(event) = events.try_recv() {
        received += 1;
        last = Some(event);
        if received == EVENT_QUEUE {
            break;
        }
    }
    assert!(matches!(last, Some(BusEvent::Message { .. })));
    // Nothing further is published; the note must come by itself.
    assert!(matches!(
        events.recv().await,
        Some(BusEvent::Gap(GapCause::Lagged))
    ));
    a.publish(0, text("after"), vec![]).await.unwrap();
    assert_eq!(drain(&mut events), "after");
}

#[tokio::test(start_paused = true)]
async fn the_gap_comes_before_the_first_message_that_finds_room_again() {
    let bus = LocalBus::default();
    let (a, mut events) = bus.attach(config(1));
    for _ in 0..=EVENT_QUEUE {
        a.publish(0, text("x"), vec![]).await.unwrap();
    }
    // No await in between: no task of the bus had a chance to run.
    for _ in 0..EVENT_QUEUE {
        events.try_recv().unwrap();
    }
    a.publish(0, text("after"), vec![]).await.unwrap();
    assert_eq!(drain(&mut events), "!Lagged after");
    // And only once.
    sleep(SECOND).await;
    assert_eq!(drain(&mut events), "");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_long_arrives_as_garbled() {
    let bus = LocalBus::default();
    let (a, mut events) = bus.attach(config(1));
    a.publish(0, Bytes::from(vec![1; MAX_PAYLOAD]), vec![])
        .await
        .unwrap();
    a.publish(0, Bytes::from(vec![1; MAX_PAYLOAD + 1]), vec![])
        .await
        .unwrap();
    events.recv().await.unwrap();
    assert!(matches!(
        events.recv().await,
        Some(BusEvent::Message { .. })
    ));
    assert!(matches!(
        events.recv().await,
        Some(BusEvent::Garbled { lane: 0 })
    ));
}

#[tokio::test]
async fn neither_queues_nor_tasks_keep_the_bus_alive() {
    let bus = LocalBus::default();
    let home = Arc::downgrade(&bus.0);
    let (a, events) = bus.attach(config(1));
    for _ in 0..=EVENT_QUEUE {
        a.publish(0, text("x"), vec![]).await.unwrap();
    }
    tokio::task::yield_now().await; // The pump waits for room now.
    drop((bus, a));
    assert!(home.upgrade().is_none());
    drop(events);
}

#[test]
fn a_bus_made_outside_of_a_runtime_follows_the_runtimes_clock() {
    let bus = LocalBus::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (_a, _events) = bus.attach(config(1));
        advance(SECOND).await;
        assert_eq!(bus.0.lock().now(), super::hub::FIRST_TIME + SECOND);
    });
    assert!(format!("{bus:?}").starts_with("LocalBus"));
}

#[tokio::test(start_paused = true)]
async fn a_reconnection_with_a_full_queue_is_reported_once_there_is_room() {
    let bus = LocalBus::default();
    let (a, mut events) = bus.attach(config(1));
    for _ in 0..=EVENT_QUEUE {
        a.publish(0, text("x"), vec![]).await.unwrap();
    }
    for _ in 0..3 {
        bus.cut(0);
        bus.heal(0);
    }
    a.publish(0, text("lost"), vec![]).await.unwrap();
    for _ in 0..EVENT_QUEUE {
        events.try_recv().unwrap();
    }
    sleep(SECOND).await;
    assert_eq!(drain(&mut events), "!Disconnected +");

    // A subscription that is gone again is not reported.
    for _ in 0..=EVENT_QUEUE {
        a.publish(0, text("x"), vec![]).await.unwrap();
    }
    bus.cut(0);
    bus.heal(0);
    bus.cut(0);
    for _ in 0..EVENT_QUEUE {
        events.try_recv().unwrap();
    }
    sleep(SECOND).await;
    assert_eq!(drain(&mut events), "!Disconnected");
}

#[tokio::test(start_paused = true)]
async fn events_that_are_held_or_delayed_are_bounded_and_leave_a_gap() {
    let bus = LocalBus::default();
    let (a, mut events) = bus.attach(config(1));
    assert_eq!(drain(&mut events), "+");
    let overflow = async || {
        for _ in 0..=EVENT_QUEUE {
            a.publish(0, text("x"), vec![]).await.unwrap();
        }
    };
    bus.hold(0);
    overflow().await;
    sleep(SECOND).await;
    assert_eq!(drain(&mut events), "!Lagged");
    bus.release(0, faults::Order::Kept);
    assert_eq!(drain(&mut events).split(' ').count(), EVENT_QUEUE);

    bus.delay(0, 60 * SECOND);
    a.publish(0, text("first"), vec![]).await.unwrap();
    // Time for the bus to begin its wait for the minute to pass: the gap is not kept that long.
    sleep(SECOND).await;
    overflow().await;
    sleep(SECOND).await;
    assert_eq!(drain(&mut events), "!Lagged");
    sleep(60 * SECOND).await;
    let heard = drain(&mut events);
    assert_eq!(
        heard.split(' ').filter(|message| *message == "x").count(),
        EVENT_QUEUE - 1
    );
    assert!(!heard.contains('!'));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_as_they_would_be_over_redis() {
    let bus = LocalBus::default();
    let (sender, receiver) = (config(1), config(2));
    let (a, _at_a) = bus.attach(sender.clone());
    let (_b, _at_b) = bus.attach(receiver.clone());
    a.publish(0, text("12345678"), vec![]).await.unwrap();
    bus.next(1, faults::Next::Lose, 1);
    a.publish(0, text("12345678"), vec![]).await.unwrap();
    bus.next(1, faults::Next::Duplicate, 1);
    a.publish(0, text("12345678"), vec![]).await.unwrap();
    assert_eq!(format!("{:?}", sender.traffic), traffic(72, 72));
    assert_eq!(format!("{:?}", receiver.traffic), traffic(0, 72));
}

/// The text of counters with bytes published and delivered.
fn traffic(published: usize, delivered: usize) -> String {
    let traffic = Traffic::default();
    traffic.sent(Kind::Publish, published);
    traffic.received(Kind::Deliver, delivered);
    format!("{traffic:?}")
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_dropped_leaves_nothing_behind() {
    let bus = LocalBus::default();
    let (a, _at_a) = bus.attach(config(1));
    let (b, _at_b) = bus.attach(config(2));
    drop(a);
    b.close(StillOpen::default()).await;
    assert!(bus.0.lock().connections.is_empty());
}
