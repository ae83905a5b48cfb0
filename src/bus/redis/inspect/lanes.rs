//! What Redis holds for each lane.

use std::collections::BTreeMap;
use std::time::Duration;

use fred::types::Value;

use super::Server;
use crate::bus::Position;
use crate::bus::redis::error;
use crate::foreign;
use crate::{Error, ErrorKind};

/// Members of a lane that are looked at, those that are silent longest first: ten times a large fleet.
const MOST_MEMBERS: usize = 10_000;

/// What Redis holds for one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Epoch and sequence of the latest event; `None` where the lane has not been used yet.
    pub head: Option<(u64, u64)>,
    /// Events in the journal; `None` where this user may not count them.
    pub journal: Option<u64>,
    /// By instance, when it was last heard of (the server's clock, since 1970).
    pub members: BTreeMap<u64, Duration>,
    /// The instances that began the writes that are open.
    pub open_writes: Vec<u64>,
    /// The pause after a message to many subscribers, in which events wait to be delivered together; zero
    /// where the lane has fewer than a hundred.
    pub delivery_pause: Duration,
}

/// What a lane's counter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counter {
    /// `None` where no event was ever published and no verification came.
    head: Option<Position>,
    /// How many lanes the fleet was set up with; `None` before its first verification.
    lanes: Option<u32>,
    /// As lane.lua notes it.
    pause: Duration,
}

impl Server {
    /// Returns how many lanes the fleet was set up with; `None` where there has been no fleet yet.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping); `Lanes`, if what is there is no number of lanes.
    pub async fn lanes(&self) -> Result<Option<u32>, Error> {
        Ok(self.counter(0).await?.lanes)
    }

    /// Returns what Redis holds for a lane.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn lane(&self, lane: u32) -> Result<Lane, Error> {
        let counter = self.counter(lane).await?;
        Ok(Lane {
            head: counter.head.map(|head| (head.epoch, head.sequence)),
            delivery_pause: counter.pause,
            journal: self.journal_length(lane).await?,
            members: self.members(lane).await?.into_iter().collect(),
            open_writes: self.open_writes(lane).await?,
        })
    }

    /// Returns the epoch and the sequence of a lane's latest event.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub async fn head(&self, lane: u32) -> Result<Option<(u64, u64)>, Error> {
        let head = self.counter(lane).await?.head;
        Ok(head.map(|head| (head.epoch, head.sequence)))
    }

    /// Returns a lane's sequence and epoch.
    async fn counter(&self, lane: u32) -> Result<Counter, Error> {
        let state = self.names(lane).state;
        let answer = self
            .ask(lane, "HMGET", &[&state, "q", "e", "l", "d"])
            .await?;
        let Value::Array(fields) = answer else {
            return Err(error::unexpected("HMGET"));
        };
        let number = |at: usize| fields.get(at).and_then(Value::as_u64);
        let head = number(0).zip(number(1));
        let lanes = match fields.get(2) {
            None | Some(Value::Null) => None,
            Some(found) => {
                let text = String::from_utf8_lossy(found.as_bytes().unwrap_or_default());
                Some(foreign::lanes(&text).ok_or_else(|| error::damaged_lanes(&text))?)
            }
        };
        let pace = fields.get(3).and_then(Value::as_string).unwrap_or_default();
        let pause = pace.split(':').nth(1).and_then(|pause| pause.parse().ok());
        Ok(Counter {
            head: head.map(|(sequence, epoch)| Position { epoch, sequence }),
            lanes,
            pause: Duration::from_micros(pause.unwrap_or_default()),
        })
    }

    /// Events in a lane's journal; `None` where this user may not count them.
    async fn journal_length(&self, lane: u32) -> Result<Option<u64>, Error> {
        let journal = self.names(lane).journal;
        let length = match self.ask(lane, "XLEN", &[&journal]).await {
            Ok(length) => length.as_u64().unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Auth => return Ok(None),
            Err(error) => return Err(error),
        };
        let placeholder = self.ask(lane, "XRANGE", &[&journal, "0-1", "0-1"]).await?;
        let placeholder = matches!(placeholder, Value::Array(found) if !found.is_empty());
        Ok(Some(length.saturating_sub(placeholder.into())))
    }

    /// Returns a lane's members and when each was last heard of, by the server's clock since 1970.
    async fn members(&self, lane: u32) -> Result<Vec<(u64, Duration)>, Error> {
        let members = self.names(lane).members;
        let most = MOST_MEMBERS.to_string();
        let args = [&*members, "0", "(+inf", "WITHSCORES", "LIMIT", "0", &most];
        let Value::Array(pairs) = self.ask(lane, "ZRANGEBYSCORE", &args).await? else {
            return Err(error::unexpected("ZRANGEBYSCORE"));
        };
        let member = |pair: &Value| {
            let Value::Array(pair) = pair else {
                return None;
            };
            let id = <[u8; 8]>::try_from(pair.first()?.as_bytes()?).ok()?;
            let beat = pair.get(1)?.as_f64()?;
            Some((u64::from_be_bytes(id), Duration::from_millis(beat as u64)))
        };
        Ok(pairs.iter().filter_map(member).collect())
    }

    /// Returns the members whose writes are open in a lane.
    async fn open_writes(&self, lane: u32) -> Result<Vec<u64>, Error> {
        let intents = self.names(lane).intents;
        let Value::Array(ids) = self.ask(lane, "HKEYS", &[&intents]).await? else {
            return Err(error::unexpected("HKEYS"));
        };
        let origin = |id: &Value| {
            let id = <[u8; 16]>::try_from(id.as_bytes()?).ok()?;
            Some((u128::from_be_bytes(id) >> 64) as u64)
        };
        Ok(ids.iter().filter_map(origin).collect())
    }
}
