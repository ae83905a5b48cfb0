use std::sync::Arc;

use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep};

mod server;

use super::*;
use crate::ErrorKind;
use crate::bus::local::tests::{config, drain, text};
use crate::bus::{Bus, BusEvent, Position, StillOpen, SubscriptionRepair};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Two instances on a bus; the faults are those of the second, and so are the events.
struct Pair {
    bus: LocalBus,
    a: Arc<dyn Bus>,
    b: Arc<dyn Bus>,
    faults: Faults,
    events: Receiver<BusEvent>,
    _at_a: Receiver<BusEvent>,
}

async fn pair() -> Pair {
    let bus = LocalBus::default();
    let (a, at_a) = bus.attach(config(1));
    let (b, mut events) = bus.attach(config(2));
    assert_eq!(drain(&mut events), "+");
    a.verify(0).await.unwrap();
    b.verify(0).await.unwrap();
    let faults = bus.faults(1);
    Pair {
        bus,
        a,
        b,
        faults,
        events,
        _at_a: at_a,
    }
}

impl Pair {
    /// The first instance publishes these.
    async fn publish(&self, payloads: &str) -> Position {
        let mut last = None;
        for payload in payloads.split(' ') {
            last = Some(self.a.publish(0, text(payload), vec![]).await.unwrap());
        }
        last.unwrap()
    }

    fn heard(&mut self) -> String {
        drain(&mut self.events)
    }
}

