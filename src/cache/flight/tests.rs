use super::*;

fn flights() -> Arc<Flights<u64, u64>> {
    Arc::default()
}

fn join(flights: &Arc<Flights<u64, u64>>, newest: Stamp) -> Joined<u64, u64> {
    flights.join(1, &1, Some(0), || newest)
}

async fn landed<V: Clone>(mut waiter: Waiter<V>) -> Option<Landing<V>> {
    waiter.landing().await
}

fn lead(boarding: Joined<u64, u64>) -> (Leader<u64, u64>, Waiter<u64>) {
    match boarding {
        Joined::Lead(leader, waiter) => (leader, waiter),
        _ => unreachable!("expected to lead"),
    }
}

#[tokio::test]
async fn later_reads_join_until_an_invalidation() {
    let flights = flights();
    let (leader, first) = lead(join(&flights, 0));
    assert!(
        matches!(join(&flights, 9), Joined::Join(_)),
        "not begun: any read may join"
    );
    leader.begin(5);
    let Joined::Join(second) = join(&flights, 5) else {
        unreachable!("joins")
    };
    // Invalidated at 6: a new load, which later reads join.
    let (newer, third) = lead(join(&flights, 6));
    newer.begin(6);
    assert!(matches!(join(&flights, 6), Joined::Join(_)));
    leader.land(Ok(Some(10)), 0, || 6);
    assert!(
        flights.has(1),
        "the older flight leaves the newer one alone"
    );
    newer.land(Ok(Some(20)), 0, || 6);
    assert!(!flights.has(1));
    let landing = landed(first).await.unwrap();
    assert_eq!(
        (landing.answers(5), landing.answers(6), landing.answers(7)),
        (true, false, false)
    );
    assert_eq!(landing.result.unwrap(), Some(10));
    assert_eq!(landed(second).await.unwrap().result.unwrap(), Some(10));
    let landing = landed(third).await.unwrap();
    assert!(landing.answers(7));
    assert_eq!(landing.result.unwrap(), Some(20));
}

#[tokio::test]
async fn a_leader_that_is_dropped_lands_with_an_error() {
    let flights = flights();
    let (leader, waiter) = lead(join(&flights, 0));
    drop(leader);
    assert_eq!(
        landed(waiter).await.unwrap().result.unwrap_err().kind(),
        ErrorKind::Closed
    );
    let (leader, waiter) = lead(join(&flights, 0));
    let panicked = tokio::spawn(async move {
        let _leader = leader;
        std::panic::resume_unwind(Box::new("loader"));
    });
    assert!(panicked.await.unwrap_err().is_panic());
    assert_eq!(
        landed(waiter).await.unwrap().result.unwrap_err().kind(),
        ErrorKind::LoadPanic
    );
    assert!(!flights.has(1));
}

#[test]
fn another_key_with_the_same_hash_does_not_join() {
    let flights = flights();
    let (leader, _waiter) = lead(join(&flights, 0));
    leader.begin(0);
    let (other, _waits) = lead(flights.join(1, &2, Some(0), || 0));
    assert_eq!(*other.key(), 2);
    assert!(
        matches!(flights.join(1, &2, Some(0), || 0), Joined::Join(_)),
        "it has taken the place"
    );
}

#[tokio::test]
async fn waiters_of_a_withdrawn_flight_look_into_memory() {
    let flights = flights();
    let (leader, first) = lead(join(&flights, 0));
    let Joined::Join(second) = join(&flights, 0) else {
        unreachable!("joins")
    };
    leader.withdraw();
    assert!(!flights.has(1));
    assert!(landed(first).await.is_none());
    assert!(landed(second).await.is_none());
}

/// A key whose every method is what it must not be under a lock of this crate.
#[derive(Debug)]
struct Outside(u64);

impl Clone for Outside {
    fn clone(&self) -> Self {
        assert!(!crate::lock::held());
        Self(self.0)
    }
}

impl PartialEq for Outside {
    fn eq(&self, other: &Self) -> bool {
        assert!(!crate::lock::held());
        self.0 == other.0
    }
}

impl Eq for Outside {}

impl Drop for Outside {
    fn drop(&mut self) {
        assert!(!crate::lock::held());
    }
}

#[tokio::test]
async fn no_key_and_no_value_is_touched_under_the_lock() {
    let flights: Arc<Flights<Outside, Outside>> = Arc::default();
    let mut waiting = Vec::new();
    for newest in [0, 7] {
        let boarding = flights.join(1, &Outside(1), Some(0), || newest);
        let Joined::Lead(leader, waiter) = boarding else {
            unreachable!("leads")
        };
        leader.begin(newest);
        waiting.push(waiter);
        let Joined::Join(waiter) = flights.join(1, &Outside(1), Some(0), || newest) else {
            unreachable!("joins")
        };
        waiting.push(waiter);
        let stranger = flights.join(1, &Outside(2), Some(0), || newest);
        assert!(matches!(stranger, Joined::Lead(..)));
        drop(stranger);
        leader.land(Ok(Some(Outside(3))), 0, || 0);
    }
    for waiter in waiting {
        let landing = landed(waiter).await.unwrap();
        assert_eq!(landing.result.unwrap().map(|value| value.0), Some(3));
    }
}
