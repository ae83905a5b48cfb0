//! More applications than fit.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant as Moment, sleep};
use unstale::{BoxError, Instance, LocalBus, Settings};

use super::application;
use super::tokens::{Credentials, Grant, Issuer, Shares, Tokens};

const CAPACITY: usize = 10_000;

/// Callers at the same time.
const CALLERS: usize = 32;

/// Says that this process was started for one test alone.
const ALONE: &str = "SCENARIO_ALONE";

/// Tokens of fifteen seconds, without a network: long enough for ten thousand to live at once on a slow
/// machine, too.
#[derive(Default)]
struct Mint(AtomicU64);

impl Issuer for Mint {
    async fn issue(&self, credentials: Credentials) -> Result<Option<Grant>, BoxError> {
        let number = self.0.fetch_add(1, SeqCst);
        let corp = credentials.corp;
        let answer = format!(r#"{{"access_token":"{number}-of-{corp}","expires_in":"15"}}"#);
        Ok(Some(serde_json::from_str(&answer)?))
    }
}

/// Memory of this process that is not the machine's to give to others, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

/// Asks for the tokens of these applications, each once.
async fn ask(tokens: &Tokens, applications: std::ops::Range<usize>) {
    let mut callers = JoinSet::new();
    for first in 0..CALLERS {
        let (tokens, applications) = (tokens.clone(), applications.clone());
        callers.spawn(async move {
            for n in applications.skip(first).step_by(CALLERS) {
                let credentials = application(&format!("corp-{n}"), &format!("secret-of-{n}"));
                assert!(tokens.get(&credentials).await.unwrap().is_some());
            }
        });
    }
    callers.join_all().await;
}

/// In this process alone: memory after the first fifty thousand and after all of them, and what is
/// left of them when they have ended and no caller asks.
async fn flood(applications: usize) {
    let instance = Instance::start_on(&LocalBus::default(), Settings::default()).await;
    let instance = instance.unwrap();
    let mint = Arc::new(Mint::default());
    let tokens = Tokens::build(&instance, mint.clone(), Shares::Instance).unwrap();
    let (empty, began) = (resident(), Moment::now());
    ask(&tokens, 0..5 * CAPACITY).await;
    let early = resident();
    let mut most = tokens.cache().stats().entries;
    for part in (5 * CAPACITY..applications)
        .collect::<Vec<_>>()
        .chunks(CAPACITY)
    {
        ask(&tokens, part[0]..part[part.len() - 1] + 1).await;
        most = most.max(tokens.cache().stats().entries);
    }
    let late = resident();
    eprintln!(
        "{applications} applications in {:?}: at most {most} entries, {empty} KiB, {early} KiB, {late} KiB",
        began.elapsed()
    );
    assert_eq!(mint.0.load(SeqCst), applications as u64);
    assert!(most > 5_000 && most <= CAPACITY as u64, "{most} entries");
    // Ten thousand entries of some 400 bytes; the allocator's own needs are the rest.
    assert!(late < early + 4 * 1_024, "from {early} to {late} KiB");
    assert!(late < empty + 32 * 1_024, "from {empty} to {late} KiB");
    let stats = tokens.cache().stats();
    assert!(stats.evictions > 0);
    // Fifteen seconds, the reaper's one, and a slow machine's.
    let deadline = Moment::now() + Duration::from_secs(120);
    while tokens.cache().stats().entries > 0 {
        assert!(
            Moment::now() < deadline,
            "{} are left",
            tokens.cache().stats().entries
        );
        sleep(Duration::from_millis(50)).await;
    }
    // Nothing has been read meanwhile.
    let after = tokens.cache().stats();
    assert_eq!((after.misses, after.hits), (stats.misses, stats.hits));
    let reaped = super::metric(&instance, r#"unstale_reaped_total{cache="tokens"}"#);
    assert!(reaped > 5_000, "{reaped} reaped");
}

/// Runs a test of this binary in a process of its own; true if this is that process.
fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = format!("third_party_tokens::many::{test}");
    command.args([&test, "--exact", "--include-ignored", "--nocapture"]);
    let output = command.env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("applications in"), "it did not run: {text}");
    eprintln!("{text}");
    false
}

fn run(applications: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(flood(applications));
}

#[test]
fn scenario_tokens_of_many_applications_take_bounded_memory() {
    if alone("scenario_tokens_of_many_applications_take_bounded_memory") {
        run(150_000);
    }
}

/// For `make soak`.
#[test]
#[ignore = "takes half a minute"]
fn scenario_tokens_of_a_million_applications_take_bounded_memory() {
    if alone("scenario_tokens_of_a_million_applications_take_bounded_memory") {
        run(1_000_000);
    }
}
