//! Faults for tests: a [`LocalBus`] that cuts, loses, delays and forgets.
//!
//! A test does here on purpose, and at once, what a network and a Redis do to a fleet once in a while.
//! [`LocalBus::faults`] addresses the connection of one instance, by the order in which they were started on
//! the bus; the methods of the bus itself are what happens to the server.
//!
//! Everything is deterministic on a current-thread runtime, and delays and timeouts follow tokio's
//! clock, so that a test under `#[tokio::test(start_paused = true)]` does not wait for them.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tokio::time::sleep;
//! use unstale::{LocalBus, testing};
//!
//! # use std::sync::Arc;
//! # use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! # use unstale::{Cache, Error, Settings};
//! # type Database = Arc<AtomicU64>;
//! # /// One instance of a service, whose cache `prices` reads a database of one price.
//! # async fn start(bus: &LocalBus, database: &Database) -> Result<Cache<String, u64>, Error> {
//! #     let (instance, database) = (testing::start_on(bus, Settings::default()).await?, database.clone());
//! #     let price = move |_| {
//! #         let database = database.clone();
//! #         async move { Ok(database.load(Relaxed)) }
//! #     };
//! #     instance.cache("prices").loader(price).build()
//! # }
//! const BOUND: Duration = Duration::from_millis(2_001); // `max_staleness`, and no more than that
//!
//! let (bus, database) = (LocalBus::default(), Database::default());
//! let (here, there) = (start(&bus, &database).await?, start(&bus, &database).await?);
//! there.get("lamp").await?;
//!
//! bus.faults(1).lose_next(1); // the next invalidation never reaches the second instance
//! database.store(995, Relaxed);
//! here.invalidate("lamp").await?;
//! sleep(BOUND).await;
//! assert_eq!(there.get("lamp").await?, Some(995));
//! # Ok(())
//! # }
//! ```
//!
//! The methods of [`LocalBus`] itself are faults of the server:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tokio::time::sleep;
//! use unstale::{LocalBus, testing};
//!
//! # use std::sync::Arc;
//! # use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! # use unstale::{Cache, Error, Settings};
//! # type Database = Arc<AtomicU64>;
//! # /// One instance of a service, whose cache `prices` reads a database of one price.
//! # async fn start(bus: &LocalBus, database: &Database) -> Result<Cache<String, u64>, Error> {
//! #     let (instance, database) = (testing::start_on(bus, Settings::default()).await?, database.clone());
//! #     let price = move |_| {
//! #         let database = database.clone();
//! #         async move { Ok(database.load(Relaxed)) }
//! #     };
//! #     instance.cache("prices").loader(price).build()
//! # }
//! # const BOUND: Duration = Duration::from_millis(2_001);
//! # let (bus, database) = (LocalBus::default(), Database::default());
//! # let (here, there) = (start(&bus, &database).await?, start(&bus, &database).await?);
//! let faults: [fn(&LocalBus); 18] = [
//!     |bus| bus.restart(),
//!     |bus| bus.restart_losing(2),
//!     |bus| bus.restart_empty(),
//!     |bus| bus.fail_over_losing(2),
//!     |bus| bus.flush(),
//!     |bus| bus.drop_journal(),
//!     |bus| bus.drop_counter(),
//!     |bus| bus.set_back(2),
//!     |bus| bus.restore(&bus.snapshot()),
//!     |bus| bus.step_server_clock(-500),
//!     |bus| bus.drop_members(),
//!     |bus| bus.drop_intents(),
//!     |bus| bus.drop_tier(),
//!     |bus| bus.drop_tier_history(),
//!     |bus| bus.drop_tier_values(),
//!     |bus| bus.publish_unreadable(0),
//!     |bus| bus.publish_raw(0, vec![0; 24]),
//!     |bus| bus.split(1, &[1]), // the second instance stays with the old server
//! ];
//! for (price, fault) in (1..).zip(faults) {
//!     there.get("lamp").await?;
//!     database.store(price, Relaxed);
//!     here.invalidate("lamp").await?;
//!     fault(&bus);
//!     sleep(BOUND).await;
//!     assert_eq!(there.get("lamp").await?, Some(price));
//! }
//! bus.unsplit();
//!
//! bus.silence_next(); // the third instance finds a Redis that does not answer, and serves all the same
//! let third = start(&bus, &database).await?;
//! assert_eq!(third.get("lamp").await?, Some(18));
//! assert_eq!(bus.instances(), 3);
//! # Ok(())
//! # }
//! ```
//!
//! Under each of them the bound `max_staleness` holds: no fault here can make an instance serve an entry for
//! longer after its invalidation was published.
//!
//! **The bound is inclusive.** At `max_staleness` exactly a hit may still be served, one nanosecond
//! later it is not. On a paused clock a sleep of `max_staleness` ends at exactly that time, so a test
//! that expects the new value sleeps a millisecond more:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tokio::time::sleep;
//! use unstale::{LocalBus, Outcome, Settings, testing};
//!
//! let bus = LocalBus::default();
//! let instance = testing::start_on(&bus, Settings::default()).await?;
//! let lengths = instance
//!     .cache::<String, usize>("lengths")
//!     .loader(|key: String| async move { Ok(key.len()) })
//!     .build()?;
//! lengths.get("four").await?;
//! bus.faults(0).cut();
//! sleep(Duration::from_secs(2)).await; // `max_staleness`
//! assert_eq!(lengths.lookup("four").await?.outcome, Outcome::Hit);
//! sleep(Duration::from_millis(1)).await;
//! assert_eq!(lengths.lookup("four").await?.outcome, Outcome::Miss);
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::bus::local::faults::{Next, Order};
use crate::bus::local::lane::Lane;
use crate::bus::local::server::Server;
use crate::{Error, Instance, LocalBus, Settings};

