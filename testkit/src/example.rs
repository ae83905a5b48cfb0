//! The examples, run to their end.

use std::env;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tokio::time::timeout;

use super::built;

/// An example ends within seconds; the rest is for a busy machine.
const RUN_TIMEOUT: Duration = Duration::from_secs(300);

/// Runs an example to its end, which must be a success.
pub async fn run(name: &str, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(built::example(name));
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("UNSTALE_") {
            command.env_remove(variable);
        }
    }
    command.args(args).stdin(Stdio::null());
    command.envs(variables.iter().copied());
    let mut command = tokio::process::Command::from(command);
    let run = command.kill_on_drop(true).output();
    let output = timeout(RUN_TIMEOUT, run).await.expect("it ends by itself");
    let output = output.expect("it can be executed");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    output
}

/// Runs an example, and expects these lines, in this order. Returns all that was printed.
pub async fn shows(
    name: &str,
    args: &[&str],
    variables: &[(&str, &str)],
    lines: &[&str],
) -> Output {
    let output = run(name, args, variables).await;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let mut printed = stdout.lines();
    for line in lines {
        assert!(
            printed.any(|it| it == *line),
            "{name} does not print `{line}` where it should:\n{stdout}{stderr}"
        );
    }
    output
}
