//! What a relay says and shows of itself, on tokio's paused clock.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::counts::Counts;
use super::log::Log;
use super::*;
use crate::event::What;
use crate::key::cache_id;
use crate::{Cache, Instance, LocalBus, Settings, testing};

/// A log that ends where the test says; every place is a commit.
struct Written {
    end: Arc<AtomicU64>,
    asked: Option<u64>,
    read: u64,
    new: u64,
}

impl Log for Written {
    async fn end(&mut self) -> Result<u64, Error> {
        Ok(*self.asked.insert(self.end.load(Relaxed)))
    }

    async fn read(&mut self) -> Result<u64, Error> {
        let Some(end) = self.asked.take() else {
            return std::future::pending().await;
        };
        self.new += end - std::mem::replace(&mut self.read, end);
        Ok(end)
    }

    fn take(&mut self) -> Vec<Op> {
        let keys = (self.read - self.new..self.read).collect();
        match self.new {
            0 => Vec::new(),
            _ => vec![op(What::Keys(keys))],
        }
    }

    fn counts(&mut self) -> Counts {
        Counts {
            commits: std::mem::take(&mut self.new),
            ..Counts::default()
        }
    }

    async fn ahead(&mut self) -> Result<u64, Error> {
        Ok(self.end.load(Relaxed))
    }

    async fn confirm(&mut self, _: u64) -> Result<(), Error> {
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Error> {
        Ok(())
    }

    async fn hold(&mut self) -> Error {
        std::future::pending().await
    }
}

#[derive(Clone, Default)]
struct Writes(Arc<AtomicU64>);

impl Open for Writes {
    type Log = Written;

