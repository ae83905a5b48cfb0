//! One cache's values in the shared tier: fetch and store. It knows the bus, names and bytes, and nothing
//! of caches, loads or freshness.

use std::sync::Arc;
use std::time::Duration;

use tracing::{Instrument, Span};

use crate::bus::Position;
use crate::bus::tier::{
    Claim, Digest, Fetch, Fetched, Found as Answered, Head, MOST_TAGS, Name, Put, Stored, Subject,
};
use crate::loader::Loaded;
use crate::metrics::{CacheMetrics, SharedRead, SharedStore};
use crate::spans;
use crate::store::stamps::lane_of;
use crate::tier::SharedTier;
use crate::tier::claim::{Held, Request};
use crate::tier::names::{Content, Secret};
use crate::tier::pool::{NoAnswer, Permit, Pool, STORE_PATIENCE, Slot};
use crate::tier::value::{Layout, Unfit};
use crate::time::{Nanos, nanos};

/// How long Redis keeps a value that has ended, at most: a load that brings the same bytes then only
/// renews it. It is kept for another life of its own if that is shorter.
const KEPT: Duration = Duration::from_secs(600);

/// How many times as long as others a fetch may wait that would load alone for the whole fleet. What is
/// loaded twice costs more there than a moment: a token that may be exchanged once, say.
const CLAIM_ANSWER: u32 = 5;

/// The same of a store, for which no caller waits.
const STORE_ANSWER: u32 = 10;

/// The shared tier of one cache.
pub(crate) struct Tier<V> {
    pub(crate) options: SharedTier<V>,
    pub(crate) cache: CacheId,
    pub(crate) ttl: Duration,
    pub(crate) negative_ttl: Duration,
    pub(crate) pool: Arc<Pool>,
    pub(crate) metrics: Arc<CacheMetrics>,
}

/// What names a cache in Redis.
pub(crate) struct CacheId {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) format: u32,
}

/// Asks for the value of a key.
pub(crate) struct Query<'a> {
    pub(crate) hash: u64,
    /// Its canonical bytes.
    pub(crate) key: &'a [u8],
    /// What was applied of the key's lane when the query was made: a server that has not seen it, or is in
    /// another life, has no value that counts.
    pub(crate) applied: Position,
    /// The part of its life, in thousandths, that a value may be past, and the milliseconds before its end
    /// in which it does not count either: 1,000 and 0 as a rule, less and more for a newer one.
    pub(crate) age: (u32, u64),
    pub(crate) claim: Option<Claim>,
}

/// The answer to a [`Query`].
pub(crate) enum Answer<V> {
    Found(Found<V>),
    /// There is no value that counts. With the ticket the value that is loaded instead can be stored.
    Missing(Option<Ticket>),
    /// Another instance loads it.
    Claimed,
    /// Nothing counts before a verification has begun the lane's record.
    NoRecord,
}

/// A value that counted when Redis answered: nothing that concerns it was published since its load began.
pub(crate) struct Found<V> {
    /// `None`: it does not exist.
    pub(crate) value: Option<V>,
    pub(crate) tags: Box<[u64]>,
    pub(crate) own_ttl: bool,
    /// Since its load began, by the server's clock.
    pub(crate) age: Nanos,
    /// What is left of its life.
    pub(crate) left: Nanos,
}

/// What a load must know to store its value.
#[derive(Debug)]
pub(crate) struct Ticket {
    name: Name,
    subject: Subject,
    /// The lane's head before the load began: it has seen everything up to here.
    position: Position,
    /// The server's milliseconds at that time.
    born: u64,
    /// Of a value that is there and does not count.
    digest: Option<Digest>,
    claim: Option<Held>,
}

