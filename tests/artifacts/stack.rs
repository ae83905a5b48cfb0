//! `make stack`: a fleet under load with a Prometheus that sees it, and nothing left behind.

use std::fs;
use std::io::pipe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use testkit::built::program;
use testkit::redis::end;
use testkit::service;

/// How long anything may take that is only a matter of a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// The script; killed when dropped, and its children with it as far as they are known.
struct Stack {
    script: Child,
    state: PathBuf,
    _dir: TempDir,
}

impl Stack {
    fn start() -> Self {
        Self::start_with(Stdio::null(), &[])
    }

    /// What it says goes there.
    fn start_with(stdout: Stdio, flags: &[&str]) -> Self {
        let dir = TempDir::with_prefix("stack-").unwrap();
        let state = dir.path().join("state.json");
        let script = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/stack.py"))
            .arg("--accounts")
            .arg(service::binary())
            .arg("--unstale")
            .arg(program())
            .args(flags)
            // Nothing is fresh because its time has passed.
            .env("UNSTALE_TTL", "1h")
            .args(["--any-ports", "--rate", "100", "--state"])
            .arg(&state)
            .stdin(Stdio::null())
            .stdout(stdout)
            .spawn()
            .expect("these tests need python3: `scripts/install.sh python`");
        Self {
            script,
            state,
            _dir: dir,
        }
    }

    /// Addresses and process ids, once all is up.
    fn state(&mut self) -> Value {
        self.until("the stack is up", |stack| {
            let text = fs::read_to_string(&stack.state).ok()?;
            serde_json::from_str(&text).ok()
        })
    }

    fn until<T>(&mut self, what: &str, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            let ended = self.script.try_wait().unwrap();
            assert!(ended.is_none(), "the script ended: {ended:?}");
            assert!(Instant::now() < deadline, "never: {what}");
            sleep(Duration::from_millis(50));
        }
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.script), signal).unwrap();
    }

    /// Its exit status, once it has ended.
    fn status(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.script.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if matches!(self.script.try_wait(), Ok(None)) {
            // It ends its children, given the time.
            let _ = kill_process(Pid::from_child(&self.script), Signal::TERM);
            let deadline = Instant::now() + PATIENCE;
            while matches!(self.script.try_wait(), Ok(None)) && Instant::now() < deadline {
                sleep(Duration::from_millis(20));
            }
        }
        end(&mut self.script);
    }
}

fn pids(state: &Value) -> Vec<u64> {
    let pids = state["pids"].as_array().unwrap().iter();
    pids.map(|pid| pid.as_u64().unwrap()).collect()
}

/// What an ended process was called, as long as no other process has its number.
fn runs(pid: u64) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat"));
    status.is_ok_and(|status| !status.contains(") Z "))
}

