//! What the program `unstale` needs of the library's inside.
//!
//! Not part of the API: it may change in any version. Small typed functions; the words for people,
//! and what is good or bad, are the program's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::bus::redis::inspect::{Inspector, Missing};
use crate::bus::redis::{RedisBus, RedisConfig};
use crate::bus::{Bus, BusConfig, BusEvent, GapCause, Position, StillOpen};
use crate::event::{DecodeError, Event, Mac, NOBODY, Op, Seal, What};
use crate::identity;
use crate::key::{cache_id, tag_hash, too_long};
use crate::metrics::Traffic;
use crate::outbox::GROUP_KEYS;
use crate::store::stamps::lane_of;
use crate::time::Clock;
use crate::{Error, ErrorKind, Key, Settings};

/// How long one command may take. A person waits: longer than an instance's.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the bus may take to come up.
const READY: Duration = Duration::from_secs(5);

/// How long a refused publication waits before the next attempt.
const RETRY: Duration = Duration::from_millis(100);

/// The id by which a cache is known on the wire.
///
/// # Errors
///
/// `Settings`, if no cache can have that name.
pub fn id_of_cache(name: &str) -> Result<u32, Error> {
    crate::settings::check_cache_name(name)?;
    Ok(cache_id(name))
}

fn config(settings: &Settings) -> Result<RedisConfig, Error> {
    let Some(url) = settings.redis_url.clone() else {
        return Err(Error::new(
            ErrorKind::Settings,
            "UNSTALE_REDIS_URL is not set: there is no fleet to talk to",
        ));
    };
    Ok(RedisConfig {
        url,
        tls_ca: settings.tls_ca.clone(),
        tls_cert: settings.tls_cert.clone(),
        tls_key: settings.tls_key.clone(),
        command_timeout: COMMAND_TIMEOUT,
    })
}

/// A server to look at; nothing is changed and no member is added.
///
/// Under Sentinel it is the primary. In a cluster it is each lane's own for what concerns a lane, and
/// that of lane 0 for everything else.
#[derive(Debug)]
pub struct Server(Inspector);

/// A right that the user of the URL lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MissingRight {
    /// To run this command.
    Command(String),
    /// To use the namespace's keys.
    Keys,
    /// To use the namespace's channels.
    Channels,
}

/// What Redis holds for one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Epoch and sequence of the latest event; `None` where nobody has used the lane yet.
    pub head: Option<(u64, u64)>,
    /// Events in the journal; `None` where this user may not count them.
    pub journal: Option<u64>,
    /// By instance, when it was last heard of (the server's clock, since 1970).
    pub members: BTreeMap<u64, Duration>,
    /// The instances that began the writes that are open.
    pub open_writes: Vec<u64>,
}

impl Server {
    /// Connects.
    ///
    /// # Errors
    ///
    /// `Settings` for a bad URL, `Auth` for a wrong login, `Bus` for everything else.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let config = config(settings)?;
        Ok(Self(Inspector::open(&config, &settings.namespace).await?))
    }

    /// The user that the URL names.
    #[must_use]
    pub fn user(&self) -> &str {
        self.0.user()
    }

    /// Whether the URL is that of a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.0.is_cluster()
    }

    /// How long one round trip takes.
    ///
    /// # Errors
    ///
    /// As all below: `Auth` where the user may not, `Bus` where Redis does not answer.
    pub async fn ping(&self) -> Result<Duration, Error> {
        self.0.ping().await
    }

    /// The lines of `INFO`.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn info(&self) -> Result<BTreeMap<String, String>, Error> {
        self.0.info().await
    }

    /// A setting of the server; `None` where this user may not see it.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn config(&self, name: &str) -> Result<Option<String>, Error> {
        self.0.config(name).await
    }

    /// The server's clock, since 1970.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn time(&self) -> Result<Duration, Error> {
        self.0.time().await
    }

    /// The rights that an instance needs and this user lacks, in any of the lanes.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn missing_rights(&self, lanes: u32) -> Result<BTreeSet<MissingRight>, Error> {
        let mut all = BTreeSet::new();
        for lane in 0..lanes {
            all.extend(self.0.missing(lane).await?.into_iter().map(Into::into));
        }
        Ok(all)
    }

    /// How long each of some messages took from here over pub/sub to here; fewer than asked for
    /// where one did not arrive.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn echo(&self, times: usize) -> Result<Vec<Duration>, Error> {
        self.0.echo(times).await
    }

    /// How many lanes the fleet was set up with; `None` where there has been no fleet yet.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn lanes(&self) -> Result<Option<u32>, Error> {
        Ok(self.0.counter(0).await?.lanes)
    }

    /// What Redis holds for a lane.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn lane(&self, lane: u32) -> Result<Lane, Error> {
        Ok(Lane {
            head: self.head(lane).await?,
            journal: self.0.journal_length(lane).await?,
            members: self.0.members(lane).await?.into_iter().collect(),
            open_writes: self.0.open_writes(lane).await?,
        })
    }

    /// Epoch and sequence of a lane's latest event.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn head(&self, lane: u32) -> Result<Option<(u64, u64)>, Error> {
        let head = self.0.counter(lane).await?.head;
        Ok(head.map(|head| (head.epoch, head.sequence)))
    }
}

