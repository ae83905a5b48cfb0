//! A relay as a process: started, watched by what it prints, and ended.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::Signal;
use testkit::program::program;
use testkit::redis::{end, freeze, signal};

use crate::support::over_redis::until;

/// Killed when dropped.
pub(crate) struct Relay {
    child: Mutex<Child>,
    lines: Lines,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Relay {
    pub(crate) fn start(rules: &Path, variables: &[(&'static str, String)]) -> Self {
        let rules = rules.display().to_string();
        let variables: Vec<(&str, &str)> = variables.iter().map(|(k, v)| (*k, &**v)).collect();
        let mut child = program(&["relay", "--rules", &rules], &variables)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Lines::default();
        read(child.stdout.take().unwrap(), &lines);
        read(child.stderr.take().unwrap(), &lines);
        Self {
            child: Mutex::new(child),
            lines,
        }
    }

    /// What it has printed so far, on standard output and standard error.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clone()
    }

    /// How many lines have this text.
    pub(crate) fn says(&self, text: &str) -> usize {
        let lines = self.lines();
        lines.iter().filter(|line| line.contains(text)).count()
    }

    pub(crate) async fn until_says(&self, text: &str) {
        until(&format!("the relay says {text}"), async || {
            assert!(
                !self.has_ended() || self.says(text) > 0,
                "{:?}",
                self.lines()
            );
            self.says(text) > 0
        })
        .await;
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child().id()
    }

    pub(crate) fn kill(&self) {
        end(&mut self.child());
    }

    /// SIGSTOP, and waits until no thread runs.
    pub(crate) fn freeze(&self) {
        freeze(&mut self.child());
    }

    pub(crate) fn resume(&self) {
        signal(&mut self.child(), Signal::CONT);
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn terminate(&self) -> ExitStatus {
        signal(&mut self.child(), Signal::TERM);
        self.ended().await
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&self) -> ExitStatus {
        until("the relay ends", async || self.has_ended()).await;
        self.child().wait().unwrap()
    }

    fn has_ended(&self) -> bool {
        self.child().try_wait().unwrap().is_some()
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read(from: impl Read + Send + 'static, to: &Lines) {
    let to = to.clone();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            to.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
}
