//! Keeps Redis' record of the open writes right: announces them again where Redis has forgotten this
//! instance, and clears what is announced although its write has ended.
//!
//! One task a lane, which there is only while something is to be done.

use std::sync::{Arc, Weak};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::Error;
use crate::coherence::member::{Member, Phase};
use crate::coherence::upkeep::{Attempt, Upkeep};

/// Redis had taken this instance for dead, or lost its members: the open writes are recorded again.
pub(crate) fn reregister(member: &Arc<Member>, lane: u32) {
    if member.writes.len() == 0 {
        return;
    }
    ask(member, lane, |upkeep| {
        upkeep.register = true;
        // 1: the list of open writes is made; 2: one of them is published and cleared; 3: the list is
        // recorded, and with it the one of 2, which nothing clears.
        upkeep.doubts += 1;
    });
}

/// Redis may hold an intent in this lane whose write is not open: recording it failed, or its caller
/// stopped waiting, and the server still executes the command, perhaps later.
pub(crate) fn doubt(member: &Arc<Member>, lane: u32) {
    ask(member, lane, |upkeep| upkeep.doubts += 1);
}

fn ask(member: &Arc<Member>, lane: u32, change: impl FnOnce(&mut Upkeep)) {
    let start = member.writes.with(lane, |upkeep| {
        change(upkeep);
        upkeep.work.notify_one();
        let start = !std::mem::replace(&mut upkeep.running, true);
        start.then(|| Arc::clone(&upkeep.work))
    });
    if let Some(work) = start {
        let (weak, phase) = (Arc::downgrade(member), member.phase.subscribe());
        let upkeep = run(weak, lane, work, phase);
        drop(member.tasks.spawn_alone(&member.runtime, "upkeep", upkeep));
    }
}

/// Ends when nothing is left to do, or when the instance shuts down: leaving the fleet then does
/// what is left. It keeps no instance alive while it waits.
async fn run(
    member: Weak<Member>,
    lane: u32,
    work: Arc<Notify>,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        let Some(member) = member
            .upgrade()
            .filter(|member| member.phase() == Phase::Running)
        else {
            return;
        };
        let Some(due) = member.writes.due(lane) else {
            return;
        };
        if due <= Instant::now() {
            attend(&member, lane).await;
            continue;
        }
        drop(member);
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return,
            () = work.notified() => {}
            () = sleep_until(due) => {}
        }
    }
}

/// One attempt. Both commands end within a bounded time by themselves.
async fn attend(member: &Member, lane: u32) {
    let attempt = member
        .writes
        .with(lane, |upkeep| upkeep.begin(Instant::now()));
    let done = bring_up_to_date(member, lane, attempt).await;
    let later = Instant::now() + member.settings.member_timeout;
    member.writes.with(lane, |upkeep| match done {
        Ok(()) => upkeep.succeeded(attempt, later),
        Err(_) => upkeep.failed(attempt),
    });
}

async fn bring_up_to_date(member: &Member, lane: u32, attempt: Attempt) -> Result<(), Error> {
    if attempt.register {
        let intents = member.writes.intents(lane, member.clock.now());
        if !intents.is_empty() {
            member.bus.announce(lane, intents).await?;
        }
    }
    // Listed after the record, which may have brought back what has ended meanwhile.
    member
        .bus
        .reconcile(lane, member.writes.still_open(lane))
        .await
}
