use super::*;
use crate::ErrorKind;

fn key(cache: u32, hash: u64) -> Invalidation {
    Invalidation::Key {
        cache,
        format: 1,
        hash,
    }
}

fn keys(hashes: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Invalidation> {
    hashes.into_iter().map(|hash| key(1, hash))
}

fn at(epoch: u64, sequence: u64) -> Position {
    Position { epoch, sequence }
}

fn answered(waiter: &Waiter) -> bool {
    waiter.borrow().is_some()
}

#[test]
fn invalidations_that_come_while_a_message_is_in_flight_share_the_next() {
    let mut outbox = Outbox::new(1_000_000);
    let first = outbox.push([key(1, 1)], None, 0).unwrap();
    let in_flight = outbox.take().unwrap();
    let waiters: Vec<_> = (2..50)
        .map(|n| outbox.push([key(1, n)], None, 0).unwrap())
        .collect();
    outbox.sent(in_flight, at(1, 1), 0).answer(&Ok(at(1, 1)));
    assert!(answered(&first) && !waiters.iter().any(answered));
    let next = outbox.take().unwrap();
    assert_eq!(
        next.ops,
        [Op {
            cache: 1,
            format: 1,
            what: What::Keys((2..50).collect())
        }]
    );
    assert!(outbox.take().is_none());
    outbox.sent(next, at(1, 2), 0).answer(&Ok(at(1, 2)));
    assert!(waiters.iter().all(answered));
}

#[test]
fn a_large_push_is_split_and_its_waiter_waits_for_the_last_part() {
    let mut outbox = Outbox::new(1_000_000);
    let waiter = outbox.push(keys(0..2_500), Some([7; 16]), 0).unwrap();
    let groups: Vec<_> = std::iter::from_fn(|| outbox.take()).collect();
    assert_eq!(
        groups.iter().map(|group| group.hashes).collect::<Vec<_>>(),
        [1_024, 1_024, 452]
    );
    assert_eq!(
        groups
            .iter()
            .map(|group| group.clears.len())
            .collect::<Vec<_>>(),
        [0, 0, 1]
    );
    for (n, group) in (1..).zip(groups) {
        assert!(!answered(&waiter));
        outbox.sent(group, at(1, n), 0).answer(&Ok(at(1, n)));
    }
    assert!(answered(&waiter));
}

#[test]
fn kinds_and_caches_keep_apart_and_a_whole_cache_covers_its_keys() {
    let mut outbox = Outbox::new(1_000_000);
    let tag = Invalidation::Tag {
        cache: 1,
        format: 1,
        tag: 9,
    };
    let all = Invalidation::Cache {
        cache: 2,
        format: 1,
    };
    outbox
        .push(
            [key(1, 5), tag, key(2, 5), all, key(2, 6), key(1, 6)],
            None,
            0,
        )
        .unwrap();
    let ops = outbox.take().unwrap().ops;
    assert_eq!(ops.iter().filter(|op| op.cache == 1).count(), 2);
    assert!(ops.contains(&Op {
        cache: 1,
        format: 1,
        what: What::Keys(vec![5, 6])
    }));
    assert!(ops.contains(&Op {
        cache: 2,
        format: 1,
        what: What::Cache
    }));
    assert!(ops.contains(&Op {
        cache: 2,
        format: 1,
        what: What::Keys(vec![5])
    }));
}

#[test]
fn overload_collapses_and_loses_neither_intents_nor_waiters() {
    let mut outbox = Outbox::new(2_000);
    let waiter = outbox.push(keys(0..1_500), Some([1; 16]), 0).unwrap();
    assert_eq!(outbox.shrink(), None);
    let front = outbox.take().unwrap();
    drop(outbox.push([key(2, 1)], Some([2; 16]), 0));
    outbox.push(keys(1_500..3_000), None, 0).unwrap();
    // The message in flight fails and comes back: too much now.
    assert_eq!(outbox.restore(front), Some(Collapsed::ToCaches));
    assert_eq!(outbox.depth(), 0);
    // Redis stays away: nothing grows further.
    for n in 0..10_000 {
        outbox.push([key(1, n)], None, 0).unwrap();
    }
    assert_eq!((outbox.depth(), outbox.queue.len()), (0, 1));
    let group = outbox.take().unwrap();
    assert_eq!(group.clears, [[1; 16], [2; 16]]);
    let cache = |cache| Op {
        cache,
        format: 1,
        what: What::Cache,
    };
    assert_eq!(group.ops, [cache(1), cache(2)]);
    outbox.sent(group, at(1, 1), 0).answer(&Ok(at(1, 1)));
    assert!(answered(&waiter));
}

#[test]
fn very_many_caches_collapse_to_the_lane() {
    let mut outbox = Outbox::new(300);
    for cache in 0..400 {
        outbox.push([key(cache, 1)], None, 0).unwrap();
    }
    assert_eq!(outbox.shrink(), Some(Collapsed::ToLane));
    assert_eq!(
        outbox.take().unwrap().ops,
        [Op {
            cache: 0,
            format: 0,
            what: What::Lane
        }]
    );
}

#[test]
fn events_stay_until_a_later_verification_of_their_epoch_confirms_them() {
    let mut outbox = Outbox::new(1_000);
    let publish = |outbox: &mut Outbox, hash, position, now| {
        outbox.push([key(1, hash)], None, now).unwrap();
        let group = outbox.take().unwrap();
        outbox.sent(group, position, now).answer(&Ok(position));
    };
    publish(&mut outbox, 1, at(1, 1), 10);
    assert_eq!(
        outbox.confirm(at(1, 1), 10, 11),
        0,
        "sent before the acknowledgement: no proof"
    );
    assert!(!outbox.settled());
    assert_eq!(outbox.confirm(at(1, 1), 20, 21), 0);
    assert!(outbox.settled());
    // A failover: the epoch is another one, or the same numbers are no longer there.
    publish(&mut outbox, 2, at(1, 2), 30);
    assert_eq!(outbox.confirm(at(2, 2), 40, 41), 1);
    assert_eq!(outbox.take().unwrap().ops[0].what, What::Keys(vec![2]));
    publish(&mut outbox, 3, at(2, 9), 50);
    assert_eq!(outbox.confirm(at(2, 8), 60, 61), 1);
    assert_eq!(outbox.take().unwrap().ops[0].what, What::Keys(vec![3]));
}

#[test]
fn events_that_wait_for_confirmation_are_bounded_too() {
    let mut outbox = Outbox::new(100);
    for n in 0..1_000 {
        outbox.push([key(1, n)], None, n).unwrap();
        let group = outbox.take().unwrap();
        outbox.sent(group, at(1, n), n).answer(&Ok(at(1, n)));
        assert!(outbox.sent_hashes <= 100 && outbox.sent.len() <= 102);
    }
    assert!(outbox.confirm(at(2, 1), 2_000, 2_001) <= 102);
    let ops: Vec<_> = std::iter::from_fn(|| outbox.take())
        .flat_map(|group| group.ops)
        .collect();
    assert!(
        ops.iter().any(|op| op.what == What::Cache),
        "the older ones as a whole cache"
    );
}

#[test]
fn closing_fails_what_waits_and_refuses_new_invalidations() {
    let mut outbox = Outbox::new(100);
    let waiter = outbox.push([key(1, 1)], None, 0).unwrap();
    outbox.close().answer(&Err(Error::closed()));
    let answer = waiter.borrow().clone();
    assert_eq!(answer.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(outbox.push([key(1, 2)], None, 0).is_none());
}

/// 1: an event is acknowledged by a primary; 2: it is replaced, without the event; 3: so many events
/// of the new epoch follow, before the next verification, that all become one.
#[test]
fn an_event_of_a_replaced_primary_goes_out_again_although_it_was_merged() {
    let mut outbox = Outbox::new(1_024);
    outbox.push([key(1, 1)], None, 0).unwrap();
    let lost = outbox.take().unwrap();
    outbox.sent(lost, at(1, 70), 1).answer(&Ok(at(1, 70)));
    for n in 0..2 {
        outbox
            .push(keys(n * 1_000..(n + 1) * 1_000), None, 2)
            .unwrap();
        let group = outbox.take().unwrap();
        outbox
            .sent(group, at(2, 1 + n), 2)
            .answer(&Ok(at(2, 1 + n)));
    }
    assert_eq!(outbox.confirm(at(2, 2), 3, 3), 1);
    let again = outbox.take().unwrap();
    assert_eq!(again.ops[0].what, What::Cache);
    assert_eq!(outbox.confirm(at(2, 2), 4, 4), 0);
}
