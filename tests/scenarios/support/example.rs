//! Running the examples themselves.

use std::env;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tokio::time::timeout;

/// An example ends within seconds; the rest is for a busy machine.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `target/<profile>/examples/<name>` to its end, which must be a success.
/// `cargo test` and `cargo nextest run` build it, `cargo test --test scenarios` alone does not.
pub(crate) async fn run(name: &str, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let test = env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps");
    let binary = profile.join("examples").join(name);
    assert!(
        binary.is_file(),
        "{} is missing: cargo build --examples --all-features",
        binary.display()
    );
    let mut command = Command::new(binary);
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
pub(crate) async fn shows(
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
