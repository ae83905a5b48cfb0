//! Neither a slow load nor a lost record can bring an old value back.

use unstale::internals::{Mechanism, Without};
use unstale::{Outcome, SharedTier};

use super::{SECOND, three};
use crate::support::nodes::{ms, pass};
use crate::support::sharing::Node;

/// What is invalidated.
#[derive(Clone, Copy, Debug)]
enum What {
    Key,
    Tag,
    Cache,
    /// Everything, by an event that no instance can read.
    Lane,
}

const ALL: [What; 4] = [What::Key, What::Tag, What::Cache, What::Lane];

impl What {
    async fn invalidate(self, bus: &unstale::LocalBus, by: &Node) {
        match self {
            Self::Key => drop(by.cache.invalidate(&1).await.unwrap()),
            Self::Tag => drop(by.cache.invalidate_tag("tens-0").await.unwrap()),
            Self::Cache => drop(by.cache.invalidate_all().await.unwrap()),
            Self::Lane => {
                bus.publish_unreadable(0);
                by.cache.invalidate(&999).await.unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_counts_in_the_tier_at_once_whichever_instance_has_heard_of_it() {
    for what in ALL {
        let (bus, source, [a, b, c]) = three(SharedTier::new).await;
        a.get(1).await;
        pass(ms(1)).await;
        // C hears nothing, and has nothing in memory.
        bus.faults(2).hold();
        source.set(1, 11);
        what.invalidate(&bus, &b).await;
        assert_eq!(c.get(1).await, Some(11), "{what:?}");
        assert_eq!(c.reads("found"), 0, "{what:?}");
        // What is loaded now is found again.
        pass(ms(1)).await;
        assert_eq!(b.outcome(1).await, Outcome::Tier, "{what:?}");
        assert_eq!(b.get(1).await, Some(11), "{what:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_no_event_names_stays() {
    let (_bus, source, [a, b, _]) = three(SharedTier::new).await;
    source.set(55, 1);
    a.get(1).await;
    pass(ms(1)).await;
    b.cache.invalidate(&2).await.unwrap();
    b.cache.invalidate_tag("tens-5").await.unwrap();
    assert_eq!(b.outcome(1).await, Outcome::Tier);
}

/// A load that has read 10, and a change to 11 that its instance has not heard of.
async fn slow_load(what: What, between: impl AsyncFnOnce(&unstale::LocalBus)) -> u64 {
    let (bus, source, [a, b, c]) = three(SharedTier::new).await;
    source.slow(ms(100));
    let slow = a.spawn(1);
    pass(ms(10)).await;
    bus.faults(0).hold();
    source.set(1, 11);
    what.invalidate(&bus, &b).await;
    between(&bus).await;
    let old = slow.await.unwrap();
    assert_eq!(old.value, Some(10), "it began before the change");
    pass(ms(1)).await;
    source.slow(ms(0));
    assert_eq!(c.get(1).await, Some(11), "{what:?}");
    a.stores("refused")
}

#[tokio::test(start_paused = true)]
async fn a_slow_load_does_not_bring_an_old_value_back() {
    for what in ALL {
        assert_eq!(slow_load(what, async |_: &unstale::LocalBus| {}).await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_whose_record_is_lost_is_not_served() {
    // Flushed, restarted, failed over, evicted: before and after a verification has begun another.
    for wait in [ms(0), ms(60)] {
        slow_load(What::Key, async |bus: &unstale::LocalBus| {
            bus.flush();
            pass(wait).await;
        })
        .await;
        slow_load(What::Key, async |bus: &unstale::LocalBus| {
            bus.restart_losing(1);
            pass(wait).await;
        })
        .await;
        slow_load(What::Key, async |bus: &unstale::LocalBus| {
            bus.fail_over_losing(1);
            pass(wait).await;
        })
        .await;
        slow_load(What::Key, async |bus: &unstale::LocalBus| {
            bus.drop_tier();
            pass(wait).await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failover_that_lost_the_invalidation_does_not_bring_the_value_back() {
    for wait in [ms(0), SECOND] {
        let (bus, source, [a, b, c]) = three(SharedTier::new).await;
        a.get(1).await;
        pass(ms(1)).await;
        source.set(1, 11);
        b.cache.invalidate(&1).await.unwrap();
        // The replica has the value, but neither the event nor the record of it.
        bus.fail_over_losing(1);
        pass(wait).await;
        for node in [&a, &b, &c] {
            assert_eq!(node.get(1).await, Some(11), "after {wait:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_invalidates_reads_nothing_older_even_from_the_tier() {
    for lose_ack in [false, true] {
        let found = reads_after_its_own_invalidation(lose_ack).await;
        assert_eq!(found, Some(11), "acknowledgement lost: {lose_ack}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_own_echoes_an_instance_that_invalidates_serves_what_it_found_in_between() {
    let _without = Without::new(Mechanism::OwnEchoes);
    for lose_ack in [false, true] {
        assert_eq!(reads_after_its_own_invalidation(lose_ack).await, Some(10));
    }
}

/// What A reads after its invalidation, having found the old value just before it was published.
async fn reads_after_its_own_invalidation(lose_ack: bool) -> Option<u64> {
    let (bus, source, [a, _, _]) = three(SharedTier::new).await;
    a.get(1).await;
    pass(ms(1)).await;
    source.set(1, 11);
    let faults = bus.faults(0);
    faults.pause_publish();
    let invalidation = a.cache.invalidate(&1);
    // Dropped here, but Redis does not know yet: the old value still counts there.
    assert_eq!(a.lookup(1).await.outcome, Outcome::Tier);
    assert_eq!(a.get(1).await, Some(10));
    if lose_ack {
        faults.lose_next_ack(1);
    } else {
        // The acknowledgement is first, and its echo late.
        faults.hold();
    }
    faults.resume_publish();
    if lose_ack {
        pass(ms(1)).await;
    } else {
        invalidation.await.unwrap();
    }
    a.get(1).await
}
