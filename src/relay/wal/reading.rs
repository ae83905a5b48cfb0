//! The log while it is read: rows become names, transaction by transaction.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::catalog::{as_error, catalog};
use super::visible::until_visible;
use crate::event::{Op, What};
use crate::relay::change::Change;
use crate::relay::counts::Counts;
use crate::relay::log::Log;
use crate::relay::pgoutput;
use crate::relay::postgres::{Connection, Event, Stream, end_of_log, flush_log};
use crate::relay::rules::Rules;
use crate::relay::rules::catalog::Catalog;
use crate::relay::rules::check::check;
use crate::relay::rules::gathered::{self, Gathered};
use crate::relay::rules::plans::{Plans, Seen};
use crate::{Error, ErrorKind};

/// How long the server may take to read its own log up to its end. Longer is what an open transaction does that has
/// written something: nothing flushes that for 15 seconds, so the relay does.
const PATIENCE: Duration = Duration::from_millis(400);

/// Commits that are published together at most; then Redis gets its turn.
const TOGETHER: usize = 1_024;

/// How long a polite end may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// The log while it is read.
#[derive(Debug)]
pub(crate) struct Reading {
    rules: Rules,
    sql: Connection,
    stream: Stream,
    plans: Plans,
    gathered: Gathered,
    /// All that was committed before has been read.
    upto: u64,
    /// The end that was asked for, and until when the log must have come there by itself.
    end: Option<(u64, Instant)>,
    /// A table was altered.
    recheck: bool,
    /// Transactions that were read, and that loads may not see yet.
    unseen: Vec<u32>,
    /// Beside those of the plans.
    counts: Counts,
}

impl Log for Reading {
    async fn end(&mut self) -> Result<u64, Error> {
        let end = end_of_log(&mut self.sql).await.map_err(as_error)?;
        self.end = Some((end, Instant::now() + PATIENCE));
        self.stream.confirm(0, true).await.map_err(as_error)?;
        Ok(end)
    }

    async fn read(&mut self) -> Result<u64, Error> {
        let before = self.upto;
        let mut commits = 0;
        while !self.recheck && commits < TOGETHER {
            let event = if self.upto > before {
                // What is there already is published with it.
                tokio::select! {
                    biased;
                    event = self.stream.next() => event,
                    () = std::future::ready(()) => break,
                }
            } else if let Some((_, by)) = self.end {
                tokio::select! {
                    biased;
                    event = self.stream.next() => event,
                    () = sleep_until(by) => break,
                }
            } else {
                self.stream.next().await
            };
            commits += usize::from(self.on_event(event.map_err(as_error)?)?);
        }
        Ok(self.upto)
    }

    fn take(&mut self) -> Vec<Op> {
        let drained = self.gathered.drain();
        self.counts.collapsed += drained.collapses;
        if drained.everything {
            return vec![Op::lane()];
        }
        drained.drops.into_iter().flat_map(ops).collect()
    }

    fn counts(&mut self) -> Counts {
        let Counts {
            collapsed, large, ..
        } = std::mem::take(&mut self.counts);
        let plans = self.plans.counts();
        Counts {
            collapsed,
            large: plans.large + large,
            ..plans
        }
    }

    async fn ahead(&mut self) -> Result<u64, Error> {
        end_of_log(&mut self.sql).await.map_err(as_error)
    }

    async fn confirm(&mut self, upto: u64) -> Result<(), Error> {
        self.stream.confirm(upto, false).await.map_err(as_error)
    }

    async fn settle(&mut self) -> Result<(), Error> {
        until_visible(&mut self.unseen, &mut self.sql, &mut self.stream).await?;
        if let Some((end, by)) = self.end {
            if self.upto >= end {
                self.end = None;
            } else if Instant::now() >= by {
                flush_log(&mut self.sql).await.map_err(as_error)?;
                self.stream.confirm(0, true).await.map_err(as_error)?;
                self.end = Some((end, Instant::now() + 4 * PATIENCE));
            }
        }
        if std::mem::take(&mut self.recheck) {
            let catalog = catalog(&mut self.sql, &self.rules).await?;
            self.plans.recheck(&catalog, &mut self.gathered);
            if let Err(error) = check(&self.rules, &catalog) {
                tracing::warn!(
                    source = self.rules.source,
                    %error,
                    "a table was altered, and its rules do not apply: every change of it drops whole caches"
                );
            }
        }
        Ok(())
    }

    async fn hold(&mut self) -> Error {
        as_error(self.stream.hold().await)
    }

    async fn close(self) {
        self.stream.end(FAREWELL).await;
    }
}

impl Reading {
    /// Returns the stream of a log that begins behind what the catalog says.
    pub(super) fn new(rules: Rules, catalog: &Catalog, sql: Connection, stream: Stream) -> Self {
        Self {
            plans: Plans::new(rules.clone(), catalog),
            rules,
            sql,
            stream,
            gathered: Gathered::default(),
            upto: 0,
            end: None,
            recheck: false,
            unseen: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Whether a transaction ends with it.
    fn on_event(&mut self, event: Event) -> Result<bool, Error> {
        let change = match &event {
            Event::Passed { lsn } => {
                self.upto = self.upto.max(*lsn);
                return Ok(false);
            }
            Event::TooLarge { relation: None } => {
                self.gathered.extend(self.plans.all());
                self.counts.large += 1;
                return Ok(false);
            }
            Event::TooLarge {
                relation: Some(relation),
            } => Change::TooLarge {
                relation: *relation,
            },
            Event::Message { bytes, .. } => pgoutput::decode(bytes)
                .map_err(|malformed| Error::new(ErrorKind::Bus, malformed.to_string()))?,
        };
        if let Change::Begin { transaction } = change {
            self.unseen.push(transaction);
        }
        match self.plans.names(&change, &mut self.gathered) {
            Ok(Seen::Recheck) => self.recheck = true,
            Ok(Seen::Same | Seen::Altered) => {}
            Err(bad) => tracing::warn!(
                source = self.rules.source,
                error = %bad,
                "a message in the log is not one of unstale_invalidate; dropping every cache"
            ),
        }
        if let Change::Commit { end, .. } = change {
            self.upto = self.upto.max(end);
            return Ok(true);
        }
        Ok(false)
    }
}

fn ops(drops: gathered::Drops) -> Vec<Op> {
    let of = |what| Op {
        cache: drops.cache,
        format: drops.format,
        what,
    };
    match drops.what {
        gathered::What::All => vec![of(What::Cache)],
        gathered::What::Named { keys, tags } => {
            let keys = (!keys.is_empty()).then(|| of(What::Keys(keys)));
            let tags = (!tags.is_empty()).then(|| of(What::Tags(tags)));
            keys.into_iter().chain(tags).collect()
        }
    }
}