#[cfg(test)]
mod tests;

/// Starts an instance as [`Instance::start_on`] does, but on tokio's clock: under `#[tokio::test(start_paused =
/// true)]` TTLs and staleness bounds pass when the test lets them (`tokio::time::advance`, or a sleep, which
/// takes no time).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use unstale::{LocalBus, Outcome, Settings, testing};
///
/// let instance = testing::start_on(&LocalBus::default(), Settings::default()).await?;
/// let sessions = instance
///     .cache::<String, u64>("sessions")
///     .loader(|id: String| async move { Ok(id.len() as u64) })
///     .build()?;
/// sessions.get("s-1").await?;
/// tokio::time::sleep(Duration::from_secs(60)).await; // the TTL, and no time at all
/// assert_eq!(sessions.lookup("s-1").await?.outcome, Outcome::Miss);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`Instance::start_on`].
///
/// # Cancel safety
///
/// As [`Instance::start_on`].
pub async fn start_on(bus: &LocalBus, settings: Settings) -> Result<Instance, Error> {
    Instance::start_on_tokio_clock(bus, settings).await
}

/// The connection of one instance to a [`LocalBus`], and the faults that it has.
///
/// Faults may be combined. Those of a connection that is closed do nothing.
///
/// # Examples
///
/// Under each of them the second instance keeps the bound:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tokio::time::sleep;
/// use unstale::testing::Faults;
/// use unstale::{LocalBus, testing};
///
/// # use std::sync::Arc;
/// # use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// # use unstale::{Cache, Error, Settings};
/// # type Database = Arc<AtomicU64>;
/// # /// One instance of a service, whose cache `prices` reads a database of one price.
/// # async fn start(bus: &LocalBus, database: &Database) -> Result<Cache<String, u64>, Error> {
/// #     let (instance, database) = (testing::start_on(bus, Settings::default()).await?, database.clone());
/// #     let price = move |_| {
/// #         let database = database.clone();
/// #         async move { Ok(database.load(Relaxed)) }
/// #     };
/// #     instance.cache("prices").loader(price).build()
/// # }
/// # const BOUND: Duration = Duration::from_millis(2_001);
/// # let (bus, database) = (LocalBus::default(), Database::default());
/// # let (here, there) = (start(&bus, &database).await?, start(&bus, &database).await?);
/// const PART: Duration = Duration::from_millis(300);
///
/// let faults: [fn(&Faults); 18] = [
///     |second| second.cut(),
///     |second| second.silence(),
///     |second| second.deafen(),
///     |second| second.mute(),
///     |second| second.lose_replies(),
///     |second| second.refuse(),
///     |second| second.slow(PART, PART),
///     |second| second.slow_lane(0, PART),
///     |second| second.stall(),
///     |second| second.unsubscribe(),
///     |second| second.lose_next(1),
///     |second| second.duplicate_next(1),
///     |second| second.garble_next(),
///     |second| second.hold(),
///     |second| second.delay(PART),
///     |second| second.fail_next_publish(1),
///     |second| second.lose_next_ack(1),
///     |second| second.pause_publish(),
/// ];
/// for (price, fault) in (1..).zip(faults) {
///     there.get("lamp").await?;
///     fault(&bus.faults(1));
///     database.store(price, Relaxed);
///     here.invalidate("lamp").await?;
///     sleep(BOUND).await;
///     assert_eq!(there.get("lamp").await?, Some(price));
///     bus.faults(1).end_all();
/// }
/// # Ok(())
/// # }
/// ```
///
/// A fault that goes on is ended by its counterpart, or by [`end_all`](Self::end_all):
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use unstale::{LocalBus, testing};
///
/// # use std::sync::Arc;
/// # use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// # use unstale::{Cache, Error, Settings};
/// # type Database = Arc<AtomicU64>;
/// # /// One instance of a service, whose cache `prices` reads a database of one price.
/// # async fn start(bus: &LocalBus, database: &Database) -> Result<Cache<String, u64>, Error> {
/// #     let (instance, database) = (testing::start_on(bus, Settings::default()).await?, database.clone());
/// #     let price = move |_| {
/// #         let database = database.clone();
/// #         async move { Ok(database.load(Relaxed)) }
/// #     };
/// #     instance.cache("prices").loader(price).build()
/// # }
/// # let (bus, database) = (LocalBus::default(), Database::default());
/// # let (here, there) = (start(&bus, &database).await?, start(&bus, &database).await?);
/// let second = bus.faults(1);
/// second.hold();
/// let (one, other) = (here.invalidate("lamp").await?, here.invalidate("desk").await?);
/// second.release_reordered(); // `desk` comes before `lamp`
/// second.release(); // nothing is held any longer
/// second.cut();
/// second.heal();
/// there.get_after("lamp", &one.and(&other)).await?;
///
/// second.pause_publish();
/// let publishing = there.invalidate("lamp");
/// second.resume_publish();
/// publishing.await?;
///
/// second.crash(); // a peer finishes its open writes
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    bus: LocalBus,
    number: usize,
}

