//! Code of the user with a mind of its own: keys and values whose traits do, once, what the schedule
//! says, and so do the loader, the weigher, the projection and the comparison of the audit.
//!
//! All instances of a run share its thread, and so does what is armed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Waker};

use tokio::time::sleep;
use unstale::{Cache, Key, KeyEncoder};

use crate::fleet::ms;

/// Where the crate runs code of the user.
///
/// quick_cache runs the clone and the comparison of keys and the clone of values under the lock of a
/// shard: these three may panic, and must not call the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    KeyClone,
    KeyEq,
    KeyDrop,
    ValueClone,
    ValueDrop,
    Loader,
    BatchLoader,
    Weigher,
    ToShared,
    FromShared,
    Compare,
}

/// What it does there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Panic,
    /// Looks for all keys in the memory of its own cache.
    Peek,
    /// Reads a key of its own cache.
    Get(u64),
    /// Invalidates a key of its own cache.
    Invalidate(u64),
    /// Takes its time; loaders only.
    Wait(u64),
    /// Waits for a row of the first cache, which may be the one that it loads; loaders only.
    Nest(u64),
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    node: usize,
    spot: Spot,
    act: Act,
}

/// The two caches of an instance.
type Caches = (Cache<Id, Row>, Cache<Id, Row>);

std::thread_local! {
    static ANY: Cell<bool> = const { Cell::new(false) };
    static ARMED: RefCell<Vec<Armed>> = const { RefCell::new(Vec::new()) };
    static CACHES: RefCell<BTreeMap<usize, Caches>> = const { RefCell::new(BTreeMap::new()) };
    static DONE: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// The next time that the instance at this place runs code of the user there, it does this.
pub(crate) fn arm(node: usize, spot: Spot, act: Act) {
    ARMED.with_borrow_mut(|armed| armed.push(Armed { node, spot, act }));
    ANY.set(true);
}

/// Disarms everything.
pub(crate) fn disarm() {
    ARMED.with_borrow_mut(Vec::clear);
    ANY.set(false);
}

/// The caches that this instance's code may call.
pub(crate) fn settle_in(node: usize, caches: Caches) {
    let before = CACHES.with_borrow_mut(|all| all.insert(node, caches));
    drop(before);
}

/// The instance is gone.
pub(crate) fn move_out(node: usize) {
    let caches = CACHES.with_borrow_mut(|all| all.remove(&node));
    drop(caches);
}

/// How often each act was done on this thread.
pub(crate) fn take_done() -> BTreeMap<&'static str, u64> {
    DONE.take()
}

fn next(node: usize, spot: Spot) -> Option<Act> {
    if !ANY.try_with(Cell::get).unwrap_or(false) {
        return None;
    }
    let act = ARMED.with_borrow_mut(|armed| {
        let mine = armed
            .iter()
            .position(|armed| armed.node == node && armed.spot == spot)?;
        Some(armed.remove(mine).act)
    })?;
    let name = match act {
        Act::Panic => "user_panics",
        Act::Peek => "user_peeks",
        Act::Get(_) => "user_gets",
        Act::Invalidate(_) => "user_invalidates",
        Act::Wait(_) => "user_waits",
        Act::Nest(_) => "user_nests",
    };
    DONE.with_borrow_mut(|done| *done.entry(name).or_default() += 1);
    Some(act)
}

/// Code of the user runs now.
pub(crate) fn at(node: usize, spot: Spot) {
    let Some(act) = next(node, spot) else { return };
    if std::thread::panicking() {
        return;
    }
    if act == Act::Panic {
        resume_unwind(Box::new("code of the user"));
    }
    let caches = CACHES.with_borrow(|all| all.get(&node).cloned());
    let Some((rows, _)) = caches else { return };
    match act {
        Act::Peek => {
            for key in 0..crate::schedule::KEYS {
                rows.peek(&Id::new(key, node)).map(Row::into_facts);
            }
        }
        Act::Get(key) => begin(async move {
            let read = rows.get(&Id::new(key, node)).await;
            let _ = read.map(|row| row.map(Row::into_facts));
        }),
        Act::Invalidate(key) => drop(rows.invalidate(&Id::new(key, node))),
        Act::Panic | Act::Wait(_) | Act::Nest(_) => {}
    }
}

/// A loader begins.
pub(crate) async fn load(node: usize, spot: Spot) {
    if !ANY.get() {
        return;
    }
    let waits = ARMED.with_borrow_mut(|armed| {
        let waits = |armed: &Armed| {
            let is_wait = matches!(armed.act, Act::Wait(_) | Act::Nest(_));
            armed.node == node && armed.spot == spot && is_wait
        };
        let mine = armed.iter().position(waits)?;
        Some(armed.remove(mine).act)
    });
    let count = |name| DONE.with_borrow_mut(|done| *done.entry(name).or_default() += 1);
    match waits {
        Some(Act::Wait(time)) => {
            count("user_waits");
            sleep(ms(time)).await;
        }
        Some(Act::Nest(key)) => {
            count("user_nests");
            let caches = CACHES.with_borrow(|all| all.get(&node).cloned());
            if let Some((rows, _)) = caches {
                let read = rows.get(&Id::new(key, node)).await;
                let _ = read.map(|row| row.map(Row::into_facts));
            }
        }
        _ => {}
    }
    at(node, spot);
}

/// Runs a future up to its first wait, and the rest of it in a task.
pub(crate) fn begin(future: impl Future<Output = ()> + Send + 'static) {
    let mut future: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(future);
    let mut context = Context::from_waker(Waker::noop());
    if future.as_mut().poll(&mut context).is_pending() {
        tokio::spawn(future);
    }
}

/// A key of an instance at a place.
#[derive(Debug)]
pub(crate) struct Id {
    key: u64,
    node: usize,
}

impl Id {
    pub(crate) fn new(key: u64, node: usize) -> Self {
        Self { key, node }
    }

    /// The key; nothing happens at its end.
    pub(crate) fn into_key(self) -> u64 {
        let key = self.key;
        std::mem::forget(self);
        key
    }
}

impl Clone for Id {
    fn clone(&self) -> Self {
        at(self.node, Spot::KeyClone);
        Self { ..*self }
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        at(self.node, Spot::KeyEq);
        self.key == other.key
    }
}

impl Eq for Id {}

impl Drop for Id {
    fn drop(&mut self) {
        at(self.node, Spot::KeyDrop);
    }
}

impl Key for Id {
    fn encode(&self, out: &mut KeyEncoder) {
        self.key.encode(out);
    }
}

/// What a value says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) version: u64,
    /// When the source was asked, in microseconds since the run began.
    pub(crate) born: u64,
    /// The TTL that came with it, in milliseconds; 0 for none.
    pub(crate) life: u64,
}

/// A value in an instance at a place.
#[derive(Debug)]
pub(crate) struct Row {
    facts: Facts,
    node: usize,
}

impl Row {
    pub(crate) fn new(facts: Facts, node: usize) -> Self {
        Self { facts, node }
    }

    pub(crate) fn facts(&self) -> Facts {
        self.facts
    }

    pub(crate) fn node(&self) -> usize {
        self.node
    }

    /// What it says; nothing happens at its end.
    pub(crate) fn into_facts(self) -> Facts {
        let facts = self.facts;
        std::mem::forget(self);
        facts
    }
}

impl Clone for Row {
    fn clone(&self) -> Self {
        at(self.node, Spot::ValueClone);
        Self { ..*self }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        at(self.node, Spot::ValueDrop);
    }
}
