//! The relay: invalidations from the log of a source of truth, whichever program wrote there.
//!
//! ```text
//! log (rows, in the order of their commits) -> rules (names of cache entries) -> publisher -> bus
//! rounds: numbers of the lanes -> the log's end -> everything up to there published -> marks
//! ```
//!
//! - [`log`]: what a source gives, for any kind of database
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

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use self::log::Open;
use self::rounds::Rounds;
use self::stopped::Stopped;
use crate::bus::Mark;
use crate::coherence::member::Member;
use crate::event::Op;
use crate::metrics::{RelayMetrics, RelayState};
use crate::{Error, ErrorKind, backoff, identity};

/// The pauses before the log is opened again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// How long it may take to give up the lease.
const FAREWELL: Duration = Duration::from_secs(2);

/// What one relay is there for.
#[derive(Clone, Debug)]
pub(crate) struct Duty {
    /// The name by which caches name the source.
    pub(crate) source: String,
    /// Drops every cache of the rules.
    pub(crate) all: Vec<Op>,
}

/// Relays until the end, or until an operator must act, which is the error; begins again after everything else.
/// Waits while another relay has the lease.
pub(crate) async fn run(
    member: &Arc<Member>,
    duty: &Duty,
    mut source: impl Open,
    mut note: impl FnMut(&Note) + Send,
    end: impl Future<Output = ()>,
) -> Option<Error> {
    let relay = match identity::instance(member.clock) {
        Ok(relay) => relay,
        Err(error) => return Some(error),
    };
    let metrics = member.metrics.relay(&duty.source);
    metrics.waits();
    let mut end = pin!(end);
    let mut failures = 0;
    let why = loop {
        let began = Instant::now();
        let once = once(
            member,
            (duty, relay),
            &metrics,
            &mut source,
            &mut note,
            end.as_mut(),
        );
        match once.await {
            None => break None,
            Some(Stopped::Bus(error)) => break Some(error),
            Some(Stopped::Other) => {
                metrics.waits();
                note(&Note::Waits);
            }
            Some(Stopped::Log(error)) if error.kind() == ErrorKind::Settings => break Some(error),
            Some(Stopped::Log(error)) => {
                metrics.restarts.inc();
                metrics.state.set(RelayState::Opening);
                note(&Note::Lost(error));
                failures = if began.elapsed() > AGAIN.1 {
                    1
                } else {
                    failures + 1
                };
                tokio::select! {
                    () = &mut end => break None,
                    () = sleep(backoff::jittered(AGAIN.0, AGAIN.1, failures)) => {}
                }
            }
        }
    };
    // After the log is closed: the next relay may want its slot.
    let _ = timeout(FAREWELL, release(member, duty, relay)).await;
    why
}

/// Waits for the lease, opens the log and relays it. None where the end has come.
async fn once(
    member: &Arc<Member>,
    (duty, relay): (&Duty, u64),
    metrics: &RelayMetrics,
    source: &mut impl Open,
    note: &mut (impl FnMut(&Note) + Send),
    mut end: Pin<&mut impl Future<Output = ()>>,
) -> Option<Stopped> {
    let opening = async {
        lead(member, duty, relay, note)
            .await
            .map_err(Stopped::Bus)?;
        metrics.opens(member.clock.now());
        source.open().await.map_err(Stopped::Log)
    };
    let log = tokio::select! {
        biased;
        () = &mut end => return None,
        opened = opening => match opened {
            Ok(log) => log,
            Err(stopped) => return Some(stopped),
        },
    };
    if let Some(what) = source.given_up() {
        note(&Note::GivenUp(what));
    }
    let (source, all) = (duty.source.clone(), duty.all.clone());
    let mut rounds = Rounds::new(member.clone(), source, relay, all, log);
    let stopped = tokio::select! {
        biased;
        () = end => None,
        stopped = rounds.run(|| note(&Note::Began)) => Some(stopped),
    };
    // A log that was lost needs no confirmation.
    if !matches!(stopped, Some(Stopped::Log(_))) {
        rounds.close().await;
    }
    stopped
}

/// Gives up the lease, if this relay has it: another one need not wait until it expires.
async fn release(member: &Member, duty: &Duty, relay: u64) {
    let mark = Mark {
        source: duty.source.clone(),
        at: None,
        lease: Some((relay, Duration::ZERO)),
    };
    // Where Redis does not answer, the lease expires by itself.
    let _ = member.bus.mark(0, mark).await;
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
    /// A part of the log was given up before it was read.
    #[cfg_attr(
        not(feature = "relay"),
        allow(dead_code, reason = "the program says it")
    )]
    GivenUp(String),
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
