//! Futures of the API under any executor: they use timers, which belong to a runtime of tokio.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// Runs a future within the instance's runtime if it is polled outside of any: by a thread that blocks, or by
/// another executor. Within a runtime nothing changes, because the future may await something that belongs to
/// that runtime.
pub(crate) fn entered<F: Future>(runtime: &Handle, future: F) -> Entered<F> {
    Entered {
        runtime: runtime.clone(),
        future: Box::pin(future),
    }
}

/// See [`entered`].
#[derive(Debug)]
pub(crate) struct Entered<F> {
    runtime: Handle,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Entered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let runtime = self.runtime.clone();
        let _inside = Handle::try_current().is_err().then(|| runtime.enter());
        self.future.as_mut().poll(cx)
    }
}
