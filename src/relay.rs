//! The relay: invalidations from the log of a source of truth, whatever wrote there.
//!
//! ```text
//! log (rows, in the order of their commits) -> rules (names of cache entries) -> publisher -> bus
//! rounds: numbers of the lanes -> the log's end -> everything up to there published -> marks
//! ```
//!
//! - [`log`]: what a source gives, whatever database it is
//! - [`publisher`]: brings names to their lanes, and knows in which epoch each lane has all of them
//! - [`rounds`]: proves how far that is, by marks that verifications return
//!
//! Invariants: a mark is set only in an epoch in which everything was published that was committed before the
//! log's end was read, and that was read after the mark's number. What cannot be decided drops the caches of the
//! rules. `coherence/marks.rs` has the argument.

mod behind;
#[cfg(feature = "relay")]
pub(crate) mod change;
mod counts;
pub(crate) mod log;
#[cfg(feature = "relay")]
mod message;
#[cfg(feature = "relay")]
mod pgoutput;
#[cfg(feature = "relay")]
pub(crate) mod postgres;
mod publisher;
mod rounds;
#[cfg(feature = "relay")]
pub(crate) mod rules;
mod stopped;
#[cfg(feature = "relay")]
pub(crate) mod wal;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use self::log::Open;
use self::rounds::Rounds;
use self::stopped::Stopped;
use crate::bus::Mark;
use crate::coherence::member::Member;
use crate::event::Op;
use crate::metrics::RelayState;
use crate::{Error, ErrorKind, backoff, identity};

/// The pauses before the log is opened again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// What one relay is there for.
#[derive(Clone, Debug)]
pub(crate) struct Duty {
    /// The name by which caches name the source.
    pub(crate) source: String,
    /// Drops every cache of the rules.
    pub(crate) all: Vec<Op>,
}

/// Relays until an operator must act, and begins again after everything else. Waits while another relay has the
/// lease.
pub(crate) async fn run(
    member: &Arc<Member>,
    duty: &Duty,
    mut source: impl Open,
    mut note: impl FnMut(&Note) + Send,
) -> Error {
    let relay = match identity::instance(member.clock) {
        Ok(relay) => relay,
        Err(error) => return error,
    };
    let metrics = member.metrics.relay(&duty.source);
    metrics.waits();
    let mut failures = 0;
    loop {
        if let Err(error) = lead(member, duty, relay, &mut note).await {
            return error;
        }
        metrics.opens(member.clock.now());
        let stopped = match source.open().await {
            Ok(log) => {
                let began = tokio::time::Instant::now();
                let (source, all) = (duty.source.clone(), duty.all.clone());
                let mut rounds = Rounds::new(member.clone(), source, relay, all, log);
                let stopped = rounds.run(|| note(&Note::Began)).await;
                // A log that was lost has nothing to be told.
                if !matches!(stopped, Stopped::Log(_)) {
                    rounds.close().await;
                }
                if began.elapsed() > AGAIN.1 {
                    failures = 0;
                }
                stopped
            }
            Err(error) => Stopped::Log(error),
        };
        match stopped {
            Stopped::Bus(error) => return error,
            Stopped::Other => {
                metrics.waits();
                note(&Note::Waits);
            }
            Stopped::Log(error) if error.kind() == ErrorKind::Settings => return error,
            Stopped::Log(error) => {
                metrics.restarts.inc();
                metrics.state.set(RelayState::Opening);
                note(&Note::Lost(error));
                failures += 1;
                sleep(backoff::jittered(AGAIN.0, AGAIN.1, failures)).await;
            }
        }
    }
}

/// What a relay tells of itself.
#[derive(Debug)]
pub(crate) enum Note {
    /// The log is open, and the caches of the rules are dropped.
    Began,
    /// The log was lost, and is opened again.
    #[cfg_attr(
        not(feature = "relay"),
        allow(dead_code, reason = "the program says why")
    )]
    Lost(Error),
    /// Another relay has the lease.
    Waits,
}

/// Waits for the lease.
async fn lead(
    member: &Member,
    duty: &Duty,
    relay: u64,
    note: &mut impl FnMut(&Note),
) -> Result<(), Error> {
    let mut waits = false;
    loop {
        let mark = Mark {
            source: duty.source.clone(),
            at: None,
            lease: Some((relay, member.settings.member_timeout)),
        };
        match member.bus.mark(0, mark).await {
            Ok(marked) if !marked.refused => return Ok(()),
            Ok(_) if !waits => {
                waits = true;
                member.metrics.relay(&duty.source).waits();
                note(&Note::Waits);
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Bus => {}
            Err(error) => return Err(error),
        }
        sleep(member.settings.member_timeout / 5).await;
    }
}

#[cfg(all(test, feature = "prometheus"))]
mod tests;