/// What the server of a [`LocalBus`] held at a moment.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use unstale::{Instance, LocalBus, Settings};
///
/// let bus = LocalBus::default();
/// let instance = Instance::start_on(&bus, Settings::default()).await?;
/// let prices = instance.cache::<String, u64>("prices").build()?;
/// let backup = bus.snapshot();
/// prices.invalidate("lamp").await?;
/// bus.restore(&backup); // the server has never heard of that
/// prices.invalidate("lamp").await?; // the next event begins another epoch
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot(BTreeMap<String, Server>);

impl LocalBus {
    /// Returns the connection of one instance, counted from 0 in the order in which they were started.
    ///
    /// An instance that shut down keeps its number.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use unstale::{Instance, LocalBus, Settings};
    ///
    /// let bus = LocalBus::default();
    /// let instance = Instance::start_on(&bus, Settings::default()).await?;
    /// bus.faults(0).cut();
    /// assert!(!instance.health().connected);
    /// bus.faults(0).heal();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If fewer instances were started on this bus.
    #[must_use]
    pub fn faults(&self, number: usize) -> Faults {
        let attached = self.attached();
        assert!(
            number < attached,
            "instance {number} of {attached} that were started"
        );
        Faults {
            bus: self.clone(),
            number,
        }
    }

    /// Makes the bus silent for the next instance that is started, as by [`Faults::silence`]: it starts
    /// degraded.
    pub fn silence_next(&self) {
        self.silence_next_connection();
    }

