//! Keys, and the order in which they are asked for.

use std::thread;

use tokio::runtime::Handle;

use crate::thread_cpu;

/// Skew of the requests, as web workloads have it.
const ZIPF: f64 = 0.99;

/// Keys of 24 bytes.
pub fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("account:{n:016}")).collect()
}

/// Requests for keys of which few are asked for often.
#[derive(Debug)]
pub struct Workload {
    pub keys: Vec<String>,
    /// Indices into `keys`.
    asked: Vec<u32>,
}

impl Workload {
    pub fn zipf(count: usize, requests: usize) -> Self {
        let weights = (1..=count).map(|rank| 1.0 / (rank as f64).powf(ZIPF));
        let sums: Vec<f64> = weights
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        let mut random = fastrand::Rng::with_seed(7);
        // The popular keys lie anywhere in memory.
        let mut places: Vec<u32> = (0..count as u32).collect();
        random.shuffle(&mut places);
        let all = sums[count - 1];
        let draw = |_| places[sums.partition_point(|sum| *sum < random.f64() * all)];
        Self {
            keys: keys(count),
            asked: (0..requests).map(draw).collect(),
        }
    }

    /// The requests, beginning with another one for each thread.
    pub fn requests(&self, thread: usize, threads: usize) -> impl Iterator<Item = &str> {
        let (before, after) = self.asked.split_at(self.asked.len() / threads * thread);
        let asked = after.iter().chain(before);
        asked.map(|index| self.keys[*index as usize].as_str())
    }

    /// Nanoseconds of CPU that one request takes when `threads` threads do them all at once.
    pub fn cost(&self, threads: usize, run: &(dyn Fn(&Self, usize, usize) + Sync)) -> f64 {
        let nanos: f64 = thread::scope(|scope| {
            let spawn = |thread| {
                let runtime = Handle::current();
                scope.spawn(move || {
                    let _in_runtime = runtime.enter();
                    let began = thread_cpu();
                    run(self, thread, threads);
                    (thread_cpu() - began).as_nanos() as f64
                })
            };
            let all: Vec<_> = (0..threads).map(spawn).collect();
            all.into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum()
        });
        nanos / (self.asked.len() * threads) as f64
    }
}