impl From<Missing> for MissingRight {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Command(name) => Self::Command(name),
            Missing::Keys => Self::Keys,
            Missing::Channels => Self::Channels,
        }
    }
}

/// The bus without an instance: publishes and listens, and is no member.
struct Access {
    bus: Arc<RedisBus>,
    events: mpsc::Receiver<BusEvent>,
    seal: Seal,
    id: u64,
    lanes: u32,
}

impl Access {
    /// With the number of lanes that the fleet has; where there is none yet, that of the settings.
    async fn open(settings: &Settings) -> Result<Self, Error> {
        let lanes = Server::open(settings).await?.lanes().await?;
        let (id, lanes) = (
            identity::instance(Clock::Kernel)?,
            lanes.unwrap_or(settings.lanes),
        );
        let config_of_bus = BusConfig {
            namespace: settings.namespace.clone(),
            instance: id,
            lanes,
            journal: settings.journal,
            member_timeout: settings.member_timeout,
            signs: Seal::new(settings).is_keyed(),
            traffic: Arc::new(Traffic::default()),
            outages: Arc::default(),
            tasks: Arc::default(),
        };
        let (bus, events) = RedisBus::start(config_of_bus, &config(settings)?)?;
        if let Err(error) = bus.ready(READY).await {
            bus.close(StillOpen::default()).await;
            return Err(error);
        }
        Ok(Self {
            bus,
            events,
            seal: Seal::new(settings),
            id,
            lanes,
        })
    }
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
    /// The hash of a key: of an integer its digits, of a string itself, of a UUID its hyphenated
    /// lower-case form.
    ///
    /// # Errors
    ///
    /// `Key` for one that is too long.
    pub fn key(text: &str) -> Result<u64, Error> {
        text.digest().ok_or_else(too_long)
    }

    /// The hash of a tag.
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

/// Publishes invalidations of one cache, one message after the other, and reports each that Redis
/// acknowledged.
///
/// # Errors
///
/// `Bus` when Redis did not acknowledge a message within `publish_timeout`; what was reported
/// before is done all the same. `Auth` and `Settings` as when an instance starts.
pub async fn invalidate(
    settings: &Settings,
    cache: &str,
    format: u32,
    scope: Scope,
    mut report: impl FnMut(Acknowledged),
) -> Result<(), Error> {
    let cache = id_of_cache(cache)?;
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
    let mut messages = Vec::new();
    for lane in 0..lanes {
        match &scope {
            Scope::Keys(all) => {
                let mine = all.iter().copied();
                let mine: Vec<u64> = mine.filter(|key| lane_of(*key, lanes) == lane).collect();
                let chunks = mine.chunks(GROUP_KEYS);
                messages.extend(chunks.map(|keys| (lane, What::Keys(keys.to_vec()))));
            }
            Scope::Tags(tags) => {
                let chunks = tags.chunks(GROUP_KEYS);
                messages.extend(chunks.map(|tags| (lane, What::Tags(tags.to_vec()))));
            }
            Scope::All => messages.push((lane, What::Cache)),
        }
    }
    messages
}

fn hashes(what: &What) -> &[u64] {
    match what {
        What::Keys(hashes) | What::Tags(hashes) => hashes,
        What::Cache | What::Lane => &[],
    }
}

/// Listens to every lane.
pub struct Tail(Access);

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("bus", &self.0.bus).finish()
    }
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// From here on every event is heard.
    Subscribed,
    /// Events may have been missed: the connection was lost, or this side was too slow.
    Gap {
        /// In a word.
        cause: &'static str,
    },
    /// An event.
    Event(Heading, Contents),
    /// Something on a lane's channel that is no message.
    Garbled {
        /// The lane.
        lane: u32,
    },
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heading {
    /// The lane.
    pub lane: u32,
    /// The life of the lane's counter.
    pub epoch: u64,
    /// The event's number in it.
    pub sequence: u64,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Invalidations.
    Drops {
        /// The instance that published; `None` for a dead one's, published by a peer.
        origin: Option<u64>,
        /// One by one.
        drops: Vec<Drops>,
    },
    /// Instances drop the whole lane, since they cannot read it.
    Unreadable {
        /// Why not.
        why: String,
    },
}

