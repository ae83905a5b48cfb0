//! Single-flight: at most one load per key at a time in one instance.
//!
//! A flight belongs to no caller: any of them may be cancelled. A read joins only a flight whose
//! load began after every invalidation that the read must see.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::store::entry::Identity;
use crate::store::stamps::Stamp;
use crate::time::Nanos;
use crate::{Error, ErrorKind};

/// Locks the table of flights is spread over; only misses take one.
const SHARDS: usize = 16;

/// How a load ended, for everybody who waited for it.
#[derive(Clone, Debug)]
pub(crate) struct Landing<V> {
    pub(crate) result: Result<Option<V>, Error>,
    pub(crate) loaded_at: Nanos,
    /// It reflects everything published before: when its load began, or the verification that covers a
    /// value of the shared tier, or an entry that stands in.
    pub(crate) vouched_at: Nanos,
    pub(crate) from: From,
    /// What the load saw of the invalidation clock, if one of its tags was invalidated since. Whoever
    /// began to read later than this may have begun after that, and must not be answered with this
    /// value. (The tag's last stamp says nothing of those before it: a reader between two
    /// invalidations must not be answered either. Keys, caches and lanes were compared on joining.)
    outdated: Option<Stamp>,
}

/// Where a landing's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Source,
    SharedTier,
}

impl<V> Landing<V> {
    /// Whether it answers a read that began at `began`; errors answer everybody.
    pub(crate) fn answers(&self, began: Stamp) -> bool {
        self.result.is_err() || self.outdated.is_none_or(|token| began <= token)
    }
}

/// A load that is waiting for its turn or under way.
pub(crate) struct Flight<K, V> {
    key: K,
    hash: u64,
    /// What the load saw of the invalidation clock; [`NOT_BEGUN`] while it waits for its turn.
    token: AtomicU64,
    landing: watch::Sender<Option<Landing<V>>>,
}

/// Joining is always right: the load will begin after the joiner did.
const NOT_BEGUN: Stamp = Stamp::MAX;

/// The flights of one cache.
pub(crate) struct Flights<K, V>([Mutex<Table<K, V>>; SHARDS]);

type Table<K, V> = HashMap<u64, Arc<Flight<K, V>>, Identity>;

/// What a read that found nothing does next.
pub(crate) enum Boarding<K, V, T> {
    /// The second look found it.
    Found(T),
    /// Wait for a load that somebody else leads.
    Join(Passenger<V>),
    /// Nobody loads it: the caller must.
    Lead(Leader<K, V>, Passenger<V>),
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl<K, V> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

impl<K: Eq + Clone, V: Clone> Flights<K, V> {
    /// Joins a flight for `key`, or takes the lead of a new one.
    ///
    /// `newest` is the newest invalidation that concerns the key; a flight that began before it is
    /// left to its passengers and replaced. The second look closes this race:
    /// 1: this read finds nothing in the store; 2: a load stores its value and leaves the table;
    /// 3: this read finds no flight and would load what was loaded just now.
    pub(crate) fn board<T>(
        self: &Arc<Self>,
        hash: u64,
        key: &K,
        newest: impl FnOnce() -> Stamp,
        second_look: impl FnOnce() -> Option<T>,
    ) -> Boarding<K, V, T> {
        let mut table = self.table(hash);
        let newest = newest();
        if let Some(flight) = table.get(&hash)
            && flight.key == *key
            && flight.token.load(SeqCst) >= newest
        {
            return Boarding::Join(Passenger(flight.landing.subscribe()));
        }
        if let Some(found) = second_look() {
            return Boarding::Found(found);
        }
        let (landing, receiver) = watch::channel(None);
        let token = AtomicU64::new(NOT_BEGUN);
        let flight = Arc::new(Flight {
            key: key.clone(),
            hash,
            token,
            landing,
        });
        table.insert(hash, flight.clone());
        let leader = Leader {
            flights: self.clone(),
            flight,
            landed: false,
        };
        Boarding::Lead(leader, Passenger(receiver))
    }
}

impl<K, V> Flights<K, V> {
    /// Whether a load of this hash is under way.
    pub(crate) fn has(&self, hash: u64) -> bool {
        self.table(hash).contains_key(&hash)
    }

