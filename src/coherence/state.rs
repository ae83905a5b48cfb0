//! What the log says of an instance's state, in the words of `health()`: coherent, degraded, closed.
//!
//! One line at the start says which instance has joined what, one at the end that it has left, and in between one
//! says that the instance is degraded and one that it is coherent again. They say it for every cause:
//! a server that was killed, one that hangs, a task that has ended. What was done about it, a connection
//! that is lost and made again, has lines of its own.

use std::sync::atomic::Ordering::Relaxed;

use crate::coherence::member::Member;
use crate::coherence::said::{CLOSED, COHERENT, DEGRADED, NOTHING};
use crate::settings::{Settings, shown};
use crate::time::Nanos;

/// Shortest time between two lines that say "degraded", in nanoseconds: 10 s. A state that changes more
/// often is shown by its first change, and by what it is once that time is over.
const INTERVAL: Nanos = 10_000_000_000;

impl Member {
    /// The start is over.
    pub(crate) fn log_start(&self) {
        if self.coherent() {
            self.log_coherent();
        } else {
            let settings = &self.settings;
            tracing::warn!(
                instance = %self.name(), namespace = settings.namespace, redis = self.redis,
                lanes = settings.lanes, policy = shown(&settings.write_policy),
                version = env!("CARGO_PKG_VERSION"),
                "degraded: started without an answer of Redis; {}", consequence(settings)
            );
            self.say_degraded();
        }
    }

    /// Logs a state that has changed since this was last called. Logs nothing before the start is over:
    /// it may be refused.
    pub(crate) fn log_state(&self) {
        let said = self.state_log.said.load(Relaxed);
        if said == NOTHING || said == CLOSED {
            return;
        }
        match self.doubt() {
            None if said == DEGRADED => self.log_coherent(),
            Some(doubt) if said == COHERENT => {
                if self.clock.now() < self.state_log.next.load(Relaxed) {
                    return;
                }
                tracing::warn!(
                    instance = %self.name(),
                    "degraded: {doubt}; {}", consequence(&self.settings)
                );
                self.say_degraded();
            }
            _ => {}
        }
    }

    /// Logs that the instance has left, and whether everything was published.
    pub(crate) fn log_end(&self, published: bool) {
        let said = self.state_log.said.swap(CLOSED, Relaxed);
        if said == NOTHING || said == CLOSED {
            return;
        }
        let (instance, namespace) = (self.name(), &self.settings.namespace);
        if published {
            tracing::info!(%instance, namespace, "closed: left the fleet");
        } else {
            tracing::warn!(
                %instance, namespace,
                "closed: left the fleet before everything was published; peers finish the writes \
                 that are open and serve the rest until its TTL"
            );
        }
    }

    fn log_coherent(&self) {
        let log = &self.state_log;
        log.said.store(COHERENT, Relaxed);
        let (instance, settings) = (self.name(), &self.settings);
        if log.joined.swap(true, Relaxed) {
            tracing::info!(%instance, "coherent: every lane is verified again");
            return;
        }
        tracing::info!(
            %instance, namespace = settings.namespace, bus = %self.bus_kind,
            redis = self.redis, others = log.others.load(Relaxed), lanes = settings.lanes,
            policy = shown(&settings.write_policy), version = env!("CARGO_PKG_VERSION"),
            "coherent: joined the fleet"
        );
    }

    fn say_degraded(&self) {
        let log = &self.state_log;
        log.next
            .store(self.clock.now().saturating_add(INTERVAL), Relaxed);
        log.said.store(DEGRADED, Relaxed);
    }
}

/// Returns what being degraded means to readers.
fn consequence(settings: &Settings) -> String {
    match &settings.max_staleness {
        Some(bound) => format!(
            "entries are served for {} after the last verification, then loaded again",
            shown(bound)
        ),
        None => "entries are served until their TTL, whatever peers replace".to_owned(),
    }
}
