//! The program itself runs, ends, and shows what it says it shows.

use std::env;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// An example takes a few seconds at most; the rest is for a busy machine.
const RUN_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs `target/<profile>/examples/<name>`, and expects status 0 and these lines, in this order.
/// `cargo test` and `cargo nextest run` build it, `cargo test --test scenarios` alone does not.
pub(crate) async fn shows(name: &str, args: &[&str], variables: &[(&str, &str)], lines: &[&str]) {
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
    command.args(args).envs(variables.iter().copied());
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(RUN_TIMEOUT, run).await.expect("it ends by itself");
    let output = output.expect("it can be executed");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    let mut printed = stdout.lines();
    for line in lines {
        assert!(
            printed.any(|it| it == *line),
            "{name} does not print `{line}` where it should:\n{stdout}{stderr}"
        );
    }
}
