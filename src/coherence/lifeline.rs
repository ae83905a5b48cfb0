//! The end of an instance.

use std::sync::Arc;

use crate::Error;
use crate::coherence::member::{Member, Phase};

/// Held by the instance's handles and its caches. When the last one is gone, everything stops.
pub(crate) struct Lifeline {
    member: Arc<Member>,
}

impl Lifeline {
    pub(crate) fn new(member: Arc<Member>) -> Self {
        Self { member }
    }

    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        if self.member.phase() != Phase::Closed {
            let published = self.member.lanes.iter().all(|lane| lane.idle());
            close(&self.member);
            self.member.log_end(published);
            let member = self.member.clone();
            self.member
                .runtime
                .spawn(async move { member.bus.close(member.writes.open_anywhere()).await });
        }
    }
}

/// Fails what still waits and makes every entry a miss: from here on no event is applied.
pub(crate) fn close(member: &Member) {
    member.tasks.close();
    member.phase.send_replace(Phase::Closed);
    for (lane, out) in (0..).zip(&member.lanes) {
        let waiting = out.outbox().close();
        waiting.answer(&Err(Error::closed()));
        member.stamps.fence(lane);
    }
    member.listeners.close();
    member.metrics.close();
}