impl<V: Clone + Send + Sync + 'static> Tier<V> {
    fn layout(&self) -> Layout<'_, V> {
        Layout {
            codec: &*self.options.codec,
            version: self.options.version,
            compress_above: self.options.compress_above,
            max_bytes: self.options.max_bytes,
        }
    }

    /// What a load asks for that would load alone for the fleet; `None` where every instance loads.
    pub(crate) fn request(&self) -> Option<Request> {
        let wait = self.options.single_flight?;
        Some(Request::new(&self.pool, wait))
    }

    /// Asks for a value, by the accepted secret too where there is one. Ends within half a second each.
    pub(crate) async fn fetch(&self, permit: Permit, query: &Query<'_>) -> Answer<V> {
        let span = spans::tier_fetch(
            &self.cache.name,
            query.hash,
            lane_of(query.hash, self.pool.lanes()),
        );
        self.fetch_within(permit, query, &span)
            .instrument(span.clone())
            .await
    }

    async fn fetch_within(&self, permit: Permit, query: &Query<'_>, span: &Span) -> Answer<V> {
        let secrets = self.pool.secrets();
        let answer = self.fetch_by(&secrets.first, permit, query, span).await;
        let (Answer::Missing(Some(_)), Some(accepted)) = (&answer, &secrets.accepted) else {
            return answer;
        };
        let Slot::Granted(permit) = self.pool.slot(self.pool.answer_time).await else {
            return answer;
        };
        // The claim is that of the first name.
        let query = Query {
            claim: None,
            ..*query
        };
        match self.fetch_by(accepted, permit, &query, span).await {
            found @ Answer::Found(_) => found,
            Answer::Missing(_) | Answer::Claimed | Answer::NoRecord => answer,
        }
    }

    async fn fetch_by(
        &self,
        secret: &Secret,
        permit: Permit,
        query: &Query<'_>,
        span: &Span,
    ) -> Answer<V> {
        let subject = Subject {
            cache: self.cache.id,
            format: self.cache.format,
            hash: query.hash,
        };
        let (part, margin) = query.age;
        let fetch = Fetch {
            name: secret.name(subject),
            subject,
            part,
            margin,
            claim: query.claim,
        };
        let lane = lane_of(query.hash, self.pool.lanes());
        let call = || self.pool.bus.fetch(lane, fetch);
        let patience = (lane, patience(self.pool.answer_time, query.claim));
        let fetched = self.pool.call(patience, permit, call).await;
        let (answer, outcome) = match fetched {
            Ok(fetched) => self.judge((query, secret), (lane, fetch), fetched),
            Err(NoAnswer::Skipped) => (Answer::Missing(None), Some(SharedRead::Skipped)),
            Err(NoAnswer::Failed) => (Answer::Missing(None), Some(SharedRead::Failed)),
        };
        if let Some(outcome) = outcome {
            self.metrics.shared_reads.note(outcome, span);
        }
        answer
    }

    fn judge(
        &self,
        (query, secret): (&Query<'_>, &Secret),
        (lane, fetch): (u32, Fetch),
        fetched: Fetched,
    ) -> (Answer<V>, Option<SharedRead>) {
        let mut ticket = Ticket {
            name: fetch.name,
            subject: fetch.subject,
            position: fetched.head,
            born: fetched.now,
            digest: None,
            claim: None,
        };
        match &fetched.found {
            Answered::NoHistory => (Answer::NoRecord, Some(SharedRead::Refused)),
            Answered::Claimed => (Answer::Claimed, None),
            Answered::Nothing(digest) => {
                ticket.digest = *digest;
                ticket.claim = query
                    .claim
                    .map(|claim| Held::new(self.pool.clone(), lane, fetch.name, claim.id));
                (Answer::Missing(Some(ticket)), Some(SharedRead::Missing))
            }
            Answered::Value(bytes) => {
                let known = fetched.head.epoch == query.applied.epoch
                    && fetched.head.sequence >= query.applied.sequence;
                if !known {
                    return (Answer::Missing(None), Some(SharedRead::Refused));
                }
                match self.accept((query, secret), bytes, fetched.now) {
                    Some(found) => (Answer::Found(found), Some(SharedRead::Found)),
                    None => (Answer::Missing(Some(ticket)), Some(SharedRead::Foreign)),
                }
            }
        }
    }

    /// A value that counts, if it is this key's and of this version.
    fn accept(
        &self,
        (query, secret): (&Query<'_>, &Secret),
        bytes: &[u8],
        now: u64,
    ) -> Option<Found<V>> {
        let (head, body) = Head::decode(bytes)?;
        let content = self.content(query.key, &head.tags, body);
        if !secret.is_genuine(&head, content) {
            return None;
        }
        let content = self.layout().read(body)?;
        Some(Found {
            value: content.value,
            age: millis(now.saturating_sub(head.born)),
            left: left(&head, now),
            tags: head.tags,
            own_ttl: content.own_ttl,
        })
    }

    fn content<'a>(&'a self, key: &'a [u8], tags: &'a [u64], body: &'a [u8]) -> Content<'a> {
        Content {
            cache: &self.cache.name,
            stored_type: self.options.codec.stored_type(),
            format: self.cache.format,
            key,
            tags,
            body,
        }
    }

    /// Said once: the other instances load what this one has loaded.
    fn say_unfit(&self, unfit: Unfit) {
        if self.metrics.shared_stores[SharedStore::Broken].get() > 0 {
            return;
        }
        let why = match unfit {
            Unfit::Changed => "it comes back from MessagePack as another value, or not at all",
            Unfit::Broken | Unfit::Oversized => "serde cannot write it, or its projection panics",
        };
        tracing::error!(
            cache = self.cache.name,
            stored_type = self.options.codec.stored_type(),
            why,
            "a value of this cache is not stored in the shared tier and stays in memory; further ones are counted \
             (unstale_shared_stores_total, broken). Another serde representation of its type, or a projection, \
             fixes that"
        );
    }

    /// Stores what was loaded, and gives the claim up.
    pub(crate) async fn store(&self, key: &[u8], ticket: Ticket, loaded: &Loaded<V>) {
        let hash = ticket.subject.hash;
        let span = spans::tier_store(&self.cache.name, hash, lane_of(hash, self.pool.lanes()));
        let storing = self.try_store(key, ticket, loaded).instrument(span.clone());
        let outcome = storing.await;
        self.metrics.shared_stores.note(outcome, &span);
    }

    async fn try_store(&self, key: &[u8], mut ticket: Ticket, loaded: &Loaded<V>) -> SharedStore {
        let default = match &loaded.value {
            Some(_) => self.ttl,
            None => self.negative_ttl,
        };
        let life = loaded.ttl.unwrap_or(default).as_millis();
        let life = u64::try_from(life).unwrap_or(u64::MAX / 4);
        let written = self
            .layout()
            .write(loaded.value.as_ref(), loaded.ttl.is_some());
        let body = match written {
            Ok(body) => body,
            Err(Unfit::Oversized) => return SharedStore::Oversized,
            Err(unfit @ (Unfit::Broken | Unfit::Changed)) => {
                self.say_unfit(unfit);
                return SharedStore::Broken;
            }
        };
        if life == 0 {
            return SharedStore::Refused;
        }
        let tags = loaded.tag_hashes();
        if tags.len() > MOST_TAGS {
            return SharedStore::Oversized;
        }
        let secrets = self.pool.secrets();
        // Asked for under a secret that was changed meanwhile.
        if ticket.name != secrets.first.name(ticket.subject) {
            return SharedStore::Refused;
        }
        let digest = secrets.first.digest(self.content(key, &tags, &body));
        let expires = ticket.born.saturating_add(life);
        let kept = life.min(u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX));
        let mut head = Head {
            position: ticket.position,
            born: ticket.born,
            expires,
            digest,
            mac: Digest::default(),
            tags,
        };
        head.mac = secrets.first.mac(&head);
        let put = Put {
            name: ticket.name,
            subject: ticket.subject,
            head,
            body: None,
            forget: expires.saturating_add(kept),
            claim: ticket.claim.as_ref().map(|held| held.id),
        };
        let renewable = ticket.digest == Some(digest);
        let stored = self.put(put, body, renewable).await;
        if let (Ok(_), Some(held)) = (stored, &mut ticket.claim) {
            held.released = true;
        }
        match stored {
            Ok(Stored::Written) => SharedStore::Stored,
            Ok(Stored::Renewed) => SharedStore::Unchanged,
            Ok(Stored::Refused | Stored::BodyNeeded) => SharedStore::Refused,
            Err(NoAnswer::Skipped | NoAnswer::Failed) => SharedStore::Failed,
        }
    }

    /// The same bytes are not sent again, if they are still there.
    async fn put(&self, mut put: Put, body: Vec<u8>, renewable: bool) -> Result<Stored, NoAnswer> {
        if renewable {
            let renewed = self.send(put.clone()).await;
            if renewed != Ok(Stored::BodyNeeded) {
                return renewed;
            }
        }
        put.body = Some(body.into());
        self.send(put).await
    }

    async fn send(&self, put: Put) -> Result<Stored, NoAnswer> {
        let Slot::Granted(permit) = self.pool.slot(STORE_PATIENCE).await else {
            return Err(NoAnswer::Failed);
        };
        let lane = lane_of(put.subject.hash, self.pool.lanes());
        let call = || self.pool.bus.put(lane, put);
        let wait = self.pool.answer_time * STORE_ANSWER;
        self.pool.call((lane, wait), permit, call).await
    }
}

