//! Which events of the journals drop a key, and where its lane stands.

mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use self::reader::{By, Found, Reach};

use self::reader::{Asked, KEPT, Reader};
use super::access::connect;
use super::id_of_cache;
use crate::bus::redis::inspect::Server;
use crate::event::Seal;
use crate::key::encoder::KeyEncoder;
use crate::key::too_long;
use crate::store::stamps::lane_of;
use crate::{Error, Key, Settings};

/// What is asked: which events drop this key?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The cache's name.
    pub cache: String,
    /// The key's hash.
    pub key: u64,
    /// The hashes of the tags that the key's value has.
    pub tags: Vec<u64>,
    /// The format of the cache's keys; `None` for those of the members that have the cache.
    pub format: Option<u32>,
}

/// What the journals and the members say of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// How many lanes there are; `None` where the namespace has had no instance.
    pub lanes: Option<u32>,
    /// The key's lane.
    pub lane: u32,
    /// Epoch and sequence of the lane's latest event; `None` where the lane has not been used.
    pub head: Option<(u64, u64)>,
    /// How far the journal of the key's lane reaches back.
    pub reach: Reach,
    /// The latest events of the key's lane that drop the key, oldest first.
    pub found: Vec<Found>,
    /// Earlier ones, which are counted only.
    pub earlier: u64,
    /// The latest events that name the key itself, in lanes that are not its own.
    pub strays: Vec<Found>,
    /// Events of all lanes that name the cache in any way.
    pub of_cache: u64,
    /// The formats of the cache's keys, as asked or as the members have it.
    pub formats: BTreeSet<u32>,
    /// The members, by instance.
    pub members: BTreeMap<u64, Member>,
    /// Members that sign events otherwise than these settings.
    pub of_other_keys: usize,
}

/// A member of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// How long ago it was heard of.
    pub silent: Duration,
    /// Whether that is within the `member_timeout` of these settings.
    pub alive: bool,
    /// Whether it has the cache; `None` where that is not known.
    pub has_cache: Option<bool>,
}

impl Answer {
    /// Returns whether an event, or a member, knows a cache of that name; true where members are not known to
    /// lack it.
    #[must_use]
    pub fn knows_cache(&self) -> bool {
        let lacks = |member: &Member| !member.alive || member.has_cache == Some(false);
        self.of_cache > 0 || !self.members.values().all(lacks)
    }
}

/// Returns the hash of a key of these parts.
///
/// # Errors
///
/// `Key` for one that is too long.
pub fn key_of_parts(parts: &[String]) -> Result<u64, Error> {
    Parts(parts).digest().ok_or_else(too_long)
}

/// A key of several parts, each as text.
#[derive(PartialEq, Eq)]
struct Parts<'a>(&'a [String]);

impl Key for Parts<'_> {
    fn encode(&self, out: &mut KeyEncoder) {
        for part in self.0 {
            out.part(part.as_bytes());
        }
    }
}

/// Returns which events of the journals drop the key, and where its lane stands. Changes nothing.
///
/// # Errors
///
/// As [`connect`]; `Settings`, if no cache can have that name.
pub async fn why(settings: &Settings, question: &Question) -> Result<Answer, Error> {
    let cache = id_of_cache(&question.cache)?;
    let server = connect(settings).await?;
    let agreed = server.lanes().await?;
    let lanes = agreed.unwrap_or(settings.lanes);
    let mut answer = Answer {
        lanes: agreed,
        lane: lane_of(question.key, lanes),
        formats: question.format.into_iter().collect(),
        ..Answer::default()
    };
    see_members(settings, &server, cache, &mut answer).await?;
    let asked = Asked {
        cache,
        key: question.key,
        tags: question.tags.iter().copied().collect(),
        formats: answer.formats.clone(),
    };
    let seal = Seal::new(settings);
    for lane in 0..lanes {
        let mut reader = Reader::new(lane, &asked, &seal);
        let head = reader.read(&server).await?;
        answer.of_cache += reader.of_cache;
        if lane == answer.lane {
            answer.head = head;
            answer.reach = reader.reach;
            answer.earlier = reader.count - reader.found.len() as u64;
            answer.found = reader.found.into();
        } else {
            let strays = reader.found.into_iter();
            let strays = strays.filter(|found| found.by.contains(&By::Key));
            answer.strays.extend(strays);
            let over = answer.strays.len().saturating_sub(KEPT);
            answer.strays.drain(..over);
        }
    }
    Ok(answer)
}

/// Adds who is there, and which formats the cache's keys have there.
async fn see_members(
    settings: &Settings,
    server: &Server,
    cache: u32,
    answer: &mut Answer,
) -> Result<(), Error> {
    let beats = server.lane(0).await?.members;
    let now = server.time().await?;
    let alive = |beat: Duration| now.saturating_sub(beat) <= settings.member_timeout;
    let ids = beats.iter().filter(|(_, beat)| alive(**beat));
    let ids: Vec<u64> = ids.map(|(id, _)| *id).collect();
    let notes = server.notes(&ids).await?;
    let keys = Seal::new(settings).prints();
    let as_the_members_have = answer.formats.is_empty();
    for (id, beat) in beats {
        let note = notes.get(&id);
        let caches = note.map_or(&[][..], |note| &note.caches);
        let has_cache = match caches.iter().find(|known| known.id == cache) {
            Some(known) => {
                if as_the_members_have {
                    answer.formats.insert(known.format);
                }
                Some(true)
            }
            // It has reported none yet, or had more than it could report.
            None if caches.is_empty() || caches.iter().any(|known| known.id == 0) => None,
            None => Some(false),
        };
        if note.is_some_and(|note| !note.agrees(&keys)) {
            answer.of_other_keys += 1;
        }
        let member = Member {
            silent: now.saturating_sub(beat),
            alive: alive(beat),
            has_cache,
        };
        answer.members.insert(id, member);
    }
    Ok(())
}
