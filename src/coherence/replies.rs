//! What the bus is asked, and what it has answered.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::task::JoinSet;
use tracing::{Instrument, Span};

use crate::bus::{Journal, Known, Verified};
use crate::coherence::follower::{Repair, Round};
use crate::coherence::marks::Sent;
use crate::coherence::member::Member;
use crate::spans;
use crate::{Error, ErrorKind};

/// An answer of the bus.
pub(crate) enum Reply {
    Verified {
        lane: u32,
        round: Round,
        sent: Sent,
        result: Result<Verified, Error>,
    },
    Journal {
        lane: u32,
        repair: Repair,
        span: Span,
        result: Result<Journal, Error>,
    },
}

/// Sends a verification of a lane.
pub(crate) fn ask_verification(
    replies: &mut JoinSet<Reply>,
    member: &Arc<Member>,
    (lane, round): (u32, Round),
    known: Known,
) {
    let member = member.clone();
    replies.spawn(async move {
        // To the nanosecond: see `Member::wait_verified`. A hit's clock may lag behind it by one
        // step, which is taken off the bound.
        let (at, token) = (member.clock.precise(), member.stamps.token());
        let result = caught(member.bus.verify_from(lane, known)).await;
        Reply::Verified {
            lane,
            round,
            sent: Sent { at, token },
            result,
        }
    });
}

/// Asks for a page of a lane's journal.
pub(crate) fn ask_journal(
    replies: &mut JoinSet<Reply>,
    member: &Arc<Member>,
    lane: u32,
    repair: Repair,
) {
    let member = member.clone();
    replies.spawn(async move {
        let span = spans::repair(lane, repair.after);
        let asked = caught(member.bus.journal(lane, repair.after));
        let result = asked.instrument(span.clone()).await;
        Reply::Journal {
            lane,
            repair,
            span,
            result,
        }
    });
}

/// A call of the bus: one that panics has failed, and is answered for like any other.
async fn caught<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut call = pin!(call);
    let polled = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| {
            let panicked = Error::new(ErrorKind::Bus, "a call of the bus has panicked");
            Poll::Ready(Err(panicked))
        })
    });
    polled.await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its round ends like any other that failed, and the next one is sent.
    #[tokio::test]
    async fn a_call_of_the_bus_that_panics_is_a_call_that_failed() {
        let panics = async {
            tokio::task::yield_now().await;
            std::panic::resume_unwind(Box::new("a bug"));
        };
        let error = caught::<()>(panics).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bus);
        assert_eq!(caught(async { Ok(7) }).await.unwrap(), 7);
    }
}
