//! Runs a schedule on a thread of its own, and notices that it hangs.
//!
//! Time is virtual in there, so nothing can wake a thread that sleeps: it waits for a lock that it
//! holds, or every task waits and no timer runs. A thread that turns without end makes no progress.

use std::cell::RefCell;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

/// How often the thread is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Looks in a row that find the thread asleep without it having run in between. A thread that only gets
/// no processor is not asleep, however busy the machine is.
const ASLEEP: u32 = 60;

/// Real time without a step: on every machine a step takes milliseconds.
const STUCK: Duration = Duration::from_secs(120);

/// It will never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hangs;

std::thread_local! {
    static STEPS: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The run goes on.
pub(crate) fn step() {
    STEPS.with_borrow(|steps| {
        if let Some(steps) = steps {
            steps.fetch_add(1, Relaxed);
        }
    });
}

/// Writes down every panic of a run's thread, whichever task it ends. What code of the user does on
/// purpose (`mind`) unwinds without one.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let _ = PANICS.try_with(|panics| {
                let panic = format!("panicked: {info}");
                panics.borrow_mut().push(panic);
            });
            before(info);
        }));
    });
}

/// The panics of this thread.
pub(crate) fn take_panics() -> Vec<String> {
    PANICS.take()
}

/// Runs it; a thread that hangs is left behind, for nothing can end it.
pub(crate) fn watched<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Hangs> {
    note_panics();
    let (send, receive) = channel();
    let (tell, folder) = channel();
    let steps = Arc::new(AtomicU64::new(0));
    let counted = steps.clone();
    let runner = thread::spawn(move || {
        STEPS.set(Some(counted));
        let _ = tell.send(fs::read_link("/proc/thread-self").ok());
        let _ = send.send(run());
    });
    let folder = folder.recv().ok().flatten();
    let mut asleep = (0, None);
    let mut progress = (Instant::now(), 0);
    loop {
        match receive.recv_timeout(LOOK) {
            Ok(ran) => return Ok(ran),
            Err(RecvTimeoutError::Disconnected) => match runner.join() {
                Ok(()) => unreachable!("it sends before it ends"),
                Err(panic) => std::panic::resume_unwind(panic),
            },
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = folder.as_ref().and_then(|folder| switches_asleep(folder));
        asleep = match now {
            Some(_) if now == asleep.1 => (asleep.0 + 1, now),
            _ => (0, now),
        };
        let done = steps.load(Relaxed);
        if done != progress.1 {
            progress = (Instant::now(), done);
        }
        if asleep.0 >= ASLEEP || progress.0.elapsed() > STUCK {
            return Err(Hangs);
        }
    }
}

/// How often a thread has gone to sleep, if it sleeps now.
fn switches_asleep(folder: &std::path::Path) -> Option<u64> {
    let status = fs::read_to_string(std::path::Path::new("/proc").join(folder).join("status"));
    let status = status.ok()?;
    let field = |name: &str| {
        let mut lines = status.lines();
        lines
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let sleeps = field("State:")?.starts_with('S');
    let switches = field("voluntary_ctxt_switches:")?.parse().ok()?;
    sleeps.then_some(switches)
}
