//! Publishing what a program invalidates, however much it is.
//!
//! The outbox is bounded, and what exceeds it becomes whole caches. A call that names more than fits must not do
//! that to a bus that works: it goes out piece by piece, each after the one before was acknowledged. Where
//! publishing makes no progress, the rest is queued at once, and the bound holds.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::Error;
use crate::coherence::member::Member;
use crate::coherence::outbox::{GROUP_KEYS, Invalidation, Waiter};
use crate::entered::entered;
use crate::token::Token;

/// Items of one piece: several messages, so that Redis is not idle while one is acknowledged.
const PIECE: usize = 8 * GROUP_KEYS;

/// Calls that go out by pieces at once; each holds what it was given, 24 bytes an item. Beyond it calls are
/// queued whole.
const CALLS: usize = 64;

/// Counts a call that has pieces left, for the shutdown that waits for them.
struct Going(Arc<Member>);

impl Going {
    /// `None` if there are too many.
    fn begin(member: &Arc<Member>) -> Option<Self> {
        let room = |calls: usize| (calls < CALLS).then_some(calls + 1);
        let begun = member.going_out.fetch_update(Relaxed, Relaxed, room);
        begun.ok().map(|_| Self(member.clone()))
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.0.going_out.fetch_sub(1, Relaxed);
    }
}

/// Queues at the call, the first piece at least; the future waits until all is acknowledged. Dropping it stops
/// nothing.
pub(crate) fn all(
    member: &Arc<Member>,
    items: Result<Vec<Invalidation>, Error>,
) -> impl Future<Output = Result<Token, Error>> + Send + 'static + use<> {
    let queued = items.and_then(|items| queue(member, items));
    let (member, runtime) = (member.clone(), member.runtime.clone());
    entered(&runtime, async move {
        match queued? {
            Queued::Whole(waiters) => member.acknowledged(waiters).await,
            Queued::Pieces(pieces) => pieces.await.unwrap_or_else(|_| Err(Error::closed())),
        }
    })
}

enum Queued {
    Whole(Vec<(u32, Waiter)>),
    Pieces(tokio::task::JoinHandle<Result<Token, Error>>),
}

fn queue(member: &Arc<Member>, items: Vec<Invalidation>) -> Result<Queued, Error> {
    let whole = items.len() <= member.settings.outbox.min(PIECE);
    let going = if whole { None } else { Going::begin(member) };
    let Some(going) = going else {
        return member.enqueue(&items, None).map(Queued::Whole);
    };
    let piece = PIECE.min(member.settings.outbox);
    let first = member.enqueue(&items[..piece], None)?;
    let rest = async move {
        let member = &going.0;
        let mut result = member.acknowledged(first).await;
        for items in items[piece..].chunks(piece) {
            let waiters = member.enqueue(items, None)?;
            if let Ok(token) = &mut result {
                match member.acknowledged(waiters).await {
                    Ok(more) => token.merge(&more),
                    Err(error) => result = Err(error),
                }
            }
        }
        result
    };
    Ok(Queued::Pieces(member.runtime.spawn(rest)))
}
