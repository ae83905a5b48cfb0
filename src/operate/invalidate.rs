//! Publishing invalidations without an instance.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::access::{Access, connect};
use super::members::of_other_keys;
use crate::bus::{Bus, Position, StillOpen};
use crate::coherence::outbox::GROUP_KEYS;
use crate::event::{Event, Op, What};
use crate::key::{cache_id, tag_hash, too_long};
use crate::store::stamps::lane_of;
use crate::time::Clock;
use crate::{Error, ErrorKind, Key, Settings};

/// How long a refused publication waits before the next attempt.
const RETRY: Duration = Duration::from_millis(100);

/// Returns the id by which a cache is known on the wire.
///
/// # Errors
///
/// `Settings`, if no cache can have that name.
pub fn id_of_cache(name: &str) -> Result<u32, Error> {
    crate::settings::check_cache_name(name)?;
    Ok(cache_id(name))
}

/// What to invalidate of one cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Keys, by the hashes of their canonical text.
    Keys(Vec<u64>),
    /// Everything with one of these tags.
    Tags(Vec<u64>),
    /// Everything.
    All,
}

impl Scope {
    /// Returns the hash of a key: of an integer its digits, of a string itself, of a UUID its hyphenated
    /// lower-case form.
    ///
    /// # Errors
    ///
    /// `Key` for one that is too long.
    pub fn key(text: &str) -> Result<u64, Error> {
        text.digest().ok_or_else(too_long)
    }

    /// Returns the hash of a tag.
    #[must_use]
    pub fn tag(text: &str) -> u64 {
        tag_hash(text)
    }
}

/// What Redis acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The lane.
    pub lane: u32,
    /// The event's number in it.
    pub sequence: u64,
    /// Keys or tags that it names; 0 for everything.
    pub names: usize,
}

/// Publishes invalidations of one cache, one message after the other, and reports each one that Redis
/// acknowledged.
///
/// # Cancel safety
///
/// Messages that were sent before the future is dropped stay published; the others are not sent.
///
/// # Errors
///
/// `Bus` when Redis did not acknowledge a message within `publish_timeout`; what was reported
/// before is done all the same. `Auth` where instances would not believe an event that these settings sign, or
/// do not sign: nothing is published. `Auth` and `Settings` as when an instance starts.
pub async fn invalidate(
    settings: &Settings,
    cache: &str,
    format: u32,
    scope: Scope,
    mut report: impl FnMut(Acknowledged),
) -> Result<(), Error> {
    let cache = id_of_cache(cache)?;
    let others = of_other_keys(settings, &connect(settings).await?).await?;
    if others > 0 {
        return Err(Error::new(ErrorKind::Auth, not_believed(settings, others)));
    }
    let access = Access::open(settings).await?;
    let result = async {
        for (lane, what) in messages(scope, access.lanes) {
            let names = hashes(&what).len();
            let op = Op {
                cache,
                format,
                what,
            };
            let at = access.publish(settings, lane, op).await?;
            report(Acknowledged {
                lane,
                sequence: at.sequence,
                names,
            });
        }
        Ok(())
    }
    .await;
    access.bus.close(StillOpen::default()).await;
    result
}

fn not_believed(settings: &Settings, others: usize) -> String {
    let what = match settings.signing_key {
        Some(_) => "sign events with another key, or do not sign: check UNSTALE_SIGNING_KEY",
        None => "sign their events: set UNSTALE_SIGNING_KEY to the fleet's",
    };
    let there = if others == 1 {
        "1 instance"
    } else {
        &format!("{others} instances")
    };
    format!(
        "nothing was published: in namespace {}, {there} {what}",
        settings.namespace
    )
}

impl Access {
    async fn publish(&self, settings: &Settings, lane: u32, op: Op) -> Result<Position, Error> {
        let mut event = Event {
            origin: self.id,
            sent: 0,
            ops: vec![op],
        };
        let deadline = Instant::now() + settings.publish_timeout;
        loop {
            // With every attempt, so that no two publications have the same bytes.
            event.sent = Clock::Kernel.precise();
            let payload = self.seal.encode(lane, &event);
            match self.bus.publish(lane, payload, Vec::new()).await {
                Err(error) if error.kind() == ErrorKind::Bus && Instant::now() < deadline => {
                    sleep(RETRY).await;
                }
                result => return result,
            }
        }
    }
}

/// A key concerns its lane; tags and everything concern every lane.
fn messages(scope: Scope, lanes: u32) -> Vec<(u32, What)> {
    match scope {
        Scope::Keys(keys) => {
            let mut by_lane = vec![Vec::new(); lanes as usize];
            for key in keys {
                by_lane[lane_of(key, lanes) as usize].push(key);
            }
            let chunks = (0..).zip(&by_lane).flat_map(|(lane, keys)| {
                let chunks = keys.chunks(GROUP_KEYS);
                chunks.map(move |keys| (lane, What::Keys(keys.to_vec())))
            });
            chunks.collect()
        }
        Scope::Tags(tags) => {
            let chunks = |lane| {
                let chunks = tags.chunks(GROUP_KEYS);
                chunks.map(move |tags| (lane, What::Tags(tags.to_vec())))
            };
            (0..lanes).flat_map(chunks).collect()
        }
        Scope::All => (0..lanes).map(|lane| (lane, What::Cache)).collect(),
    }
}

fn hashes(what: &What) -> &[u64] {
    match what {
        What::Keys(hashes) | What::Tags(hashes) => hashes,
        What::Cache | What::Lane => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_one_message_of_its_lane_and_no_message_is_too_large() {
        let keys: Vec<u64> = (0..5_000_u32).map(|n| n.digest().unwrap()).collect();
        let mut seen = Vec::new();
        for (lane, what) in messages(Scope::Keys(keys.clone()), 3) {
            assert!((1..=GROUP_KEYS).contains(&hashes(&what).len()));
            assert!(hashes(&what).iter().all(|key| lane_of(*key, 3) == lane));
            seen.extend_from_slice(hashes(&what));
        }
        seen.sort_unstable();
        let mut keys = keys;
        keys.sort_unstable();
        assert_eq!(seen, keys);
    }

    #[test]
    fn tags_and_everything_go_to_every_lane() {
        for (scope, what) in [
            (Scope::Tags(vec![7]), What::Tags(vec![7])),
            (Scope::All, What::Cache),
        ] {
            let expected: Vec<_> = (0..3).map(|lane| (lane, what.clone())).collect();
            assert_eq!(messages(scope, 3), expected);
        }
    }
}
