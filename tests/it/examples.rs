//! The small programs under `examples/` run, end by themselves, and show what they say they show.

use std::env;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::timeout;

/// An example sleeps for a fraction of a second at most; the rest is for a busy machine.
const RUN_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs `target/<profile>/examples/<name>`, and expects status 0 and these lines, in this order.
/// `cargo test` and `cargo nextest run` build it, `cargo test --test it` alone does not.
async fn shows(name: &str, args: &[&str], lines: &[&str]) {
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
    let mut command = tokio::process::Command::from(command);
    let run = command.kill_on_drop(true).output();
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

#[tokio::test]
async fn quick_start_misses_hits_and_reads_its_write() {
    let lines = [
        "read:  Some(\"Ada\") (Miss)",
        "read:  Some(\"Ada\") (Hit)",
        "wrote: it was Some(\"Ada\")",
        "read:  Some(\"Ada Lovelace\") (Miss)",
    ];
    shows("quick_start", &[], &lines).await;
}

#[tokio::test]
async fn tags_and_batches_drop_what_they_name() {
    let lines = [
        "loaded: users [1, 2, 3, 4], teams [0, 1]",
        "team 1 renamed: users [2, 4], teams [0, 1]",
        "user 2 left team 0: users [4], teams [1]",
    ];
    shows("tags_and_batch", &[], &lines).await;
}

#[tokio::test]
async fn a_cancelled_write_reaches_the_peer() {
    let lines = [
        "the reader sees Some(100)",
        "the write was cancelled: true",
        "the reader sees Some(120)",
        "the database said no: out of stock",
    ];
    shows("crash_safe_write", &[], &lines).await;
}

#[tokio::test]
async fn threads_peek_and_invalidate() {
    let lines = [
        "peek 3: Some(9)",
        "peek 4: None",
        "invalidated 2: None",
        "invalidated and loaded 3: Some(9)",
    ];
    shows("blocking_code", &[], &lines).await;
}

#[tokio::test]
async fn a_handler_says_how_it_was_answered() {
    let lines = ["Hello, ada! x-cache: miss", "Hello, ada! x-cache: hit"];
    shows("axum_state", &["--once"], &lines).await;
}

#[tokio::test]
async fn a_lost_message_is_found_out_within_the_bound() {
    let lines = [
        "message lost: the second instance has Some(100)",
        "it found out within 2s: true",
    ];
    shows("your_own_tests", &[], &lines).await;
}