/// The first value of an instant query.
fn value(prometheus: &str, query: &str) -> Option<f64> {
    let ask = async {
        let http = reqwest::Client::builder().no_proxy().build().ok()?;
        let asked = http.get(format!("{prometheus}/api/v1/query"));
        let reply = asked.query(&[("query", query)]).send().await.ok()?;
        let reply: Value = reply.json().await.ok()?;
        let value = reply.pointer("/data/result/0/value/1")?.as_str()?;
        value.parse().ok()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(ask)
}

#[test]
fn the_stack_fills_prometheus_and_leaves_nothing_behind() {
    let mut stack = Stack::start();
    let state = stack.state();
    let pids = pids(&state);
    // Redis, three instances, the load, Prometheus.
    assert_eq!(pids.len(), 6, "{state}");
    assert!(pids.iter().all(|pid| runs(*pid)), "{state}");
    let prometheus = state["prometheus"].as_str().unwrap().to_owned();
    stack.until("every instance is read, and hits", |_| {
        let busy = "count(sum by (instance) (rate(unstale_hits_total[30s])) > 0)";
        value(&prometheus, busy).filter(|instances| *instances == 3.0)
    });
    stack.until("Prometheus has the rules", |_| {
        value(&prometheus, "job_cache:unstale_hits:ratio_rate5m")
    });
    stack.send(Signal::INT); // Ctrl-C
    assert_eq!(stack.status(), Some(0));
    assert!(!pids.iter().any(|pid| runs(*pid)), "{state}");
}

/// What a command prints that the stack says to type.
fn typed(command: &Value) -> String {
    let mut bash = Command::new("bash");
    let command = command.as_str().unwrap();
    let output = bash.args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The children of a process.
fn children(of: u64) -> Vec<u64> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent = format!("\nPPid:\t{of}\n");
    let mine = |pid: &u64| {
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        status.is_ok_and(|status| status.contains(&parent))
    };
    numbers.filter(mine).collect()
}

#[test]
fn a_row_that_a_stranger_changes_is_fresh_on_every_instance_of_a_stack_with_a_relay() {
    let mut stack = Stack::start_with(Stdio::null(), &["--relay"]);
    let state = stack.state();
    let mut pids = pids(&state);
    // A relay and PostgreSQL as well.
    assert_eq!(pids.len(), 8, "{state}");
    assert!(pids.iter().all(|pid| runs(*pid)), "{state}");
    pids.extend(children(*pids.last().unwrap()));
    assert!(pids.len() > 8, "PostgreSQL is many processes: {pids:?}");
    let prometheus = state["prometheus"].as_str().unwrap().to_owned();
    stack.until("the relay is scraped", |_| {
        value(&prometheus, "up{job=\"relay\"} == 1")
    });
    let (change, show) = (&state["change"], &state["show"]);
    let old = typed(show);
    assert_eq!(old.matches("\"balance\":100").count(), 3, "{old}");
    // Only a mark lets an entry be served for longer than the bound, which is 2 s.
    let ages = show.as_str().unwrap().replace("curl -s", "curl -si");
    let ages = Value::from(ages);
    stack.until("every instance has had the row for long", |_| {
        let shown = typed(&ages);
        let old = shown.lines().filter_map(|line| line.strip_prefix("age: "));
        let old = old.filter(|age| age.trim().parse::<u64>().unwrap() > 4);
        (old.count() == 3).then_some(())
    });
    assert_eq!(typed(change), "UPDATE 1\n");
    stack.until("every instance shows the change", |_| {
        let shown = typed(show);
        (shown.matches("\"balance\":101").count() == 3).then_some(())
    });
    stack.send(Signal::INT); // Ctrl-C
    assert_eq!(stack.status(), Some(0));
    assert!(!pids.iter().any(|pid| runs(*pid)), "{state}");
}

#[test]
fn a_terminal_that_is_closed_leaves_nothing_behind() {
    let mut stack = Stack::start();
    let state = stack.state();
    stack.send(Signal::HUP);
    assert_eq!(stack.status(), Some(0));
    assert!(!pids(&state).iter().any(|pid| runs(*pid)), "{state}");
}

/// As `make stack | head` with a reader that has seen enough.
#[test]
fn a_reader_that_is_gone_leaves_nothing_behind() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut stack = Stack::start_with(writer.into(), &[]);
    assert_eq!(stack.status(), Some(0));
    let state = fs::read_to_string(&stack.state).unwrap();
    let state = serde_json::from_str(&state).unwrap();
    assert_eq!(pids(&state).len(), 6, "{state}");
    assert!(!pids(&state).iter().any(|pid| runs(*pid)), "{state}");
}

#[test]
fn a_stack_that_loses_a_process_ends() {
    let mut stack = Stack::start();
    let state = stack.state();
    let pids = pids(&state);
    let redis = i32::try_from(*pids.last().unwrap()).unwrap();
    kill_process(Pid::from_raw(redis).unwrap(), Signal::KILL).unwrap();
    assert_eq!(stack.status(), Some(1));
    assert!(!pids.iter().any(|pid| runs(*pid)), "{state}");
}
