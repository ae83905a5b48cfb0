//! `unstale demo`, as a person runs it who has just found the crate.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use testkit::redis::RedisServer;

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unstale"));
    command.arg("demo").args(args).stdin(Stdio::null());
    command
}

/// Its exit status and what it printed, both streams.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = demo(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// The object in the last line, of a run that must have gone well.
fn result(args: &[&str]) -> (Value, String) {
    let (status, stdout, stderr) = run(args);
    assert_eq!((status, stderr.as_str()), (Some(0), ""), "{stdout}");
    let last = stdout.lines().last().unwrap();
    (serde_json::from_str(last).unwrap(), stdout)
}

#[expect(clippy::panic, reason = "says what is missing")]
fn number(object: &Value, field: &str) -> f64 {
    let value = object.get(field).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no number {field}: {object}"))
}

/// What must be true of every run.
fn check(object: &Value, instances: f64) {
    let of = |field: &str| number(object, field);
    assert_eq!(of("instances"), instances);
    assert_eq!(of("stale_reads"), 0.0, "{object}");
    assert_eq!(of("failed_reads"), 0.0, "{object}");
    for field in [
        "reads",
        "hits",
        "misses",
        "loads",
        "writes",
        "events_published",
        "events_applied",
        "gaps",
        "fences",
        "repairs",
        "bytes_sent",
        "bytes_received",
        "propagation_p50_us",
        "propagation_p99_us",
        "worst_staleness_ms",
        // The contrast, and the proof that the judge sees what is stale.
        "ttl_only_stale_reads",
        "ttl_only_worst_staleness_ms",
    ] {
        assert!(of(field) > 0.0, "{field}: {object}");
    }
    assert!(of("coalesced") >= 0.0);
    assert!(of("loads") < of("reads") / 2.0, "{object}");
    let ratio = of("hits") / (of("hits") + of("misses") + of("coalesced"));
    assert!((of("hit_ratio") - ratio).abs() < 0.001, "{object}");
    assert!(of("worst_staleness_ms") <= of("max_staleness_ms") + 10.0);
    assert!(of("ttl_only_worst_staleness_ms") > of("max_staleness_ms"));
    assert!(of("propagation_p50_us") <= of("propagation_p99_us"));
}

/// What becomes of the one that is cut off.
const CUT: &[&str] = &[
    "instance 2: cut off from the bus",
    "instance 2: degraded",
    "instance 2: its connection is back",
    "instance 2: coherent again",
];

/// And of the one that is silenced while the others write a lot.
const SILENCED: &[&str] = &[
    "instance 3: silenced",
    "instance 3: its connection is back",
    "instance 3: fenced",
    "What it proves",
];

/// In this order.
fn says(stdout: &str, lines: &[&str]) {
    let mut rest = stdout;
    for line in lines {
        let found = rest.split_once(line);
        assert!(
            found.is_some(),
            "no {line:?} where it should be in\n{stdout}"
        );
        rest = found.map_or("", |(_, rest)| rest);
    }
}

#[test]
fn without_anything_installed_no_read_is_stale_and_everything_is_noticed() {
    let (object, stdout) = result(&["--seconds", "4", "--json"]);
    check(&object, 4.0);
    says(&stdout, &["instance 3: its next message is lost"]);
    says(&stdout, CUT);
    says(&stdout, SILENCED);
}

#[test]
fn over_redis_the_connections_are_cut_in_between() {
    let server = RedisServer::start_with(&["--requirepass", "s3cret"]);
    let url = format!("redis://:s3cret@127.0.0.1:{}", server.port());
    let args = ["--seconds", "4", "--json", "--instances", "3"];
    let (object, stdout) = result(&[&args[..], &["--redis", &url]].concat());
    check(&object, 3.0);
    says(&stdout, &["3 instances on Redis"]);
    says(&stdout, CUT);
    says(&stdout, SILENCED);
    assert!(!stdout.contains("s3cret"), "{stdout}");
}

#[test]
fn the_first_instance_serves_its_metrics() {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    let address = format!("127.0.0.1:{}", testkit::redis::free_port());
    let mut child = demo(&["--seconds", "600", "--metrics", &address])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let scrape = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&address)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let mut text = String::new();
    while !text.contains("unstale_hits_total{cache=\"rows\"}") && Instant::now() < deadline {
        text = scrape().unwrap_or_default();
        std::thread::sleep(Duration::from_millis(20));
    }
    testkit::redis::end(&mut child);
    assert!(
        text.contains("unstale_hits_total{cache=\"rows\"}"),
        "{text}"
    );
}

#[test]
fn a_reader_who_leaves_ends_the_demo_without_an_error() {
    let mut child = demo(&["--seconds", "60", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!(
        (status.code(), String::from_utf8_lossy(&stderr).as_ref()),
        (Some(0), "")
    );
}

#[test]
fn bad_usage_and_a_stale_read_end_with_different_statuses() {
    for (args, why) in [
        (&["--instances", "1"][..], "2..=9"),
        (&["--seconds", "0"], "3..=3600"),
        (&["--seconds", "soon"], "soon"),
        (&["--redis", "rediss://localhost"], "redis://"),
        (&["--redis", "localhost:6379"], "redis://"),
        (&["--metrics", "9100"], "9100"),
        (&["--fast"], "--fast"),
    ] {
        let (status, stdout, stderr) = run(args);
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(stderr.contains(why), "{args:?}: {stderr}");
    }
    // No server listens there, and the login stays a secret.
    let url = format!("redis://:s3cret@127.0.0.1:{}", testkit::redis::free_port());
    let (status, _, stderr) = run(&["--redis", &url]);
    assert_eq!(status, Some(2), "{stderr}");
    assert!(stderr.contains("does not answer") && !stderr.contains("s3cret"));
}
