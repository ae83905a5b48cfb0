//! The rounds of a relay: everything that is committed is published at once, and several times a second marks prove
//! how far that has come.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument;

use super::behind::{Behind, LOOK};
use super::log::Log;
use super::publisher::Publisher;
use super::stopped::Stopped;
use crate::bus::{Mark, MarkAt, Marked, Reached};
use crate::coherence::member::Member;
use crate::event::Op;
use crate::metrics::{RelayMetrics, RelayState};
use crate::mutants::{Mechanism, without};
use crate::spans;
use crate::time::Nanos;

/// One round that has begun: where the log ended, and for each lane the epoch and the number to mark.
struct Round {
    began: Nanos,
    end: u64,
    at: Vec<(u64, u64)>,
}

/// A lane, the epoch and the number to mark, and the lease to take.
type Lane = (u32, Option<MarkAt>, Option<(u64, Duration)>);

/// Relays one log.
pub(crate) struct Rounds<L> {
    member: Arc<Member>,
    source: String,
    relay: u64,
    metrics: Arc<RelayMetrics>,
    log: L,
    publisher: Publisher,
    round: Option<Round>,
    /// When the lanes were asked last, and with them for the lease.
    asked: Instant,
    /// When the next round begins.
    next: Instant,
    /// Between two rounds: half of the interval of verifications, so that each finds another mark.
    pause: Duration,
    /// By lane: what was marked last.
    marked: Vec<(u64, u64)>,
    behind: Behind,
}

impl<L: Log> Rounds<L> {
    /// `relay` tells this relay from all others; `all` drops every cache of the rules.
    pub(crate) fn new(
        member: Arc<Member>,
        source: String,
        relay: u64,
        all: Vec<Op>,
        log: L,
    ) -> Self {
        let metrics = member.metrics.relay(&source);
        Self {
            publisher: Publisher::new(member.clone(), metrics.clone(), relay, all),
            behind: Behind::new(metrics.clone()),
            pause: member.settings.verify_interval / 2,
            marked: vec![(0, 0); member.lanes.len()],
            member,
            source,
            relay,
            metrics,
            log,
            round: None,
            asked: Instant::now(),
            next: Instant::now(),
        }
    }

    /// Relays until something stops it. The log must be open before this is called: what was committed before that
    /// is covered by the caches that are dropped first.
    ///
    /// 1: a transaction commits; 2: the log is opened, behind it; 3: the caches are dropped. A value that was loaded
    /// before 1 is gone after 3. The other way round a value that was loaded between 3 and 1 would stay. `began` is
    /// called after 3.
    pub(crate) async fn run(&mut self, began: impl FnOnce() + Send) -> Stopped {
        if let Err(error) = self.publisher.drop_all().await {
            return Stopped::Bus(error);
        }
        self.metrics.state.set(RelayState::Leading);
        began();
        loop {
            if let Err(stopped) = self.step().await {
                return stopped;
            }
        }
    }

    /// Gives up a log that can still be read.
    pub(crate) async fn close(self) {
        self.log.close().await;
    }

    async fn step(&mut self) -> Result<(), Stopped> {
        if self.round.is_none() && Instant::now() >= self.next {
            self.begin().await?;
        }
        let lease = self.asked + self.member.settings.member_timeout / 3;
        let upto = tokio::select! {
            biased;
            // A log that is busy must not keep the relay from its lease.
            () = sleep_until(lease) => return self.ask().await.map(|_| ()),
            upto = self.log.read() => upto.map_err(Stopped::Log)?,
            () = sleep_until(self.next), if self.round.is_none() => return Ok(()),
        };
        self.log.settle().await.map_err(Stopped::Log)?;
        let ops = self.log.take();
        self.log.counts().add_to(&self.metrics);
        if !ops.is_empty() {
            self.publish(ops).await?;
        }
        if self.behind.published(upto) {
            self.log.confirm(upto).await.map_err(Stopped::Log)?;
        }
        let early = without(Mechanism::MarksAfterPublishing);
        if self
            .round
            .as_ref()
            .is_some_and(|round| upto >= round.end || early)
        {
            self.finish().await;
        }
        Ok(())
    }

    async fn publish(&mut self, ops: Vec<Op>) -> Result<(), Stopped> {
        let span = spans::relay_publication(&self.source, ops.len());
        let mut published = pin!(self.publisher.publish(ops).instrument(span));
        loop {
            tokio::select! {
                biased;
                published = &mut published => return published.map_err(Stopped::Bus),
                error = self.log.hold() => return Err(Stopped::Log(error)),
                // Redis is away or slow, and the log goes on.
                () = sleep(LOOK) => {}
            }
            let end = self.log.ahead().await.map_err(Stopped::Log)?;
            self.behind.ends(end);
        }
    }

