//! A load on running instances, for a first look at the dashboards: what `--load` does.
//!
//! Readers like few accounts much and many a little (the chance of an account falls with its rank,
//! as Zipf has it), some ask for accounts that do not exist, and one request in fifty writes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Accounts there are; written before anything else.
const ACCOUNTS: u64 = 1_000;

/// Ids above [`ACCOUNTS`] that are asked for and never written.
const ABSENT: u64 = 50;

/// One request in this many writes.
const WRITE_EACH: u64 = 50;

/// One in this many asks for an account that does not exist.
const ABSENT_EACH: u64 = 40;

/// Clients at a time. A request of theirs that hangs holds up its client alone.
const CLIENTS: u32 = 24;

/// An instance that is stopped holds up a client for no longer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Longest wait for the first instance: where all are started at once it takes them seconds.
const READY: Duration = Duration::from_secs(60);

/// Pause between two looks whether it is there.
const POLL: Duration = Duration::from_millis(200);

/// How often the log says how it goes.
const REPORT: Duration = Duration::from_secs(10);

/// What to do, as the flags say it.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// `http://host:port` of each instance; each client asks them in turn.
    pub(crate) targets: Vec<String>,
    /// Requests a second, all clients together.
    pub(crate) rate: u32,
}

/// What happened since the last report.
#[derive(Debug, Default)]
struct Seen {
    hits: AtomicU64,
    loads: AtomicU64,
    writes: AtomicU64,
    failures: AtomicU64,
}

impl Load {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) -> Result<(), reqwest::Error> {
        let http = Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        self.prepare(&http).await;
        let seen = Arc::new(Seen::default());
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (http, seen, load) = (http.clone(), Arc::clone(&seen), self.clone());
            clients.spawn(async move { load.client(&http, &seen, number).await });
        }
        let mut report = interval(REPORT);
        report.tick().await;
        loop {
            report.tick().await;
            tracing::info!("{seen}");
        }
    }

    /// Waits for the first instance and has it write all accounts, unless it does not answer.
    async fn prepare(&self, http: &Client) {
        let ready = async || {
            let asked = http.get(format!("{}/readyz", self.targets[0])).send().await;
            asked.is_ok_and(|reply| reply.status().is_success())
        };
        let waiting = async {
            while !ready().await {
                sleep(POLL).await;
            }
        };
        let _ = timeout(READY, waiting).await;
        for id in 1..=ACCOUNTS {
            if put(http, &self.targets[0], id).await.is_err() {
                return tracing::warn!(id, "the accounts could not all be written");
            }
        }
    }

    async fn client(&self, http: &Client, seen: &Seen, number: u32) {
        let mut pace = interval(Duration::from_secs(1) * CLIENTS / self.rate.max(1));
        // What an instance did not answer in time is not asked for all at once afterwards.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in u64::from(number).. {
            pace.tick().await;
            let target = &self.targets[turn as usize % self.targets.len()];
            let counter = match request(http, target).await {
                Ok(counter) => counter(seen),
                Err(_) => &seen.failures,
            };
            counter.fetch_add(1, Relaxed);
        }
    }
}

/// Which of the counters a request belongs to.
type Count = fn(&Seen) -> &AtomicU64;

async fn request(http: &Client, target: &str) -> Result<Count, reqwest::Error> {
    let id = (ACCOUNTS as f64).powf(fastrand::f64()) as u64;
    if fastrand::u64(..WRITE_EACH) == 0 {
        let refused = put(http, target, id).await?.is_server_error();
        return Ok(if refused {
            |s| &s.failures
        } else {
            |s| &s.writes
        });
    }
    let absent = fastrand::u64(..ABSENT_EACH) == 0;
    let id = if absent {
        ACCOUNTS + 1 + id % ABSENT
    } else {
        id
    };
    let reply = http.get(format!("{target}/accounts/{id}")).send().await?;
    if !reply.status().is_success() && reply.status() != StatusCode::NOT_FOUND {
        return Ok(|seen| &seen.failures);
    }
    let cache = reply.headers().get("x-cache");
    let memory = cache.is_some_and(|how| how == "hit" || how == "negative");
    reply.bytes().await?;
    Ok(if memory { |s| &s.hits } else { |s| &s.loads })
}

async fn put(http: &Client, target: &str, id: u64) -> Result<StatusCode, reqwest::Error> {
    let account = json!({ "name": "Ada", "balance": fastrand::i64(0..10_000) });
    let request = http.put(format!("{target}/accounts/{id}")).json(&account);
    let reply = request.send().await?;
    let status = reply.status();
    // The body is read, so that its connection is used again.
    reply.bytes().await?;
    Ok(status)
}

/// One line, and what it says is taken.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [hits, loads, writes, failures] =
            [&self.hits, &self.loads, &self.writes, &self.failures].map(|n| n.swap(0, Relaxed));
        let each = |n: u64| n as f64 / REPORT.as_secs_f64();
        write!(
            f,
            "{:.0} reads/s, {:.1} % from memory; {:.1} writes/s; {failures} failed",
            each(hits + loads),
            100.0 * hits as f64 / (hits + loads).max(1) as f64,
            each(writes),
        )
    }
}
