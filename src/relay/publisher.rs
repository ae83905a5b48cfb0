//! Publishes what a log names, and knows in which epoch each lane has all of it.

mod split;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use self::split::{messages, split};
use crate::backoff;
use crate::bus::Position;
use crate::coherence::member::Member;
use crate::event::{Event, Op};
use crate::metrics::RelayMetrics;
use crate::{Error, ErrorKind};

/// The first pause after a failure; each further one doubles it.
const BACKOFF: Duration = Duration::from_millis(50);

/// The longest pause: what the caches of the rules wait for at most once Redis is back.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub(crate) struct Publisher {
    member: Arc<Member>,
    metrics: Arc<RelayMetrics>,
    /// Not the instance's own: it would take these events for its own, which it has applied.
    origin: u64,
    /// What all rules name, for a lane that may lack something.
    all: Vec<Op>,
    /// By lane: the epoch in which everything is published; none where something may be missing.
    complete: Vec<Option<u64>>,
    /// By lane: the sequence of the last event that was acknowledged in that epoch.
    last: Vec<u64>,
}

impl Publisher {
    /// `all` drops every cache of the rules.
    pub(crate) fn new(
        member: Arc<Member>,
        metrics: Arc<RelayMetrics>,
        origin: u64,
        all: Vec<Op>,
    ) -> Self {
        let complete = vec![None; member.lanes.len()];
        Self {
            member,
            metrics,
            origin,
            all,
            last: vec![0; complete.len()],
            complete,
        }
    }

    pub(crate) fn lanes(&self) -> u32 {
        self.complete.len() as u32
    }

    /// Returns whether everything that was given to [`publish`](Self::publish) is published in this epoch of
    /// the lane.
    pub(crate) fn is_complete(&self, lane: u32, epoch: u64) -> bool {
        self.complete[lane as usize] == Some(epoch)
    }

    /// Returns the sequence that an epoch in which the lane is complete has reached at least.
    pub(crate) fn last(&self, lane: u32) -> u64 {
        self.last[lane as usize]
    }

    /// The lane may lack something, for its server says that it is in another state.
    pub(crate) fn doubt(&mut self, lane: u32) {
        self.complete[lane as usize] = None;
    }

    /// Publishes in the order of each lane, until Redis has acknowledged everything. Ends early only with an error
    /// that no waiting ends; then, and where it is dropped, what was not acknowledged may be missing.
    pub(crate) async fn publish(&mut self, ops: Vec<Op>) -> Result<(), Error> {
        let by_lane = split(ops, self.lanes());
        self.send(by_lane).await
    }

    /// Drops every cache of the rules in every lane.
    pub(crate) async fn drop_all(&mut self) -> Result<(), Error> {
        let lanes = 0..self.lanes();
        self.renew(lanes.collect()).await
    }

    /// Drops every cache of the rules in these lanes, which have all of it from then on.
    ///
    /// 1: a commit is published in an epoch; 2: the server fails over and loses it; 3: another epoch begins.
    /// An instance that adopts the new epoch holds nothing older, but may load what a source that answers late
    /// has read before the commit; and 1 may come after 3, at a primary that was replaced.
    pub(crate) async fn renew(&mut self, lanes: Vec<u32>) -> Result<(), Error> {
        let mut by_lane = vec![Vec::new(); self.complete.len()];
        for lane in lanes {
            self.complete[lane as usize] = None;
            by_lane[lane as usize].clone_from(&self.all);
        }
        let fresh: Vec<bool> = by_lane.iter().map(|ops| !ops.is_empty()).collect();
        let sent = self.deliver(by_lane).await?;
        for (lane, positions) in sent {
            if fresh[lane as usize] {
                self.complete[lane as usize] = same(&positions);
                self.last[lane as usize] = latest(&positions);
            }
        }
        Ok(())
    }

    async fn send(&mut self, by_lane: Vec<Vec<Op>>) -> Result<(), Error> {
        // Until it is acknowledged, nothing is known.
        let before = self.complete.clone();
        for (lane, ops) in by_lane.iter().enumerate() {
            if !ops.is_empty() {
                self.complete[lane] = None;
            }
        }
        for (lane, positions) in self.deliver(by_lane).await? {
            let before = before[lane as usize];
            self.complete[lane as usize] = before.filter(|epoch| same(&positions) == Some(*epoch));
            self.last[lane as usize] = latest(&positions);
        }
        Ok(())
    }

    /// All lanes at once; by lane, the places of what was acknowledged.
    async fn deliver(&self, by_lane: Vec<Vec<Op>>) -> Result<Vec<(u32, Vec<Position>)>, Error> {
        let mut lanes = JoinSet::new();
        for (lane, ops) in (0..).zip(by_lane) {
            if !ops.is_empty() {
                let (member, origin) = (self.member.clone(), self.origin);
                let metrics = self.metrics.clone();
                lanes.spawn(async move {
                    let mut positions = Vec::new();
                    for ops in messages(ops) {
                        positions.push(acknowledged(&member, origin, lane, ops).await?);
                        metrics.events.inc();
                    }
                    Ok::<_, Error>((lane, positions))
                });
            }
        }
        let mut sent = Vec::new();
        while let Some(joined) = lanes.join_next().await {
            sent.push(joined.map_err(|_| Error::closed())??);
        }
        Ok(sent)
    }
}

/// Returns the epoch of all.
fn same(positions: &[Position]) -> Option<u64> {
    let (first, rest) = positions.split_first()?;
    let same = rest.iter().all(|position| position.epoch == first.epoch);
    same.then_some(first.epoch)
}

fn latest(positions: &[Position]) -> u64 {
    positions.last().map_or(0, |position| position.sequence)
}

/// One message, published again until it is acknowledged.
async fn acknowledged(
    member: &Member,
    origin: u64,
    lane: u32,
    ops: Vec<Op>,
) -> Result<Position, Error> {
    let mut event = Event {
        origin,
        sent: 0,
        ops,
    };
    let mut failures = 0;
    loop {
        // With every attempt, so that no two publications have the same bytes.
        event.sent = member.clock.precise();
        let payload = member.seal.encode(lane, &event);
        match member.bus.publish(lane, payload, Vec::new()).await {
            Err(error) if error.kind() == ErrorKind::Bus => {
                failures += 1;
                member.metrics.publish_failures.inc();
                sleep(backoff::jittered(BACKOFF, MAX_BACKOFF, failures)).await;
            }
            Ok(position) => {
                member.metrics.published.inc();
                return Ok(position);
            }
            error => return error,
        }
    }
}