    fn table(&self, hash: u64) -> MutexGuard<'_, Table<K, V>> {
        self.0[hash as usize % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of a flight that loads.
///
/// Dropped without landing, by a panic of the loader or with its runtime, it lands with an error:
/// nobody waits for ever.
pub(crate) struct Leader<K, V> {
    flights: Arc<Flights<K, V>>,
    flight: Arc<Flight<K, V>>,
    landed: bool,
}

impl<K, V> Leader<K, V> {
    pub(crate) fn key(&self) -> &K {
        &self.flight.key
    }

    pub(crate) fn hash(&self) -> u64 {
        self.flight.hash
    }

    /// The load begins now, having seen the invalidation clock at `token`.
    pub(crate) fn begin(&self, token: Stamp) {
        self.flight.token.store(token, SeqCst);
    }

    /// Leaves the table, so that later reads look in the store or load again; then tells everybody.
    ///
    /// `newest_tag` is the newest invalidation of the tags that came with the value. It is asked
    /// under the table's lock, which closes this race:
    /// 1: the value is stored; 2: its tag is invalidated; 3: a read begins, finds the entry stale
    /// and joins this flight, whose tags it cannot know; 4: the flight lands.
    pub(crate) fn land(
        mut self,
        result: Result<Option<V>, Error>,
        loaded_at: Nanos,
        newest_tag: impl FnOnce() -> Stamp,
    ) {
        self.leave(result, (loaded_at, loaded_at), From::Source, newest_tag);
    }

    /// As [`land`](Self::land), with an entry that stands in for a load which failed.
    pub(crate) fn land_stand_in(mut self, value: V, loaded_at: Nanos, vouched_at: Nanos) {
        self.leave(Ok(Some(value)), (loaded_at, vouched_at), From::Source, || 0);
    }

    /// As [`land`](Self::land), with a value of the shared tier.
    pub(crate) fn land_shared(
        mut self,
        value: Option<V>,
        loaded_at: Nanos,
        vouched_at: Nanos,
        newest_tag: impl FnOnce() -> Stamp,
    ) {
        let at = (loaded_at, loaded_at.max(vouched_at));
        self.leave(Ok(value), at, From::SharedTier, newest_tag);
    }

    fn leave(
        &mut self,
        result: Result<Option<V>, Error>,
        (loaded_at, vouched_at): (Nanos, Nanos),
        from: From,
        newest_tag: impl FnOnce() -> Stamp,
    ) {
        self.landed = true;
        let mut table = self.flights.table(self.flight.hash);
        let newest_tag = newest_tag();
        if let Slot::Occupied(slot) = table.entry(self.flight.hash) {
            // A newer flight may have taken the place.
            if Arc::ptr_eq(slot.get(), &self.flight) {
                slot.remove();
            }
        }
        drop(table);
        let token = self.flight.token.load(SeqCst);
        self.flight.landing.send_replace(Some(Landing {
            result,
            loaded_at,
            vouched_at,
            from,
            outdated: (newest_tag > token).then_some(token),
        }));
    }
}

impl<K, V> Drop for Leader<K, V> {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        let error = if std::thread::panicking() {
            Error::new(ErrorKind::LoadPanic, "the loader panicked")
        } else {
            Error::closed()
        };
        self.leave(Err(error), (0, 0), From::Source, || 0);
    }
}

/// The side of a flight that waits. Dropping it stops nothing.
pub(crate) struct Passenger<V>(watch::Receiver<Option<Landing<V>>>);

impl<V: Clone> Passenger<V> {
    pub(crate) async fn landing(mut self) -> Landing<V> {
        match self.0.wait_for(Option::is_some).await {
            Ok(landing) => landing.clone().expect("waited for it"),
            // Cannot happen while `Leader` lands on drop; an error is still better than a panic.
            Err(_) => Landing {
                result: Err(Error::closed()),
                loaded_at: 0,
                vouched_at: 0,
                from: From::Source,
                outdated: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flights() -> Arc<Flights<u64, u64>> {
        Arc::default()
    }

    fn board(flights: &Arc<Flights<u64, u64>>, newest: Stamp) -> Boarding<u64, u64, ()> {
        flights.board(1, &1, || newest, || None)
    }

    fn lead(boarding: Boarding<u64, u64, ()>) -> (Leader<u64, u64>, Passenger<u64>) {
        match boarding {
            Boarding::Lead(leader, passenger) => (leader, passenger),
            _ => unreachable!("expected to lead"),
        }
    }

    #[tokio::test]
    async fn later_reads_join_until_an_invalidation() {
        let flights = flights();
        let (leader, first) = lead(board(&flights, 0));
        assert!(
            matches!(board(&flights, 9), Boarding::Join(_)),
            "not begun: any read may join"
        );
        leader.begin(5);
        let Boarding::Join(second) = board(&flights, 5) else {
            unreachable!("joins")
        };
        // Invalidated at 6: a new load, which later reads join.
        let (newer, third) = lead(board(&flights, 6));
        newer.begin(6);
        assert!(matches!(board(&flights, 6), Boarding::Join(_)));
        leader.land(Ok(Some(10)), 0, || 6);
        assert!(
            flights.has(1),
            "the older flight leaves the newer one alone"
        );
        newer.land(Ok(Some(20)), 0, || 6);
        assert!(!flights.has(1));
        let landing = first.landing().await;
        assert_eq!(
            (landing.answers(5), landing.answers(6), landing.answers(7)),
            (true, false, false)
        );
        assert_eq!(landing.result.unwrap(), Some(10));
        assert_eq!(second.landing().await.result.unwrap(), Some(10));
        let landing = third.landing().await;
        assert!(landing.answers(7));
        assert_eq!(landing.result.unwrap(), Some(20));
    }

    #[tokio::test]
    async fn a_leader_that_is_dropped_lands_with_an_error() {
        let flights = flights();
        let (leader, passenger) = lead(board(&flights, 0));
        drop(leader);
        assert_eq!(
            passenger.landing().await.result.unwrap_err().kind(),
            ErrorKind::Closed
        );
        let (leader, passenger) = lead(board(&flights, 0));
        let panicked = tokio::spawn(async move {
            let _leader = leader;
            std::panic::resume_unwind(Box::new("loader"));
        });
        assert!(panicked.await.unwrap_err().is_panic());
        assert_eq!(
            passenger.landing().await.result.unwrap_err().kind(),
            ErrorKind::LoadPanic
        );
        assert!(!flights.has(1));
    }

    #[test]
    fn another_key_with_the_same_hash_does_not_join() {
        let flights = flights();
        let (leader, _passenger) = lead(board(&flights, 0));
        leader.begin(0);
        let other = flights.board(1, &2, || 0, || None::<()>);
        assert!(matches!(other, Boarding::Lead(..)));
    }
}
