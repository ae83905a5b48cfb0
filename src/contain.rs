//! Code of the user that runs where a panic of it must end nothing else.
//!
//! A value's `Drop`, a key's `Clone`, a weigher or a projection runs in tasks that the whole instance
//! depends on. A panic of one value there must cost that value, and neither the task nor what else
//! the task would have done.

use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use crate::log::LogLimit;
use crate::mutants::{Mechanism, without};
use crate::time::Clock;

/// Contains the panics of one cache's code, and logs them.
pub(crate) struct Contain {
    cache: String,
    clock: Clock,
    log: LogLimit,
}

impl fmt::Debug for Contain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contain")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl Contain {
    pub(crate) fn new(cache: &str, clock: Clock) -> Self {
        Self {
            cache: cache.to_owned(),
            clock,
            log: LogLimit::default(),
        }
    }

    /// Runs code of the user; `None` if it panics. `what` names the code in the log.
    pub(crate) fn run<T>(&self, what: &'static str, code: impl FnOnce() -> T) -> Option<T> {
        let done = contained(code);
        if done.is_none() {
            self.note(what);
        }
        done
    }

    /// Drops what belongs to the user.
    #[inline]
    pub(crate) fn drop<T>(&self, what: &'static str, value: T) {
        if mem::needs_drop::<T>() {
            self.run(what, || drop(value));
        }
    }

    /// Neither the value nor the panic's message, which may show it.
    #[cold]
    fn note(&self, what: &'static str) {
        if let Some(suppressed) = self.log.allow(self.clock.now()) {
            tracing::error!(
                cache = self.cache,
                what,
                suppressed,
                "code of the program panicked inside the cache: one value is lost, and the cache goes on"
            );
        }
    }
}

/// Runs code of the user; `None` if it panics.
pub(crate) fn contained<T>(code: impl FnOnce() -> T) -> Option<T> {
    if without(Mechanism::ContainedPanics) {
        return Some(code());
    }
    caught(code)
}

fn caught<T>(code: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(done) => Some(done),
        Err(payload) => {
            // What is thrown is a value of the user as well, and its drop may panic in turn.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                mem::forget(again);
            }
            None
        }
    }
}

/// Polls a future to its end, or until it panics; whether it came to its end. What the future holds
/// is dropped with it.
pub(crate) async fn guarded<F>(mut job: Pin<Box<F>>) -> bool
where
    F: Future<Output = ()> + ?Sized,
{
    poll_fn(|cx| match caught(|| job.as_mut().poll(cx)) {
        Some(Poll::Pending) => Poll::Pending,
        Some(Poll::Ready(())) => Poll::Ready(true),
        None => Poll::Ready(false),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics when it is dropped, and throws something that does so as well.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new(Fuse));
        }
    }

    struct Fuse;

    impl Drop for Fuse {
        fn drop(&mut self) {
            unreachable!("what a panic throws is dropped");
        }
    }

    #[test]
    fn a_panic_that_throws_what_panics_in_turn_is_contained() {
        let contain = Contain::new("bombs", Clock::Kernel);
        contain.drop("a value", Bomb);
        assert_eq!(contain.run("a sum", || 1 + 1), Some(2));
    }

    #[tokio::test]
    async fn a_future_that_panics_has_not_come_to_its_end() {
        assert!(guarded(Box::pin(async {})).await);
        let panics = async {
            tokio::task::yield_now().await;
            drop(Bomb);
        };
        assert!(!guarded(Box::pin(panics)).await);
    }
}