/// One invalidation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drops {
    /// The cache's id; 0 for a lane.
    pub cache: u32,
    /// The key format of the sender.
    pub format: u32,
    /// `key`, `tag`, `cache` or `lane`.
    pub kind: &'static str,
    /// The keys' or tags'; none for everything.
    pub hashes: Vec<u64>,
}

impl Tail {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// As [`Server::open`]; also `Auth` where the user lacks a right that instances need.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        Ok(Self(Access::open(settings).await?))
    }

    /// How many lanes it listens to.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        self.0.lanes
    }

    /// Waits for what comes next; lost connections are made again for ever. Cancel safe.
    pub async fn next(&mut self) -> Option<Heard> {
        let mut event = self.0.events.recv().await?;
        // In a cluster one comes for each node.
        while matches!(event, BusEvent::Subscribed) && !self.0.bus.subscribed() {
            event = self.0.events.recv().await?;
        }
        Some(match event {
            BusEvent::Subscribed => Heard::Subscribed,
            BusEvent::Gap(GapCause::Disconnected) => Heard::Gap {
                cause: "disconnected",
            },
            BusEvent::Gap(GapCause::Lagged) => Heard::Gap { cause: "lagged" },
            BusEvent::Garbled { lane } => Heard::Garbled { lane },
            BusEvent::Message {
                lane,
                position,
                payload,
            } => {
                let heading = Heading {
                    lane,
                    epoch: position.epoch,
                    sequence: position.sequence,
                };
                Heard::Event(heading, contents(self.0.seal.decode(lane, &payload)))
            }
        })
    }

    /// Stops listening.
    pub async fn close(self) {
        self.0.bus.close(StillOpen::default()).await;
    }
}

fn contents(read: Result<(Event, Mac), DecodeError>) -> Contents {
    match read {
        Ok((Event { origin, ops, .. }, _)) => Contents::Drops {
            origin: (origin != NOBODY).then_some(origin),
            drops: ops.into_iter().map(drops).collect(),
        },
        Err(why) => Contents::Unreadable {
            why: why.to_string(),
        },
    }
}

fn drops(op: Op) -> Drops {
    let kind = match op.what {
        What::Keys(_) => "key",
        What::Tags(_) => "tag",
        What::Cache => "cache",
        What::Lane => "lane",
    };
    Drops {
        cache: op.cache,
        format: op.format,
        kind,
        hashes: hashes(&op.what).to_vec(),
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

    #[test]
    fn a_dead_writers_event_has_no_origin_and_noise_is_told() {
        let seal = Seal::new(&Settings::default());
        let event = Event {
            origin: NOBODY,
            sent: 0,
            ops: vec![Op::lane()],
        };
        let payload = seal.encode(0, &event);
        let Contents::Drops { origin, drops } = contents(seal.decode(0, &payload)) else {
            unreachable!("it decodes");
        };
        assert_eq!((origin, drops[0].kind), (None, "lane"));
        assert!(matches!(
            contents(seal.decode(0, b"\xff")),
            Contents::Unreadable { .. }
        ));
    }
}
