//! Events of caches that are not built here, logged once each: a name that is misspelt looks like this, and
//! so does another service in the same namespace.

use crate::coherence::member::Member;
use crate::lock::Lock;
use crate::log::LogLimit;
use crate::time::Nanos;

/// Most caches that are remembered as logged. A service that shares its namespace with more has been warned.
const MOST: usize = 64;

/// How long after its start an instance may not have built its caches yet, in nanoseconds: 5 s.
const BUILD_TIME: Nanos = 5_000_000_000;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct UnknownCaches {
    said: Lock<Vec<u32>>,
    log: LogLimit,
}

impl UnknownCaches {
    /// An event named this cache. At most one line in ten seconds, and one for each cache.
    pub(super) fn note(&self, member: &Member, cache: u32) {
        let now = member.clock.now();
        if now < member.started_at.saturating_add(BUILD_TIME) {
            return;
        }
        let said = {
            let said = self.said.lock();
            said.len() >= MOST || said.contains(&cache)
        };
        if said {
            return;
        }
        if let Some(suppressed) = self.log.allow(now) {
            self.said.lock().push(cache);
            tracing::warn!(
                instance = %member.name(), cache = format_args!("{cache:08x}"), suppressed,
                "an event names a cache that is not built here: is its name misspelt, or does another \
                 service share the namespace? `unstale tail` shows such events. This is said once"
            );
        }
    }
}