/// How long a fetch waits for its answer: longer if it would wait so long for another instance's load.
fn patience(answer_time: Duration, claim: Option<Claim>) -> Duration {
    let longest = answer_time * CLAIM_ANSWER;
    let wait = claim.map(|claim| Duration::from_millis(claim.millis).min(longest));
    wait.unwrap_or_default().max(answer_time)
}

/// How long a value may live from now on; never longer than it might when its load began, should the
/// server's clock have been set back since.
fn left(head: &Head, now: u64) -> Nanos {
    let whole = head.expires.saturating_sub(head.born);
    millis(head.expires.saturating_sub(now).min(whole))
}

fn millis(millis: u64) -> Nanos {
    nanos(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_clock_that_is_set_back_prolongs_no_ttl_that_came_with_a_value() {
        let position = Position {
            epoch: 1,
            sequence: 1,
        };
        let head = Head {
            position,
            born: 1_000_000,
            expires: 1_120_000,
            digest: [0; 16],
            mac: [0; 16],
            tags: Box::default(),
        };
        let seconds = |now| left(&head, now) / 1_000_000_000;
        assert_eq!([1_000_000, 1_090_000, 1_200_000].map(seconds), [120, 30, 0]);
        assert_eq!(seconds(400_000), 120, "set back by ten minutes");
    }
}
