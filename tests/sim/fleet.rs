//! One instance of the fleet, and what its readers do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use unstale::internals;
use unstale::{Cache, Error, Instance, LocalBus, Outcome, Settings, Token, WritePolicy};

use crate::log::{Call, Read, Shared};
use crate::mind::{self, Id, Row};
use crate::options::CacheOptions;
use crate::schedule::*;
use crate::source::Source;

/// One instance that runs.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) place: usize,
    /// The number of its connection.
    pub(crate) number: usize,
    pub(crate) settings: NodeSettings,
    pub(crate) instance: Instance,
    options: (CacheOptions, CacheOptions),
    rows: Cache<Id, Row>,
    columns: Cache<Id, Row>,
    pub(super) bus: LocalBus,
    pub(super) source: Source,
    pub(super) shared: Shared,
    callers: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Node {
    /// Starts an instance; a silent one is half-open from its first moment on.
    ///
    /// # Errors
    ///
    /// The fleet has another number of lanes.
    pub(crate) async fn start(
        schedule: &Schedule,
        place: usize,
        silent: bool,
        (bus, source, shared): (&LocalBus, &Source, &Shared),
    ) -> Result<Self, Error> {
        let settings = schedule.nodes[place];
        let number = bus.instances();
        let with = library_settings(schedule.lanes, &settings);
        let mut starting = Box::pin(async {
            match settings.id {
                Some(id) => internals::start_with_id(bus, with, id).await,
                None => internals::start_small(bus, with).await,
            }
        });
        if silent {
            // Its connection is there as soon as it has been polled once.
            tokio::select! {
                biased;
                started = &mut starting => drop(started?),
                () = std::future::ready(()) => bus.faults(number).silence(),
            }
        }
        let instance = starting.await?;
        let options = (schedule.rows, schedule.columns);
        let rows = options.0.build(&instance, "rows", place, source);
        let columns = options.1.build(&instance, "columns", place, source);
        mind::settle_in(place, (rows.clone(), columns.clone()));
        Ok(Self {
            place,
            number,
            settings,
            instance,
            options,
            rows,
            columns,
            bus: bus.clone(),
            source: source.clone(),
            shared: shared.clone(),
            callers: Arc::default(),
        })
    }

    pub(crate) fn cache(&self, column: bool) -> &Cache<Id, Row> {
        if column { &self.columns } else { &self.rows }
    }

    pub(crate) fn cache_of(&self, key: u64) -> &Cache<Id, Row> {
        self.cache(key >= FIRST_COLUMN)
    }

    pub(crate) fn options_of(&self, key: u64) -> &CacheOptions {
        if key >= FIRST_COLUMN {
            &self.options.1
        } else {
            &self.options.0
        }
    }

    pub(crate) fn id(&self, key: u64) -> Id {
        Id::new(key, self.place)
    }

    /// Runs a caller, which is gone when the instance crashes.
    pub(crate) fn call(&self, caller: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(caller).abort_handle();
        self.callers.lock().unwrap().push(task);
    }

    /// Its callers, and the handles that they hold, are gone.
    pub(crate) fn abort(&self) {
        for caller in self.callers.lock().unwrap().drain(..) {
            caller.abort();
        }
    }

    /// A read that begins now.
    fn begin(&self, id: (usize, u64), key: u64, clean: bool) -> Read {
        let began = Instant::now();
        Read {
            id,
            call: Call::Any,
            node: self.place,
            number: self.number,
            key,
            order: self.shared.log().order(),
            began,
            ended: began,
            applied: internals::applied(&self.instance),
            clean,
            facts: None,
            outcome: None,
        }
    }

    pub(crate) async fn read(&self, id: (usize, u64), key: u64, clean: bool, how: How) -> Answer {
        let until = Instant::now() + ms(self.options_of(key).longest_read());
        let what = format!("a read of key {key} on instance {} ({how:?})", self.place);
        let _underway = self.shared.underway(what, until);
        let mut read = self.begin(id, key, clean);
        let (cache, id) = (self.cache_of(key), self.id(key));
        let (row, outcome) = match how {
            How::Get => (cache.get(&id).await, Outcome::Miss),
            How::Lookup => match cache.lookup(&id).await {
                Ok(lookup) => (Ok(lookup.value), lookup.outcome),
                Err(error) => (Err(error), Outcome::Miss),
            },
            How::With => {
                let (source, place) = (self.source.clone(), self.place);
                let reads = self.options_of(key).reads();
                let load = async move { Ok(source.load(place, key, reads).await?) };
                (cache.get_with(&id, load).await, Outcome::Miss)
            }
            How::After => {
                let last = self.shared.log().last_of(key);
                let token = last.map_or_else(Token::default, |(version, token)| {
                    read.call = Call::After(version);
                    token
                });
                match cache.lookup_after(&id, &token).await {
                    Ok(lookup) => (Ok(lookup.value), lookup.outcome),
                    Err(error) => (Err(error), Outcome::Miss),
                }
            }
            How::Latest => {
                read.call = Call::Latest;
                match cache.lookup_latest(&id).await {
                    Ok(lookup) => (Ok(lookup.value), lookup.outcome),
                    Err(error) => (Err(error), Outcome::Miss),
                }
            }
        };
        match row {
            Ok(row) => {
                self.note(read, row, outcome);
                Answer::Got(outcome)
            }
            Err(error) if refused(&error) => Answer::Refused,
            Err(_) => Answer::Failed,
        }
    }

    /// A read of one key each millisecond.
    pub(crate) async fn read_often(self, id: usize, key: u64, reads: u64, clean: bool) {
        for n in 0..reads {
            let reader = self.clone();
            self.call(async move {
                reader.read((id, n), key, clean, How::Lookup).await;
            });
            sleep(ms(1)).await;
        }
    }

    pub(crate) async fn read_many(&self, id: usize, clean: bool) {
        let until = Instant::now() + ms(self.options_of(0).longest_read());
        let what = format!("a read of many keys on instance {}", self.place);
        let _underway = self.shared.underway(what, until);
        let keys: Vec<Id> = (0..FIRST_COLUMN).map(|key| self.id(key)).collect();
        let reads: Vec<_> = (0..FIRST_COLUMN)
            .map(|key| self.begin((id, key), key, clean))
            .collect();
        let Ok(found) = self.rows.get_many(&keys).await else {
            return;
        };
        for (read, row) in reads.into_iter().zip(found) {
            self.note(read, row, Outcome::Miss);
        }
    }

    pub(crate) async fn preload(self) {
        let until = Instant::now() + ms(self.options_of(0).longest_read());
        let what = format!("a warm-up of instance {}", self.place);
        let _underway = self.shared.underway(what, until);
        let keys: Vec<Id> = (0..FIRST_COLUMN).map(|key| self.id(key)).collect();
        let _ = self.rows.preload(keys).await;
    }

    /// Looks into memory without giving any task the time to change it.
    pub(crate) fn peek(&self, id: usize, clean: bool) {
        for key in 0..KEYS {
            let read = self.begin((id, key), key, clean);
            // What the user's code does here is the caller's own panic.
            let peek = AssertUnwindSafe(|| self.cache_of(key).peek(&self.id(key)));
            if let Ok(Some(row)) = catch_unwind(peek) {
                self.note(read, Some(row), Outcome::Hit);
            }
        }
    }

    fn note(&self, mut read: Read, row: Option<Row>, outcome: Outcome) {
        read.ended = Instant::now();
        read.facts = row.map(Row::into_facts);
        read.outcome = Some(outcome);
        self.shared.log().reads.push(read);
    }
}

