//! The relay of the fleet: reads the source's log, some milliseconds late.

use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use unstale::internals::{self, SourceLog};
use unstale::{Instance, Key, LocalBus, Settings};

use crate::fleet::ms;
use crate::options::SOURCE;
use crate::run::World;
use crate::schedule::*;
use crate::source::{Source, cache};

/// One relay that runs.
pub(crate) struct Relay {
    /// The number of its connection.
    pub(crate) number: usize,
    task: AbortHandle,
    /// Its connection lives as long.
    _instance: Instance,
}

struct Log {
    source: Source,
    late: Duration,
    /// Up to where it was read.
    read: usize,
    /// Where it ended when that was asked, until it was read up to there.
    end: Option<usize>,
    /// What is read now, and when that is done.
    pending: Option<(usize, Instant)>,
}

impl SourceLog for Log {
    fn end(&mut self) -> u64 {
        let end = self.source.len();
        self.end = Some(end);
        end as u64
    }

    async fn read(&mut self) -> (u64, Vec<(&'static str, u64)>) {
        while self.source.len() == self.read && self.end.is_none() && self.pending.is_none() {
            sleep(ms(5)).await;
        }
        // One commit at a time. Kept, for this future may be dropped.
        let pending = || match self.source.len() == self.read {
            true => (self.read, Instant::now()),
            false => (self.read + 1, Instant::now() + self.late),
        };
        let (upto, at) = *self.pending.get_or_insert_with(pending);
        sleep_until(at).await;
        self.pending = None;
        let names = self.source.changed(self.read..upto);
        let names = names
            .into_iter()
            .filter_map(|key| Some((cache(key), key.digest()?)));
        self.read = upto;
        self.end = self.end.filter(|end| *end > upto);
        (upto as u64, names.collect())
    }
}

impl Relay {
    pub(crate) async fn start(
        bus: &LocalBus,
        source: &Source,
        schedule: &Schedule,
    ) -> Option<Self> {
        let mut settings = Settings::default();
        settings.lanes = schedule.lanes;
        settings.verify_interval = ms(100);
        settings.member_timeout = ms(MEMBER_TIMEOUT);
        settings.write_timeout = ms(WRITE_TIMEOUT);
        let number = bus.instances();
        let instance = internals::start_small(bus, settings).await.ok()?;
        let (of, source, late) = (instance.clone(), source.clone(), ms(schedule.relay?));
        let open = move || Log {
            read: source.len(),
            source: source.clone(),
            late,
            end: None,
            pending: None,
        };
        let relaying = async move {
            let caches = vec!["rows".to_owned(), "columns".to_owned()];
            internals::relay(of, SOURCE.to_owned(), caches, open).await;
        };
        Some(Self {
            number,
            task: tokio::spawn(relaying).abort_handle(),
            _instance: instance,
        })
    }
}

impl World<'_> {
    pub(super) async fn on_relay(&mut self, fault: RelayFault) {
        self.shared.log().count("relay_faults", 1);
        let starts = match fault {
            RelayFault::Join => true,
            _ => fault == RelayFault::Start && self.relays.is_empty(),
        };
        if starts && self.schedule.relay.is_some() {
            let relay = Relay::start(&self.bus, &self.source, self.schedule).await;
            self.relays.extend(relay);
        }
        match fault {
            RelayFault::Crash => {
                for relay in self.relays.drain(..) {
                    self.bus.faults(relay.number).crash();
                    relay.task.abort();
                }
            }
            RelayFault::Cut | RelayFault::Heal | RelayFault::Slow(_) => {
                for relay in &self.relays {
                    let faults = self.bus.faults(relay.number);
                    match fault {
                        RelayFault::Cut => faults.cut(),
                        RelayFault::Slow(request) => faults.slow(ms(request), ms(0)),
                        _ => faults.end_all(),
                    }
                }
            }
            RelayFault::Join | RelayFault::Start => {}
        }
    }
}
