//! Moments between two steps in which another thread may run. A simulation on one thread has none, so
//! that tests can make them last.

#[cfg(any(test, feature = "test-util"))]
std::thread_local! {
    static WIDE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Such a moment.
#[inline]
pub(crate) async fn window() {
    #[cfg(any(test, feature = "test-util"))]
    if WIDE.get() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Makes every [`window`] on this thread last ten milliseconds, or no time.
#[cfg(any(test, feature = "test-util"))]
pub(crate) fn widen(wide: bool) {
    WIDE.set(wide);
}
