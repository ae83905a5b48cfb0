//! Instances on a real Redis, under the real clock: what they are started with, and how a test waits.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use unstale::{Instance, Settings};

use super::nodes::{Node, Source, ms};

/// How long anything may take that is only a matter of the machine, however slow it is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(3);

pub(crate) const VERIFY_INTERVAL: Duration = ms(100);
pub(crate) const MAX_STALENESS: Duration = ms(400);
pub(crate) const MEMBER_TIMEOUT: Duration = ms(1_000);
pub(crate) const WRITE_TIMEOUT: Duration = ms(2_000);

/// Counts the open intents, which have names of 16 bytes; members' timeouts are there, too.
pub(crate) const OPEN: &str = "local n = 0; for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do \
    if #id == 16 then n = n + 1 end end return n";

/// What makes a test quick, and nothing else.
pub(crate) fn settings(url: &str) -> Settings {
    let mut settings = Settings::default();
    settings.redis_url = Some(url.to_owned());
    settings.namespace = "shop".to_owned();
    quick(settings)
}

/// These settings, with what makes a test quick.
pub(crate) fn quick(mut settings: Settings) -> Settings {
    settings.verify_interval = VERIFY_INTERVAL;
    settings.max_staleness = Some(MAX_STALENESS);
    settings.member_timeout = MEMBER_TIMEOUT;
    settings.write_timeout = WRITE_TIMEOUT;
    settings.publish_timeout = ms(300);
    settings
}

/// An instance with one cache.
pub(crate) async fn node(settings: Settings, source: &Source) -> Node {
    Node::of(Instance::start(settings).await.unwrap(), source)
}

/// Asks again until the answer is yes.
pub(crate) async fn until(what: &str, mut yes: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !yes().await {
            sleep(POLL).await;
        }
    };
    assert!(
        timeout(PATIENCE, asking).await.is_ok(),
        "never became true: {what}"
    );
}

/// Reads until the new value is there. Returns how long after `since` the last read began that got
/// the old one: what comes later is the machine's time, and says nothing of the cache.
pub(crate) async fn stale_for(since: Instant, mut is_new: impl AsyncFnMut() -> bool) -> Duration {
    let mut last = Duration::ZERO;
    until("the new value", async || {
        let began = since.elapsed();
        let new = is_new().await;
        if !new {
            last = began;
        }
        new
    })
    .await;
    last
}