    /// Asks where the log ends where no round does, which shows how much of it is not published yet.
    async fn look(&mut self) -> Result<(), Stopped> {
        if self.behind.is_due() {
            let end = self.log.end().await.map_err(Stopped::Log)?;
            self.behind.ends(end);
        }
        Ok(())
    }

    /// Reads each lane's number, and then the log's end.
    async fn begin(&mut self) -> Result<(), Stopped> {
        self.next = Instant::now() + self.pause;
        let began = self.member.clock.now();
        let early = match without(Mechanism::NumbersBeforeTheEnd) {
            true => Some(self.log.end().await.map_err(Stopped::Log)?),
            false => None,
        };
        let Some(lanes) = self.ask().await? else {
            return self.look().await;
        };
        // A lane that has begun another epoch, or was never sure: it gets everything.
        let lacks = (0..).zip(&lanes).filter(|(lane, marked)| {
            marked.epoch != 0 && !self.publisher.is_complete(*lane, marked.epoch)
        });
        let lacks: Vec<u32> = lacks.map(|(lane, _)| lane).collect();
        if !lacks.is_empty() && !without(Mechanism::LanesRenewed) {
            self.publisher.renew(lacks).await.map_err(Stopped::Bus)?;
        }
        let at: Vec<_> = lanes
            .iter()
            .map(|marked| (marked.epoch, marked.number))
            .collect();
        // No instance has verified since the last marks, or none names the source.
        if at == self.marked || at.iter().all(|(_, number)| *number == 0) {
            self.metrics.proven(began);
            return self.look().await;
        }
        let end = match early {
            Some(end) => end,
            None => self.log.end().await.map_err(Stopped::Log)?,
        };
        self.behind.ends(end);
        self.round = Some(Round { began, end, at });
        Ok(())
    }

    /// Returns the numbers of all lanes, and the lease for a while; `None` where Redis does not say them.
    async fn ask(&mut self) -> Result<Option<Vec<Marked>>, Stopped> {
        self.asked = Instant::now();
        let lanes = (0..self.publisher.lanes()).map(|lane| {
            // As long as a member may be silent: then another one takes over.
            let lease = (lane == 0).then_some((self.relay, self.member.settings.member_timeout));
            (lane, None, lease)
        });
        let asked = self.mark(lanes.collect()).await;
        if asked.iter().any(|(_, marked)| marked.refused) {
            return Err(Stopped::Other);
        }
        let lanes = self.publisher.lanes() as usize;
        Ok((asked.len() == lanes).then(|| asked.into_iter().map(|(_, marked)| marked).collect()))
    }

    /// Everything up to the round's end is published: marks what that proves.
    async fn finish(&mut self) {
        let Some(round) = self.round.take() else {
            return;
        };
        self.next = Instant::now() + self.pause;
        let sure = |lane, epoch| {
            self.publisher.is_complete(lane, epoch) || without(Mechanism::LanesRenewed)
        };
        let marks = (0..)
            .zip(round.at.iter().copied())
            .filter(|(lane, (epoch, number))| *number > 0 && sure(*lane, *epoch));
        let marks: Vec<_> = marks
            .map(|(lane, (epoch, number))| {
                let sequence = self.publisher.last(lane);
                let place = round.end;
                let at = MarkAt {
                    epoch,
                    reached: Reached { number, place },
                    sequence,
                };
                (lane, Some(at), None)
            })
            .collect();
        let wanted = round.at.iter().filter(|(_, number)| *number > 0).count();
        let mut set = 0;
        for (lane, marked) in self.mark(marks).await {
            if marked.set {
                set += 1;
                self.marked[lane as usize] = round.at[lane as usize];
            } else {
                self.publisher.doubt(lane);
            }
        }
        self.metrics.marks.add(set as u64);
        if set == wanted {
            self.metrics.proven(round.began);
        }
    }

    /// Returns what the lanes that answer say, in their order.
    async fn mark(&self, lanes: Vec<Lane>) -> Vec<(u32, Marked)> {
        let mut marking = JoinSet::new();
        for (lane, at, lease) in lanes {
            let (member, source) = (self.member.clone(), self.source.clone());
            let mark = Mark { source, at, lease };
            marking.spawn(async move { Some((lane, member.bus.mark(lane, mark).await.ok()?)) });
        }
        let mut answers = Vec::new();
        while let Some(answer) = marking.join_next().await {
            answers.extend(answer.ok().flatten());
        }
        answers.sort_unstable_by_key(|(lane, _)| *lane);
        answers
    }
}
