//! What this repository's own tests, simulator and fuzzer see of the inside.
//!
//! Not part of the API: it may change in any version. Faults for tests of programs are in
//! [`testing`](crate::testing).

mod payload;
mod relay;

use std::collections::BTreeMap;

pub use self::payload::{check_payload, reads_payload};
pub use self::relay::{SourceLog, relay};
pub use crate::bus::local::timeline::{Entry, Happened, Sequenced, Timeline};
pub use crate::mutants::{Mechanism, Without};
use crate::{Cache, Error, Instance, LocalBus, Settings};

/// Stripes of an instance that lives for a few simulated seconds: allocating the usual ones would
/// be most of its cost. Stripes that are shared invalidate more, never less.
const STRIPES: usize = 1_024;

/// As [`testing::start_on`](crate::testing::start_on), in a fraction of the memory.
///
/// # Errors
///
/// As [`Instance::start_on`].
pub async fn start_small(bus: &LocalBus, settings: Settings) -> Result<Instance, Error> {
    Instance::start_small(bus, settings, STRIPES).await
}

/// As [`start_small`], with an id that another instance may have: what a process is that was cloned
/// while it ran.
///
/// # Errors
///
/// As [`Instance::start_on`].
pub async fn start_with_id(bus: &LocalBus, settings: Settings, id: u64) -> Result<Instance, Error> {
    Instance::start_copy(bus, settings, (id, STRIPES)).await
}

/// As [`start_with_id`], on the Redis at `url`.
///
/// # Errors
///
/// As [`Instance::start`].
#[cfg(feature = "redis")]
pub async fn start_on_redis_with_id(
    settings: Settings,
    url: String,
    id: u64,
) -> Result<Instance, Error> {
    Instance::start_copy_on_redis(settings, url, id).await
}

/// Returns the id of this instance, which no other one has.
#[must_use]
pub fn id(instance: &Instance) -> u64 {
    instance.member().id
}

/// What happens when a load of a key with this hash lands.
pub type AtLanding = Box<dyn FnOnce(u64)>;

/// Lets something happen once, just before the next load of this thread leaves the table of flights,
/// as if another thread ran then. No lock is held.
pub fn before_next_landing(act: Option<AtLanding>) {
    crate::window::before_next_landing(act);
}

/// Makes everything random that follows on this thread a function of `seed`, the ids of instances on a
/// [`LocalBus`] and tokio's clock included.
pub fn seed(seed: u64) {
    fastrand::seed(seed);
    crate::identity::seeded::begin();
}

/// Returns up to which epoch and sequence this instance has applied the events of each lane.
#[must_use]
pub fn applied(instance: &Instance) -> BTreeMap<u32, (u64, u64)> {
    let applied = instance.member().applied.lock();
    let place = |(lane, position): (&u32, &crate::bus::Position)| {
        (*lane, (position.epoch, position.sequence))
    };
    applied.iter().map(place).collect()
}

/// Begins to note what happens on a bus.
pub fn keep_timeline(bus: &LocalBus) {
    bus.keep_timeline();
}

/// Each message of the bus is followed by such a pause, in which events wait to be delivered together.
pub fn pause_deliveries(bus: &LocalBus, pause: std::time::Duration) {
    bus.pause_deliveries(pause);
}

/// Returns how much has happened on a bus so far: a moment between what came before and what comes after.
#[must_use]
pub fn moment(bus: &LocalBus) -> usize {
    bus.moment()
}

/// Returns what has happened on a bus since [`keep_timeline`], or since this was last called.
#[must_use]
pub fn take_timeline(bus: &LocalBus) -> Timeline {
    bus.take_timeline()
}

/// Returns how often this instance's mechanisms have done what they are there for.
#[must_use]
pub fn counters(instance: &Instance) -> [(&'static str, u64); 8] {
    let metrics = &instance.member().metrics;
    [
        ("gaps", metrics.gaps.total()),
        ("repairs", metrics.repairs.total()),
        ("fences", metrics.fences.total()),
        ("renewals", metrics.subscription_repairs.total()),
        ("collapses", metrics.collapses.total()),
        ("republished", metrics.republished.get()),
        ("recovered", metrics.recovered_writes.get()),
        ("lane_waits", metrics.lane_waits.total()),
    ]
}

/// Lets the kernel's clock miss so much time, as if the machine had stood still for as long and the
/// watchdog had seen it.
pub fn miss_time(time: std::time::Duration) {
    crate::time::miss(time);
}

/// Returns the names of the tasks without which this instance is not coherent.
#[must_use]
pub fn tasks(instance: &Instance) -> Vec<&'static str> {
    instance.member().tasks.names()
}

/// Ends every task of this name, as a panic in it would.
pub fn end_task(instance: &Instance, name: &str) {
    instance.member().tasks.end(name);
}

/// Lets the moments between two steps in which another thread may run last ten milliseconds each, on
/// this thread: a simulation on one thread has no others.
pub fn widen_windows(wide: bool) {
    crate::window::widen(wide);
}

/// As [`counters`], of one cache.
#[must_use]
pub fn cache_counters<K, V>(cache: &Cache<K, V>) -> Vec<(&'static str, u64)> {
    use crate::metrics::{Audited, LoadOutcome};
    #[cfg(feature = "shared")]
    use crate::metrics::{SharedRead, SharedWait};

    let metrics = &cache.0.metrics;
    vec![
        ("refreshes", metrics.refreshes.get()),
        ("stale_fallbacks", metrics.stale_if_error.get()),
        ("limited", metrics.loads[LoadOutcome::Limited].get()),
        ("overloaded", metrics.loads[LoadOutcome::Overloaded].get()),
        ("loads_panicked", metrics.loads[LoadOutcome::Panic].get()),
        ("audited", metrics.audits[Audited::Same].get()),
        #[cfg(feature = "shared")]
        (
            "shared_found",
            metrics.shared_reads[SharedRead::Found].get(),
        ),
        #[cfg(feature = "shared")]
        (
            "shared_waits",
            metrics.shared_waits[SharedWait::Found].get(),
        ),
    ]
}
