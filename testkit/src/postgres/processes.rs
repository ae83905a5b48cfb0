//! The postmaster and its children, each of which is a process group of its own.

use std::fs;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::redis::{end, signal};

/// How long a process may take to notice a signal that it cannot refuse.
const TIMEOUT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_micros(200);

/// Stops all by SIGSTOP, and returns when none runs.
pub fn pause(postmaster: &mut Child) {
    for pid in halt(postmaster) {
        send(pid, Signal::STOP);
        wait(pid, |state| matches!(state, 'T' | 't' | 'Z'));
    }
}

/// SIGCONT for all, the postmaster last; harmless for those that run.
pub fn resume(postmaster: &mut Child) {
    if ended(postmaster) {
        return;
    }
    for pid in children(Pid::from_child(postmaster)) {
        send(pid, Signal::CONT);
    }
    signal(postmaster, Signal::CONT);
}

/// SIGKILL for all; returns when they are gone. Harmless when the postmaster has ended before.
pub fn crash(postmaster: &mut Child) {
    let children = halt(postmaster);
    for &pid in &children {
        send(pid, Signal::KILL);
    }
    for pid in children {
        wait(pid, |state| state == 'Z');
    }
    end(postmaster);
}

pub fn ended(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

/// Stops the postmaster, which then starts no more children, and buries none: their numbers stay
/// theirs until it goes on. Returns the children.
fn halt(postmaster: &mut Child) -> Vec<Pid> {
    if ended(postmaster) {
        return Vec::new();
    }
    signal(postmaster, Signal::STOP);
    let pid = Pid::from_child(postmaster);
    wait(pid, |state| matches!(state, 'T' | 't' | 'Z'));
    children(pid)
}

/// The processes whose parent this is.
pub fn children(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").expect("these tests need /proc");
    let numbers = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw);
    numbers
        .filter(|&pid| status(pid).is_some_and(|(_, of)| of == parent.as_raw_nonzero().get()))
        .collect()
}

/// The state of a process, and its parent.
pub fn status(pid: Pid) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// Waits until a process is in such a state, or gone.
fn wait(pid: Pid, so: impl Fn(char) -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while status(pid).is_some_and(|(state, _)| !so(state)) {
        assert!(Instant::now() < deadline, "process {pid} heeds no signal");
        thread::sleep(POLL);
    }
}

/// Sends a signal to a child of the postmaster, which may be gone while that runs.
fn send(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, signal);
}