    /// Returns how many instances were started on this bus so far.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.attached()
    }

    /// Restarts the server: it keeps its data, all connections break and come back.
    pub fn restart(&self) {
        self.restart_losing(0);
    }

    /// Restarts the server without the latest events of every lane, whose sequences it hands out again, as a
    /// Redis does that saves its data once a second.
    pub fn restart_losing(&self, events: u64) {
        self.fail_over_losing(events);
        self.reconnect_all();
    }

    /// Restarts a server that saves nothing: counters, journals, members and intents are gone.
    pub fn restart_empty(&self) {
        self.with_servers(Server::flush);
        self.restart();
    }

    /// Puts a replica in the server's place that lacks the latest events of every lane; no connection notices.
    pub fn fail_over_losing(&self, events: u64) {
        self.with_servers(|server| {
            server.restart();
            server.forget(events);
        });
    }

    /// Deletes everything in the server, as `FLUSHALL` does; connections do not notice.
    pub fn flush(&self) {
        self.with_servers(Server::flush);
    }

    /// Deletes the journals: events that were missed cannot be repaired.
    pub fn drop_journal(&self) {
        self.with_lanes(Lane::drop_journal);
    }

    /// Deletes the counters: sequences begin again in another epoch.
    pub fn drop_counter(&self) {
        self.with_lanes(Lane::drop_counter);
    }

    /// Sets the counters back by so many events, in the same epoch; the journals stay.
    pub fn set_back(&self, events: u64) {
        self.with_lanes(|lane| lane.set_back(events));
    }

    /// Copies what the server holds, for [`restore`](Self::restore).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.copy_servers())
    }

    /// Puts a copy back into the running server, which does not restart: counters, journals, members
    /// and values are as old as the copy.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.put_servers_back(&snapshot.0);
    }

    /// Sets the server's clock, forward or (below zero) back, by a day in all at most.
    pub fn step_server_clock(&self, milliseconds: i64) {
        self.step_clock(milliseconds);
    }

    /// Deletes the lists of members, but not the intents of their writes.
    pub fn drop_members(&self) {
        self.with_lanes(Lane::drop_members);
    }

    /// Deletes the intents of open writes, but not the lists of members: a replica that is promoted before they
    /// have reached it lacks them.
    pub fn drop_intents(&self) {
        self.with_lanes(Lane::drop_intents);
    }

    /// Puts a replica in the server's place that lacks the latest events of every lane, while the instances
    /// with these numbers stay with the server that was the primary, which is cut off and does not know it.
    /// Each of them finds the new one when a verification shows which server is the primary, at the latest with
    /// [`unsplit`](Self::unsplit).
    pub fn split(&self, losing: u64, isolated: &[usize]) {
        self.split_off(losing, isolated);
    }

    /// Ends a [`split`](Self::split): the old server's data and connections are gone.
    pub fn unsplit(&self) {
        self.rejoin();
    }

    /// Deletes the shared tier: values, claims and the history of invalidations.
    pub fn drop_tier(&self) {
        self.with_servers(Server::drop_tier);
    }

    /// Deletes the shared tier's history of invalidations, but not its values.
    pub fn drop_tier_history(&self) {
        self.with_servers(Server::drop_tier_history);
    }

    /// Deletes the shared tier's values and claims, but not the history of invalidations.
    pub fn drop_tier_values(&self) {
        self.with_servers(Server::drop_tier_values);
    }

    /// Publishes an event that does not decode, as an instance of a later version might.
    pub fn publish_unreadable(&self, lane: u32) {
        self.publish_garbage(lane);
    }

    /// Writes to a lane's channel past the protocol, as a foreign program would: no sequence is
    /// drawn and nothing is journaled.
    ///
    /// The bytes are those of a message on the wire: epoch and sequence as two big-endian 64-bit numbers, then
    /// a payload. 16 bytes or more forge a position; fewer are no message at all.
    pub fn publish_raw(&self, lane: u32, bytes: impl Into<Bytes>) {
        self.inject(lane, &bytes.into());
    }
}

impl Faults {
    /// Breaks the connection, which the instance notices: every command fails at once.
    /// Deliveries that were under way are lost.
    pub fn cut(&self) {
        self.bus.cut(self.number);
    }

    /// Ends [`cut`](Self::cut) and [`silence`](Self::silence).
    ///
    /// After a cut the instance is subscribed again. After a silence it is not notified, and what it missed
    /// stays missed, unless it asked for a new connection meanwhile.
    pub fn heal(&self) {
        self.bus.heal(self.number);
    }

