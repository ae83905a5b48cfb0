//! What each task does all the time: every call of a cache, in an order that its seed says.

mod changes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use unstale::Error;

use super::fleet::{Node, Row, Rows, TABLES, load};
use super::tally::{Promise, Tally};
use super::truth::{Place, ROWS, Read, Truth};
use super::watch::Seat;
use crate::support::nodes::ms;

/// Keys that half of the calls are about, and all reads of a burst.
const HOT: u64 = 16;

/// Calls between two pauses: a task that only hits never waits, and would keep the others out.
const CALLS: usize = 8;

/// The same of a burst.
const BURST: usize = 128;

/// Bursts for each round of other calls, which mostly wait for Redis: so the cores are never idle, and
/// what needs a race of a million reads has its chance.
const BURSTS: usize = 8;

/// A task.
pub(super) struct Worker {
    pub(super) rng: Rng,
    pub(super) nodes: Arc<[Node]>,
    pub(super) truth: Arc<Truth>,
    pub(super) tally: Arc<Tally>,
    pub(super) seat: Arc<Seat>,
    pub(super) stop: Arc<AtomicBool>,
    /// After every few calls; zero only lets the others run.
    pub(super) pause: Duration,
}

/// What a task calls next.
struct Call<'a> {
    name: &'static str,
    node: &'a Node,
    cache: &'a Rows,
    place: Place,
}

impl Worker {
    pub(super) async fn run(mut self) {
        let nodes = self.nodes.clone();
        while !self.stop.load(Relaxed) {
            for _ in 0..BURSTS {
                for _ in 0..BURST {
                    let call = self.choose_read(&nodes);
                    self.perform(&call).await;
                }
                self.pause().await;
                if self.stop.load(Relaxed) {
                    break;
                }
            }
            for _ in 0..CALLS {
                let call = self.choose(&nodes);
                self.perform(&call).await;
            }
            self.pause().await;
        }
        self.seat.leave();
    }

    async fn pause(&self) {
        if self.pause.is_zero() {
            yield_now().await;
        } else {
            sleep(self.pause).await;
        }
    }

    /// The next read of a burst.
    fn choose_read<'a>(&mut self, nodes: &'a [Node]) -> Call<'a> {
        let node = &nodes[self.rng.usize(..nodes.len())];
        let table = self.rng.usize(..TABLES);
        Call {
            name: ["get", "lookup", "peek"][self.rng.usize(..3)],
            node,
            cache: &node.caches[table],
            place: Place {
                table,
                key: self.rng.u64(..HOT),
            },
        }
    }

    fn choose<'a>(&mut self, nodes: &'a [Node]) -> Call<'a> {
        let node = &nodes[self.rng.usize(..nodes.len())];
        let table = self.rng.usize(..TABLES);
        let key = match self.rng.u8(..20) {
            // Nowhere.
            0 => ROWS + self.rng.u64(..100_000),
            1..=10 => self.rng.u64(..HOT),
            _ => self.rng.u64(..ROWS),
        };
        let name = match self.rng.u32(..1_000) {
            0..350 => "get",
            350..600 => "lookup",
            600..750 => "peek",
            750..810 => "get_many",
            810..860 => "get_with",
            860..880 => "latest",
            880..885 => "preload",
            885..900 => "get, dropped",
            900..940 => "invalidate",
            940..950 => "invalidate_many",
            950..955 => "invalidate_tag",
            955..956 => "invalidate_all",
            956..962 => "batch.invalidate",
            962..970 => "batch.write",
            970..975 => "write, dropped",
            _ => "write",
        };
        Call {
            name,
            node,
            cache: &node.caches[table],
            place: Place { table, key },
        }
    }

    async fn perform(&mut self, call: &Call<'_>) {
        self.seat.begin(call.name, call.node.index, call.place);
        self.dispatch(call).await;
        self.seat.end();
    }

    async fn dispatch(&mut self, call: &Call<'_>) {
        match call.name {
            "get" | "lookup" | "peek" | "get_with" | "latest" | "get, dropped" => {
                self.read(call).await;
            }
            "get_many" => self.read_many(call).await,
            "preload" => {
                let keys = self.keys(20);
                if let Some(error) = call.cache.preload(keys).await.error {
                    self.tally.error(call.name, &error);
                }
            }
            "write" | "write, dropped" | "batch.write" => self.write(call).await,
            _ => self.invalidate(call).await,
        }
    }

    fn keys(&mut self, most: usize) -> Vec<u64> {
        let first = self.rng.u64(..ROWS);
        let count = self.rng.usize(1..=most) as u64;
        (0..count).map(|at| (first + at * 7) % ROWS).collect()
    }

    async fn read(&mut self, call: &Call<'_>) {
        let (cache, place, key) = (call.cache, call.place, &call.place.key);
        let start = Instant::now();
        let row = match call.name {
            "get" => cache.get(key).await,
            "lookup" => cache.lookup(key).await.map(|found| found.value),
            "latest" => cache.lookup_latest(key).await.map(|found| found.value),
            "get_with" => {
                let load = load(self.truth.clone(), place);
                cache.get_with(key, load).await
            }
            // Whether it hits is not known of an answer without a value.
            "peek" => match cache.peek(key) {
                Some(row) => Ok(Some(row)),
                None => return,
            },
            _ => {
                let patience = ms(self.rng.u64(..5));
                match timeout(patience, cache.get(key)).await {
                    Ok(answer) => answer,
                    Err(_) => return,
                }
            }
        };
        self.judge(call, start, place.key, row);
    }

    async fn read_many(&mut self, call: &Call<'_>) {
        let keys = self.keys(20);
        let start = Instant::now();
        match call.cache.get_many(&keys).await {
            Err(error) => self.tally.error(call.name, &error),
            Ok(rows) => {
                for (key, row) in keys.into_iter().zip(rows) {
                    self.judge(call, start, key, Ok(row));
                }
            }
        }
    }

    fn judge(&self, call: &Call<'_>, start: Instant, key: u64, row: Result<Option<Row>, Error>) {
        let place = Place { key, ..call.place };
        let row = match row {
            Ok(row) => row,
            Err(error) => return self.tally.error(call.name, &error),
        };
        if let Some(row) = &row
            && (row.table, row.key) != (place.table, key)
        {
            self.tally
                .note(format!("{}: {row:?} for {place:?}", call.name));
        }
        let read = Read {
            place,
            start,
            seen: row.map(|row| row.version),
            by: call.node.index,
        };
        let promise = match call.name {
            "latest" => Promise::Latest,
            _ => Promise::Bounded,
        };
        self.tally.read(&self.truth, call.name, &read, promise);
    }
}
