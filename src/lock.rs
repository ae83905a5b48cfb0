//! The one lock of this crate.
//!
//! Nothing that runs under it locks again, spawns, or runs the program's own code (a key, a value, a
//! loader, a weigher, a projection, their `Clone`, `Eq`, `Hash` and `Drop`): any of these may come
//! back to the cache, and the thread would wait for itself. In debug builds a second lock on one
//! thread is a panic, which a test sees, instead of a hang.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex that a panic does not poison: what it guards is changed by code that does not panic.
#[derive(Default)]
pub(crate) struct Lock<T>(Mutex<T>);

/// The right to what a [`Lock`] guards.
pub(crate) struct Guard<'a, T> {
    // Before `held`: the lock is released first.
    guarded: MutexGuard<'a, T>,
    _held: Held,
}

impl<T> Lock<T> {
    pub(crate) const fn new(guarded: T) -> Self {
        Self(Mutex::new(guarded))
    }

    /// Waits for the lock.
    ///
    /// # Panics
    ///
    /// In debug builds, if this thread holds any lock of this crate.
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        let held = Held::new();
        Guard {
            guarded: self.0.lock().unwrap_or_else(PoisonError::into_inner),
            _held: held,
        }
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guarded
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guarded
    }
}

#[cfg(debug_assertions)]
std::thread_local! {
    static HELD: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Returns whether this thread holds a lock of this crate; always false in release builds.
#[cfg_attr(not(test), allow(dead_code, reason = "tests and debug assertions ask"))]
pub(crate) fn held() -> bool {
    #[cfg(debug_assertions)]
    return HELD.get();
    #[cfg(not(debug_assertions))]
    false
}

/// This thread holds a lock.
struct Held;

impl Held {
    fn new() -> Self {
        #[cfg(debug_assertions)]
        {
            assert!(
                !held(),
                "a thread that holds a lock of this crate takes a second one"
            );
            HELD.set(true);
        }
        Self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        #[cfg(debug_assertions)]
        HELD.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_says_that_it_is_held_until_its_guard_is_gone() {
        let lock = Lock::new(1);
        assert!(!held());
        {
            let mut guard = lock.lock();
            *guard += 1;
            assert!(held());
        }
        assert!(!held());
        assert_eq!(*lock.lock(), 2);
    }

    #[test]
    fn a_second_lock_on_one_thread_is_a_panic_and_no_hang() {
        let (one, other) = (Lock::new(1), Lock::new(2));
        let second = std::thread::scope(|scope| {
            let nested = scope.spawn(|| {
                let _first = one.lock();
                *other.lock()
            });
            nested.join()
        });
        assert!(second.is_err());
        // And the panic has poisoned nothing.
        assert_eq!(*one.lock(), 1);
    }
}