    /// Makes the connection half-open, without a sign to the instance: nothing is delivered, not even what was
    /// under way, and commands time out after a second.
    pub fn silence(&self) {
        self.bus.silence(self.number);
    }

    /// Ends the process without leaving the fleet: nothing that it still does reaches another instance. Drop
    /// its handles too.
    pub fn crash(&self) {
        self.bus.crash(self.number);
    }

    /// Loses deliveries while commands work, and goes on doing so if the instance repairs its subscription.
    pub fn deafen(&self) {
        self.bus.deafen(self.number);
    }

    /// Loses commands, which time out after a second, while deliveries arrive.
    pub fn mute(&self) {
        self.bus.mute(self.number);
    }

    /// Loses the replies of all commands: they have their effect and time out after a second.
    pub fn lose_replies(&self) {
        self.bus.lose_replies(self.number);
    }

    /// Lets the server answer every command with an error at once, as Redis does without memory or
    /// without replicas; deliveries arrive. [`end_all`](Self::end_all) ends it.
    pub fn refuse(&self) {
        self.bus.refuse(self.number, true);
    }

    /// Delays commands from now on, and their replies. If the two take more than a second together, commands
    /// time out.
    pub fn slow(&self, request: Duration, reply: Duration) {
        self.bus.slow(self.number, request, reply);
    }

    /// Delays the verifications of one lane from now on, as if one of several servers were slow or gone. If
    /// they take a second or more, they time out.
    pub fn slow_lane(&self, lane: u32, by: Duration) {
        self.bus.slow_lane(self.number, lane, by);
    }

    /// Stops the instance as far as others can see: deliveries and commands wait until
    /// [`release`](Self::release) or [`end_all`](Self::end_all). Its clock goes on.
    pub fn stall(&self) {
        self.bus.stall(self.number);
    }

    /// Ends every fault of this connection but a crash.
    pub fn end_all(&self) {
        self.bus.end_all(self.number);
    }

    /// Loses the subscription behind a healthy connection, until the instance repairs it.
    pub fn unsubscribe(&self) {
        self.bus.unsubscribe(self.number);
    }

    /// Loses the next deliveries.
    pub fn lose_next(&self, deliveries: u32) {
        self.bus.next(self.number, Next::Lose, deliveries);
    }

    /// Delivers each of the next messages twice.
    pub fn duplicate_next(&self, deliveries: u32) {
        self.bus.next(self.number, Next::Duplicate, deliveries);
    }

    /// Replaces the payload of the next delivery by bytes that mean nothing; its position stays.
    pub fn garble_next(&self) {
        self.bus.next(self.number, Next::Garble, 1);
    }

    /// Holds messages back until they are released.
    pub fn hold(&self) {
        self.bus.hold(self.number);
    }

    /// Delivers what was held, in order, and holds no longer.
    pub fn release(&self) {
        self.bus.release(self.number, Order::Kept);
    }

    /// Delivers what was held, the latest first, and holds no longer.
    pub fn release_reordered(&self) {
        self.bus.release(self.number, Order::Reversed);
    }

    /// Delivers everything from now on this much later, in order; zero ends it.
    ///
    /// Commands stay as fast as they are: a subscriber that lags behind does not notice.
    pub fn delay(&self, delay: Duration) {
        self.bus.delay(self.number, delay);
    }

    /// Refuses the next publishes at once: they have no effect.
    pub fn fail_next_publish(&self, publishes: u32) {
        self.bus.next(self.number, Next::FailPublish, publishes);
    }

    /// Loses the acknowledgements of the next publishes: they have their effect, but the
    /// publisher waits a second and then gets an error.
    pub fn lose_next_ack(&self, publishes: u32) {
        self.bus.next(self.number, Next::LoseAck, publishes);
    }

    /// Lets publishes wait until [`resume_publish`](Self::resume_publish); those that wait for a
    /// second fail without effect.
    pub fn pause_publish(&self) {
        self.bus.pause_publish(self.number, true);
    }

    /// Ends [`pause_publish`](Self::pause_publish).
    pub fn resume_publish(&self) {
        self.bus.pause_publish(self.number, false);
    }
}
