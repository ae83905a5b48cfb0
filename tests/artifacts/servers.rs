//! The servers that the tests run on are those that the documents name, and what is skipped is counted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::documents::{read, section};
use testkit::built::root;
use testkit::program::{on, run as run_program};
use testkit::python::run;
use testkit::redis::RedisServer;

const ADVICE: &str = "these tests need python3: `scripts/install.sh python`";

/// What the script prints.
fn script(arguments: &[&str]) -> String {
    let mut command = Command::new("python3");
    command.arg(root().join("scripts/servers.py"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    run(command.args(arguments), ADVICE)
}

/// The pinned servers: how the script calls each, and product and version.
fn pinned() -> BTreeSet<(String, String)> {
    let list = script(&["list"]);
    let lines = list.lines().map(|line| line.split_once(' ').unwrap());
    lines
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect()
}

#[test]
fn the_documents_name_the_servers_that_are_tested_and_no_other() {
    let document = read("docs/redis.md");
    let rows = section(&document, "servers").lines().skip(2);
    let first = rows.map(|row| row.split('|').nth(1).unwrap().trim());
    // The system's own is whatever the system has.
    let named: BTreeSet<_> = first.filter(|server| !server.contains("(Debian")).collect();
    let pinned = pinned();
    let versions: BTreeSet<_> = pinned.iter().map(|(_, version)| version.as_str()).collect();
    assert_eq!(named, versions);
}

#[test]
fn make_runs_the_tests_on_every_pinned_server() {
    let make = read("Makefile");
    let names = make.split_once("\nSERVERS ?= ").unwrap().1;
    let names: BTreeSet<_> = names.lines().next().unwrap().split(' ').collect();
    let pinned = pinned();
    let pinned: BTreeSet<_> = pinned.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, pinned);
}

/// What the script makes of a report as nextest writes it.
fn table(report: &Path) -> String {
    let code = "import sys; sys.path.insert(0, sys.argv[1]); import servers; \
                report = servers.Report('Redis 9.9.9'); report.read(sys.argv[2]); \
                print(servers.table([report]))";
    let mut command = Command::new("python3");
    command
        .args(["-c", code])
        .arg(root().join("scripts"))
        .arg(report);
    run(command.env("PYTHONDONTWRITEBYTECODE", "1"), ADVICE)
}

#[test]
fn the_table_counts_what_passed_what_failed_and_what_was_skipped_with_its_reason() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("junit.xml");
    let report = r#"<testsuites name="nextest-run">
        <testsuite name="unstale::redis">
            <testcase name="cluster::a"><system-err>skipped: this server was built without TLS
            </system-err></testcase>
            <testcase name="cluster::tier::b"/>
            <testcase name="start::c"><failure message="no">no</failure></testcase>
        </testsuite>
        <testsuite name="unstale"><testcase name="bus::redis::tests::tier::d"/></testsuite>
        <testsuite name="testkit"><testcase name="tests::e"/></testsuite>
    </testsuites>"#;
    fs::write(&file, report).unwrap();
    let table = table(&file);
    let lines: Vec<_> = table.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "Redis 9.9.9",
            "bus, tier       1 passed",
            "redis, cluster  1 passed, 1 skipped",
            "redis, start    1 failed",
            "testkit         1 passed",
            "skipped on Redis 9.9.9: redis, cluster: cluster::a: this server was built without TLS",
            "FAILED on Redis 9.9.9: redis, start: start::c",
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_refuses_a_server_that_is_too_old_and_says_which_is_not() {
    let server = RedisServer::start_too_old();
    let ran = run_program(&["doctor"], &on(&server.url()));
    assert_eq!(ran.status, Some(1), "{ran:?}");
    for words in ["6.2.5", "use Redis 7.0 or later"] {
        assert!(ran.stdout.contains(words), "{words}: {ran:?}");
    }
}