/// Returns whether `unknown_loads` or `max_loads` allowed no load.
fn refused(error: &unstale::Error) -> bool {
    use unstale::ErrorKind::{Limited, Overloaded};
    matches!(error.kind(), Limited | Overloaded)
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Got(Outcome),
    /// `unknown_loads` or `max_loads` allowed no load.
    Refused,
    Failed,
}

pub(crate) fn keys_of(column: bool) -> std::ops::Range<u64> {
    if column {
        FIRST_COLUMN..KEYS
    } else {
        0..FIRST_COLUMN
    }
}

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn library_settings(lanes: u32, node: &NodeSettings) -> Settings {
    let mut settings = Settings::default();
    settings.lanes = node.lanes.unwrap_or(lanes);
    settings.verify_interval = ms(node.verify_interval);
    settings.max_staleness = Some(ms(node.max_staleness));
    settings.ttl = ms(node.ttl);
    settings.negative_ttl = ms(node.ttl);
    settings.journal = node.journal;
    settings.capacity = 64;
    settings.outbox = 1_024;
    settings.reap_interval = None;
    settings.audit = Some(1.0);
    settings.publish_timeout = ms(node.publish_timeout);
    settings.member_timeout = ms(node.member_timeout);
    settings.write_timeout = ms(WRITE_TIMEOUT);
    if node.available {
        settings.write_policy = WritePolicy::Available;
    }
    settings
}
