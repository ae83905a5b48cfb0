//! A judge that a hang cannot stop: a thread of its own looks at every task and every worker.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio, id};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use tokio::runtime::{Handle, RuntimeMetrics};

use super::truth::Place;

/// How long one call, or the silence of a worker, may last. Every call has bounds of its own, some
/// seconds altogether; the rest is for a machine that is busy with something else.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How long the debugger may take to read the program's symbols.
const DEBUGGER: Duration = Duration::from_secs(120);

/// The innermost frames of a thread that are shown, and how much of each: names of futures are long.
const FRAMES: usize = 24;
const WIDTH: usize = 160;

/// Where a task says what it does.
#[derive(Debug, Default)]
pub(super) struct Seat(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Idle,
    Calls {
        name: &'static str,
        instance: usize,
        place: Place,
        since: Instant,
    },
    Left,
}

impl Seat {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, name: &'static str, instance: usize, place: Place) {
        *self.state() = State::Calls {
            name,
            instance,
            place,
            since: Instant::now(),
        };
    }

    pub(super) fn end(&self) {
        *self.state() = State::Idle;
    }

    /// The task has ended.
    pub(super) fn leave(&self) {
        *self.state() = State::Left;
    }

    pub(super) fn has_left(&self) -> bool {
        matches!(*self.state(), State::Left)
    }

    /// The call that has lasted for longer than this, in words.
    pub(super) fn hangs(&self, patience: Duration) -> Option<String> {
        let State::Calls {
            name,
            instance,
            place,
            since,
        } = *self.state()
        else {
            return None;
        };
        let lasts = since.elapsed();
        (lasts > patience).then(|| {
            let cache = super::fleet::NAMES[place.table];
            let key = place.key;
            format!("{name} of {cache:?}, key {key}, on instance {instance}: for {lasts:.0?}")
        })
    }
}

/// Sees whether every worker of a runtime turns.
pub(super) struct Workers {
    metrics: RuntimeMetrics,
    last: Vec<(Duration, u64, Instant)>,
}

impl Workers {
    pub(super) fn of(runtime: &Handle) -> Self {
        let metrics = runtime.metrics();
        let worker = |at| {
            let busy = metrics.worker_total_busy_duration(at);
            (busy, metrics.worker_park_unpark_count(at), Instant::now())
        };
        let last = (0..metrics.num_workers()).map(worker).collect();
        Self { metrics, last }
    }

    /// The workers that have stood still for longer than this, in words.
    pub(super) fn hang(&mut self, patience: Duration) -> Vec<String> {
        let mut standing = Vec::new();
        for (at, last) in self.last.iter_mut().enumerate() {
            let busy = self.metrics.worker_total_busy_duration(at);
            let parks = self.metrics.worker_park_unpark_count(at);
            // An odd count is a worker that has nothing to do.
            if (busy, parks) != (last.0, last.1) || !parks.is_multiple_of(2) {
                *last = (busy, parks, Instant::now());
            } else if last.2.elapsed() > patience {
                standing.push(format!(
                    "worker {at} has not turned for {:.0?}",
                    last.2.elapsed()
                ));
            }
        }
        standing
    }
}

/// Where the threads of this process stand, if there is a debugger that may look.
pub(super) fn stacks() -> String {
    let Ok(file) = NamedTempFile::new() else {
        return String::new();
    };
    // Into a file: this process is stopped meanwhile, and could read no pipe.
    let out = file.reopen().map(Stdio::from);
    let gdb = Command::new("gdb")
        .args(["-p", &id().to_string(), "-batch", "-nx"])
        .args(["-ex", &format!("thread apply all bt {FRAMES}")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(out.unwrap_or_else(|_| Stdio::null()))
        .spawn();
    let Ok(mut gdb) = gdb else {
        return "no gdb here, so no stacks".to_owned();
    };
    let began = Instant::now();
    while matches!(gdb.try_wait(), Ok(None)) {
        if began.elapsed() > DEBUGGER {
            let _ = gdb.kill();
            let _ = gdb.wait();
        }
        thread::sleep(Duration::from_millis(100));
    }
    let all = fs::read_to_string(file.path()).unwrap_or_default();
    // What the threads do that are in this crate.
    let mut text = String::from("where the threads stand:");
    for stack in all
        .split("\n\n")
        .filter(|stack| stack.contains("unstale::"))
    {
        for line in stack.lines().take(1 + FRAMES) {
            let line: String = line.chars().take(WIDTH).collect();
            let _ = write!(text, "\n{line}");
        }
    }
    text
}

/// Resident bytes of this process; zero where the system does not say.
pub(super) fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    number.map_or(0, |kilobytes| kilobytes << 10)
}

#[test]
fn a_call_that_stands_still_is_seen() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let (started, ready) = std::sync::mpsc::channel();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let mut workers = Workers::of(runtime.handle());
    runtime.spawn(async move {
        let _ = started.send(());
        let _ = held.recv();
    });
    ready.recv().unwrap();
    assert!(workers.hang(PATIENCE).is_empty(), "it has just turned");
    let deadline = Instant::now() + PATIENCE;
    let until = |yes: &mut dyn FnMut() -> bool| {
        while !yes() {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(1));
        }
    };
    until(&mut || workers.hang(Duration::ZERO).len() == 1);
    drop(release);
    until(&mut || workers.hang(Duration::ZERO).is_empty());

    let seat = Seat::default();
    seat.begin("get", 1, Place { table: 0, key: 7 });
    assert_eq!(seat.hangs(PATIENCE), None);
    until(&mut || seat.hangs(Duration::ZERO).is_some());
    let text = seat.hangs(Duration::ZERO).unwrap();
    assert!(
        text.starts_with("get of \"ahead\", key 7, on instance 1"),
        "{text}"
    );
    seat.leave();
    assert!(seat.hangs(Duration::ZERO).is_none() && seat.has_left());
}