    async fn open(&mut self) -> Result<Written, Error> {
        Ok(Written {
            end: self.0.clone(),
            asked: None,
            read: self.0.load(Relaxed),
            new: 0,
        })
    }
}

fn op(what: What) -> Op {
    Op {
        cache: cache_id("accounts"),
        format: 1,
        what,
    }
}

fn duty() -> Duty {
    Duty {
        source: "shop".to_owned(),
        all: vec![op(What::Cache)],
    }
}

/// A relay of its own on this bus.
async fn relay(bus: &LocalBus, log: &Writes) -> Instance {
    let instance = testing::start_on(bus, Settings::default()).await.unwrap();
    let (member, log) = (instance.member().clone(), log.clone());
    tokio::spawn(async move { run(&member, &duty(), log, |_| {}, pending()).await });
    instance
}

/// An instance with a cache that names the source.
async fn named(bus: &LocalBus) -> (Instance, Cache<u64, u64>) {
    let instance = testing::start_on(bus, Settings::default()).await.unwrap();
    let cache = instance.cache::<u64, u64>("accounts").source("shop");
    let cache = cache.loader(|id: u64| async move { Ok(id) }).build();
    (instance, cache.unwrap())
}

/// The value of a series of the source, if it is there.
fn value(instance: &Instance, series: &str) -> Option<f64> {
    let text = instance.metrics_text();
    let (name, labels) = series.split_once(',').unwrap_or((series, ""));
    let comma = if labels.is_empty() { "" } else { "," };
    let begins = format!("unstale_{name}{{source=\"shop\"{comma}{labels}}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&begins))?;
    Some(value.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_relay_reports_that_it_began_once_every_lane_has_dropped_its_caches() {
    let bus = LocalBus::default();
    let instance = testing::start_on(&bus, Settings::default()).await.unwrap();
    let member = instance.member();
    let mut began = Vec::new();
    let note = |note: &Note| {
        if matches!(note, Note::Began) {
            began.push(member.metrics.published.get());
        }
    };
    let duty = duty();
    let running = run(member, &duty, Writes::default(), note, pending());
    let ended = tokio::time::timeout(Duration::from_secs(5), running).await;
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(began, [u64::from(member.lane_count())]);
}

#[tokio::test(start_paused = true)]
async fn commits_are_counted_published_and_marked() {
    let (bus, log) = (LocalBus::default(), Writes::default());
    let (relay, (instance, _cache)) = (relay(&bus, &log).await, named(&bus).await);
    sleep(Duration::from_secs(20)).await;
    let show = |series| value(&relay, series).unwrap();
    let (events, marks) = (show("relay_events_total"), show("relay_marks_total"));
    assert!(marks > 0.0);
    assert_eq!(show("relay_commits_total"), 0.0);
    log.0.fetch_add(7, Relaxed);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(show("relay_commits_total"), 7.0);
    assert!(show("relay_events_total") > events);
    assert!(show("relay_marks_total") > marks);
    assert_eq!(show("relay_lag_bytes"), 0.0);
    assert_eq!(show("relay_restarts_total"), 0.0);
    // An instance that is not read verifies every half member_timeout, and the mark comes with the next.
    let idle = Settings::default().member_timeout.as_secs_f64() + 1.0;
    assert!(show("relay_lag_seconds") < idle);
    assert!(value(&instance, "source_verified_age_seconds").unwrap() < idle);
    assert!(!instance.metrics_text().contains("unstale_relay_"));
    assert_eq!(value(&relay, "source_verified_age_seconds"), None);
}

#[tokio::test(start_paused = true)]
async fn a_relays_lag_grows_while_it_is_cut_off_and_falls_after() {
    let (bus, log) = (LocalBus::default(), Writes::default());
    let (relay, (instance, _cache)) = (relay(&bus, &log).await, named(&bus).await);
    sleep(Duration::from_secs(20)).await;
    bus.faults(0).cut();
    log.0.fetch_add(1_000, Relaxed);
    sleep(Duration::from_secs(30)).await;
    let lag = || value(&relay, "relay_lag_seconds").unwrap();
    assert!((25.0..40.0).contains(&lag()), "{}", lag());
    assert_eq!(value(&relay, "relay_lag_bytes"), Some(1_000.0));
    assert!(value(&instance, "source_verified_age_seconds").unwrap() > 25.0);
    bus.faults(0).heal();
    sleep(Duration::from_secs(20)).await;
    assert!(lag() < 6.0, "{}", lag());
    assert_eq!(value(&relay, "relay_lag_bytes"), Some(0.0));
    assert!(value(&instance, "source_verified_age_seconds").unwrap() < 6.0);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_no_instance_asks_has_no_lag() {
    let (bus, log) = (LocalBus::default(), Writes::default());
    let relay = relay(&bus, &log).await;
    sleep(Duration::from_secs(60)).await;
    log.0.fetch_add(5, Relaxed);
    sleep(Duration::from_secs(5)).await;
    assert!(value(&relay, "relay_lag_seconds").unwrap() < 3.0);
    assert_eq!(value(&relay, "relay_lag_bytes"), Some(0.0));
    assert_eq!(value(&relay, "relay_commits_total"), Some(5.0));
}

#[tokio::test(start_paused = true)]
async fn one_of_two_relays_leads_and_the_other_waits_without_a_lag() {
    let (bus, log) = (LocalBus::default(), Writes::default());
    let first = relay(&bus, &log).await;
    sleep(Duration::from_secs(5)).await;
    let second = relay(&bus, &log).await;
    let states = |relay| {
        ["leading", "waiting", "opening"]
            .map(|state| value(relay, &format!("relay_state,state=\"{state}\"")).unwrap())
    };
    sleep(Duration::from_secs(30)).await;
    assert_eq!(states(&first), [1.0, 0.0, 0.0]);
    assert_eq!(states(&second), [0.0, 1.0, 0.0]);
    assert_eq!(value(&second, "relay_lag_seconds"), Some(0.0));
    bus.faults(0).cut();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(states(&second), [1.0, 0.0, 0.0]);
    bus.faults(0).heal();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(states(&first), [0.0, 1.0, 0.0]);
    assert_eq!(value(&first, "relay_lag_seconds"), Some(0.0));
}
