//! The one wait for a verification. No clock, no bus: `tests/shuttle` runs it under every order of its
//! threads.

use std::pin::pin;

use crate::mutants::{Mechanism, without};
use crate::store::stamps::Freshness;

/// Waits until `test` returns something, and asks it again after every verification of the lane. Before
/// each wait `ask` requests a verification; it returns false where none is to be waited for, and the
/// wait ends with `None`.
///
/// The wait begins before the test, which closes this race:
/// 1: the test finds the lane's last verification too old; 2: a verification succeeds, and wakes all
/// that wait; 3: the read begins to wait, for the next one, which may be 500 ms away.
///
/// And the request comes after the test: one that was answered before the wait began woke nothing.
pub(crate) async fn until_verified<T>(
    lane: &Freshness,
    mut ask: impl FnMut() -> bool,
    mut test: impl FnMut() -> Option<T>,
) -> Option<T> {
    loop {
        let mut verified = pin!(lane.verified.notified());
        verified.as_mut().enable();
        if let Some(found) = test() {
            return Some(found);
        }
        if !ask() {
            return None;
        }
        if without(Mechanism::WaitBeforeTest) {
            lane.verified.notified().await;
        } else {
            verified.await;
        }
    }
}
