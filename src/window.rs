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

/// What happens when a load of a key with this hash lands.
#[cfg(any(test, feature = "test-util"))]
pub(crate) type AtLanding = Box<dyn FnOnce(u64)>;

#[cfg(any(test, feature = "test-util"))]
std::thread_local! {
    static MEANWHILE: std::cell::RefCell<Option<AtLanding>> = const { std::cell::RefCell::new(None) };
}

/// Lets something happen once, just before the next load of this thread leaves the table of flights.
#[cfg(any(test, feature = "test-util"))]
pub(crate) fn before_next_landing(act: Option<AtLanding>) {
    let before = MEANWHILE.replace(act);
    drop(before);
}

/// A load of a key with this hash is about to leave the table of flights.
#[cfg(any(test, feature = "test-util"))]
pub(crate) fn lands(hash: u64) {
    let act = MEANWHILE.with(|act| act.try_borrow_mut().ok().and_then(|mut act| act.take()));
    if let Some(act) = act.filter(|_| !std::thread::panicking()) {
        act(hash);
    }
}
