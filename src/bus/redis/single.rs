//! One call at a time of something that may take longer than its callers wait: a lookup, a file, a callback.

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// A resolver or a disk that hangs holds one task, however often it is asked. See the module's documentation.
#[derive(Debug)]
pub(super) struct Single<T>(Mutex<Option<JoinHandle<T>>>);

impl<T> Default for Single<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Single<T> {
    /// Waits for the call under way, or begins one; `None` if it panicked. When the future is dropped
    /// the call goes on, and the next caller waits for it.
    pub(super) async fn run(&self, begin: impl FnOnce() -> JoinHandle<T>) -> Option<T> {
        let mut running = self.0.lock().await;
        let result = running.get_or_insert_with(begin).await;
        *running = None;
        result.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_is_begun_once() {
        let (single, begun) = (Single::default(), Arc::new(AtomicU32::new(0)));
        let call = || {
            let begun = Arc::clone(&begun);
            tokio::spawn(async move {
                begun.fetch_add(1, Relaxed);
                sleep(Duration::from_secs(60)).await;
                7
            })
        };
        for _ in 0..5 {
            let waited = timeout(Duration::from_secs(1), single.run(call)).await;
            assert!(waited.is_err());
        }
        assert_eq!(single.run(call).await, Some(7));
        assert_eq!(begun.load(Relaxed), 1);
        assert_eq!(single.run(call).await, Some(7));
        assert_eq!(begun.load(Relaxed), 2);
    }
}