/// The kind of a failed call, and how long it took.
async fn failure<T>(call: impl Future<Output = Result<T, crate::Error>>) -> (ErrorKind, Duration) {
    let start = Instant::now();
    let Err(error) = call.await else {
        unreachable!("the call should have failed")
    };
    (error.kind(), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_noticed_and_healed() {
    let mut pair = pair().await;
    pair.faults.cut();
    pair.faults.cut();
    pair.publish("one").await;
    assert!(!pair.b.connected() && pair.a.connected());
    for result in [
        failure(pair.b.publish(0, text("x"), vec![])).await,
        failure(pair.b.verify(0)).await,
        failure(pair.b.journal(0, 0)).await,
        failure(pair.b.announce(0, vec![])).await,
    ] {
        assert_eq!(result, (ErrorKind::Bus, Duration::ZERO));
    }
    pair.b.repair_subscription(SubscriptionRepair::Reconnect);
    pair.faults.heal();
    pair.publish("two").await;
    assert_eq!(pair.heard(), "!Disconnected + two");
    assert!(pair.b.connected());
    pair.b.publish(0, text("three"), vec![]).await.unwrap();
    assert_eq!(pair.heard(), "three");
}

#[tokio::test(start_paused = true)]
async fn a_silence_is_not_noticed_but_by_its_timeouts() {
    let mut pair = pair().await;
    pair.faults.silence();
    pair.publish("one").await;
    assert!(pair.b.connected());
    assert_eq!(failure(pair.b.verify(0)).await, (ErrorKind::Bus, SECOND));
    assert_eq!(
        failure(pair.b.publish(0, text("x"), vec![])).await,
        (ErrorKind::Bus, SECOND)
    );
    pair.b.repair_subscription(SubscriptionRepair::Resubscribe);
    pair.faults.heal();
    pair.publish("two").await;
    assert_eq!(pair.heard(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_silence_swallows_what_is_under_way() {
    let mut pair = pair().await;
    pair.faults.delay(SECOND);
    pair.publish("1").await;
    pair.faults.delay(Duration::ZERO);
    pair.faults.hold();
    pair.publish("2").await;
    pair.faults.silence();
    pair.faults.release();
    sleep(2 * SECOND).await;
    pair.faults.heal();
    pair.publish("3").await;
    assert_eq!(pair.heard(), "3");
}

#[tokio::test(start_paused = true)]
async fn a_command_outlives_a_short_silence() {
    let pair = pair().await;
    pair.faults.silence();
    let verified = tokio::join!(pair.b.verify(0), async {
        sleep(SECOND - MILLISECOND).await;
        pair.faults.heal();
    });
    assert!(verified.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_reconnection_that_began_in_a_silence_ends_with_it() {
    let mut pair = pair().await;
    pair.faults.silence();
    pair.b.repair_subscription(SubscriptionRepair::Reconnect);
    assert_eq!(pair.heard(), "!Disconnected");
    assert!(!pair.b.connected());
    pair.faults.heal();
    assert_eq!(pair.heard(), "+");
}

#[tokio::test(start_paused = true)]
async fn a_lost_subscription_is_repaired_either_way() {
    let mut pair = pair().await;
    for (how, heard) in [
        (SubscriptionRepair::Resubscribe, "+ two"),
        (SubscriptionRepair::Reconnect, "!Disconnected + two"),
    ] {
        pair.faults.unsubscribe();
        pair.publish("one").await;
        // Commands are as healthy as before.
        assert!(pair.b.verify(0).await.is_ok() && pair.b.connected());
        assert_eq!(pair.heard(), "");
        pair.b.repair_subscription(how);
        pair.publish("two").await;
        assert_eq!(pair.heard(), heard);
    }
}

#[tokio::test(start_paused = true)]
async fn deliveries_are_lost_duplicated_and_garbled() {
    let mut pair = pair().await;
    pair.faults.lose_next(2);
    pair.publish("1 2 3").await;
    assert_eq!(pair.heard(), "3");
    pair.faults.duplicate_next(1);
    pair.publish("4 5").await;
    assert_eq!(pair.heard(), "4 4 5");
    pair.faults.garble_next();
    let position = pair.publish("6").await;
    let Ok(BusEvent::Message {
        position: garbled,
        payload,
        ..
    }) = pair.events.try_recv()
    else {
        unreachable!("the message is delivered");
    };
    assert_eq!(garbled, position);
    let bare = crate::event::Seal::new(&crate::Settings::default());
    assert!(bare.decode(0, &payload).is_err());
    pair.publish("7").await;
    assert_eq!(pair.heard(), "7");
}

#[tokio::test(start_paused = true)]
async fn messages_are_held_and_released_in_either_order() {
    let mut pair = pair().await;
    pair.faults.hold();
    pair.publish("1 2 3").await;
    assert_eq!(pair.heard(), "");
    pair.faults.release_reordered();
    pair.publish("4").await;
    assert_eq!(pair.heard(), "3 2 1 4");
    pair.faults.hold();
    pair.publish("5 6").await;
    pair.faults.release();
    assert_eq!(pair.heard(), "5 6");
    pair.faults.hold();
    pair.publish("7").await;
    pair.faults.cut();
    pair.faults.heal();
    pair.faults.release();
    assert_eq!(pair.heard(), "!Disconnected +");
}

#[tokio::test(start_paused = true)]
async fn a_delay_keeps_the_order_even_as_it_shrinks() {
    let mut pair = pair().await;
    pair.faults.delay(SECOND);
    pair.publish("1 2").await;
    pair.faults.delay(Duration::ZERO);
    pair.publish("3").await;
    sleep(SECOND - MILLISECOND).await;
    assert_eq!(pair.heard(), "");
    sleep(2 * MILLISECOND).await;
    assert_eq!(pair.heard(), "1 2 3");
    pair.publish("4").await;
    assert_eq!(pair.heard(), "4");
}

#[tokio::test(start_paused = true)]
async fn a_cut_loses_what_is_under_way_and_later_delays_still_work() {
    let mut pair = pair().await;
    pair.faults.delay(60 * SECOND);
    pair.publish("1").await;
    // Time for the bus to begin its wait for the minute to pass.
    sleep(MILLISECOND).await;
    pair.faults.delay(SECOND);
    pair.faults.cut();
    pair.faults.heal();
    pair.publish("2").await;
    assert_eq!(pair.heard(), "!Disconnected");
    sleep(SECOND + MILLISECOND).await;
    assert_eq!(pair.heard(), "+ 2");
}

#[tokio::test(start_paused = true)]
async fn a_publish_fails_before_or_after_its_effect() {
    let mut pair = pair().await;
    pair.faults.fail_next_publish(1);
    let publish = |payload: &str| pair.b.publish(0, text(payload), vec![]);
    assert_eq!(
        failure(publish("1")).await,
        (ErrorKind::Bus, Duration::ZERO)
    );
    publish("2").await.unwrap();
    pair.faults.lose_next_ack(1);
    assert_eq!(failure(publish("3")).await, (ErrorKind::Bus, SECOND));
    publish("4").await.unwrap();
    assert_eq!(pair.heard(), "2 3 4");
}

#[tokio::test(start_paused = true)]
async fn publishes_pause_while_everything_else_goes_on() {
    let mut pair = pair().await;
    pair.faults.pause_publish();
    assert!(pair.b.verify(0).await.is_ok());
    assert_eq!(
        failure(pair.b.publish(0, text("1"), vec![])).await,
        (ErrorKind::Bus, SECOND)
    );
    let published = tokio::join!(pair.b.publish(0, text("2"), vec![]), async {
        sleep(SECOND / 2).await;
        pair.faults.resume_publish();
    });
    assert!(published.0.is_ok());
    assert_eq!(pair.heard(), "2");
}

#[tokio::test(start_paused = true)]
async fn faults_of_an_instance_that_is_gone_do_nothing() {
    let pair = pair().await;
    assert_eq!(pair.bus.instances(), 2);
    pair.b.close(StillOpen::default()).await;
    pair.faults.cut();
    pair.faults.heal();
    pair.publish("1").await;
    assert_eq!(pair.bus.instances(), 2);
}

#[tokio::test]
#[should_panic(expected = "instance 2 of 2 that were started")]
async fn faults_of_an_instance_that_never_was_are_a_mistake() {
    let pair = pair().await;
    let _ = pair.bus.faults(2);
}

#[tokio::test(start_paused = true)]
async fn everything_comes_out_the_same_twice() {
    async fn trace() -> String {
        let mut pair = pair().await;
        pair.faults.delay(SECOND / 3);
        let head = pair.publish("1 2").await;
        pair.faults.lose_next(1);
        pair.publish("3 4").await;
        sleep(SECOND).await;
        pair.bus.restart_losing(1);
        pair.publish("5").await;
        sleep(SECOND).await;
        let after = pair.b.verify(0).await.unwrap().head;
        format!("{} {head:?} {after:?}", pair.heard())
    }
    assert_eq!(trace().await, trace().await);
}
