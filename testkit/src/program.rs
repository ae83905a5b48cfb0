//! The program `unstale`, run as an operator runs it.

#![expect(clippy::panic, reason = "a fixture fails its test")]

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::built;

/// The program with nothing of `UNSTALE_*` but what a test sets.
pub fn program(args: &[&str], vars: &[(&str, &str)]) -> Command {
    let mut command = Command::new(built::program());
    command.env_clear().envs(vars.iter().copied()).args(args);
    command.stdin(Stdio::null());
    command
}

/// What a run printed, and its exit status.
#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            status: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs the program to its end; needs a runtime with several threads.
pub fn run(args: &[&str], vars: &[(&str, &str)]) -> Ran {
    tokio::task::block_in_place(|| program(args, vars).output().unwrap().into())
}

/// As [`run`], in the namespace of the tests.
pub fn run_on(url: &str, args: &[&str]) -> Ran {
    run(args, &on(url))
}

/// The variables that name a server and the namespace of the tests.
pub fn on(url: &str) -> [(&'static str, &str); 2] {
    [("UNSTALE_REDIS_URL", url), ("UNSTALE_NAMESPACE", "shop")]
}
