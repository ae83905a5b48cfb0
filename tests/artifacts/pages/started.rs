//! What docs/getting-started.md has a reader type: the fleet of one variable, the reference service, the
//! writer in Python, the list of examples.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Instant;

use testkit::redis::RedisServer;
use testkit::resp::Client;
use testkit::shell::Shell;

use super::{POLL, RECOVERY};
use crate::documents::read;

/// `cargo add`, by the real cargo, in a project of its own: the package and its features are there.
pub(super) fn install([lines]: [Vec<&str>; 1]) {
    let mut shell = Shell::start(&[]);
    if !lines[0].starts_with("cargo new") {
        shell.succeed("cargo new shop && cd shop");
    }
    for line in lines {
        shell.succeed(line);
    }
    let manifest = shell.succeed("cat Cargo.toml");
    let added = manifest.lines().find(|line| line.starts_with("unstale = "));
    let added = added.expect("a dependency");
    assert!(added.contains("features = [\"derive\"]"), "{added}");
}

pub(super) fn one_variable([export]: [Vec<&str>; 1]) {
    let redis = RedisServer::start();
    let mut shell = Shell::start(&[("6379", redis.port())]);
    for line in export {
        shell.succeed(line);
    }
    assert!(shell.succeed("$EXAMPLES/quick_start").contains("wrote"));
    assert_eq!(events(&redis), 1, "the write was not published");
}

/// What a page has a reader write into Cargo.toml: this version, with features that it has.
pub(super) fn dependencies([lines]: [Vec<&str>; 1]) {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let added: toml::Table = lines.join("\n").parse().unwrap();
    let added = &added["dev-dependencies"]["unstale"];
    let version = manifest["package"]["version"].as_str().unwrap();
    assert!(version.starts_with(added["version"].as_str().unwrap()));
    let features = added["features"].as_array().unwrap();
    for feature in features {
        assert!(
            manifest["features"]
                .get(feature.as_str().unwrap())
                .is_some(),
            "{feature:?}"
        );
    }
}

/// Events in the journal, which begins with a placeholder.
fn events(redis: &RedisServer) -> i64 {
    let length = Client::connect(redis.port()).cmd(&["XLEN", "us:{default:0}j"]);
    length.int().unwrap() - 1
}

pub(super) fn pair([start, session, outage]: [Vec<&str>; 3]) {
    assert_eq!(start.len(), 3, "the page says: three commands");
    let mut shell = Shell::start(&[]);
    // One after the other without a pause, as from a clipboard.
    let printed: Vec<_> = start.iter().map(|line| shell.succeed(line)).collect();
    let last = &printed[2];
    assert!(
        last.contains("x-cache: miss") && last.contains("\"balance\":100"),
        "{last}"
    );

    for line in session {
        let (command, comment) = line.split_once('#').unwrap_or((line, ""));
        let printed = shell.succeed(command);
        match comment.trim() {
            "x-cache: hit" => assert!(printed.contains("x-cache: hit"), "{printed}"),
            "x-cache: miss: it was invalidated; balance 250" => {
                assert!(printed.contains("x-cache: miss"), "{printed}");
                assert!(printed.contains("\"balance\":250"), "{printed}");
            }
            "coherent; verified age of each lane" => {
                assert!(printed.contains("\"state\":\"coherent\""), "{printed}");
                assert!(printed.contains("\"verified_age_ms\":["), "{printed}");
            }
            "" if command.contains("PUT") => assert!(printed.contains("250"), "{printed}"),
            "" if command.ends_with("/metrics") => {
                assert!(
                    printed.contains("unstale_hits_total{cache=\"accounts\"} 1"),
                    "{printed}"
                );
            }
            other => unreachable!("what does `{other}` promise?"),
        }
    }

    for line in outage {
        let (command, comment) = line.split_once('#').unwrap_or((line, ""));
        let printed = shell.succeed(command);
        match comment.trim() {
            "the first job of this shell: Redis" => {}
            "200: it still serves" => assert!(printed.contains("200 OK"), "{printed}"),
            "503: degraded" => {
                assert!(printed.contains("503 Service"), "{printed}");
                assert!(printed.contains("\"state\":\"degraded\""), "{printed}");
            }
            "200, balance 250" => {
                assert!(printed.contains("200 OK"), "{printed}");
                assert!(printed.contains("\"balance\":250"), "{printed}");
            }
            "503" => assert!(printed.contains("nothing was committed"), "{printed}"),
            "" if command.starts_with("redis-server") => {}
            other => unreachable!("what does `{other}` promise?"),
        }
    }
    let health = "curl -sS 127.0.0.1:8082/healthz";
    let deadline = Instant::now() + RECOVERY;
    while !shell.succeed(health).contains("\"state\":\"coherent\"") {
        assert!(Instant::now() < deadline, "{}", shell.succeed(health));
        sleep(POLL);
    }
    let read = shell.succeed("curl -sS 127.0.0.1:8082/accounts/1");
    assert!(read.contains("\"balance\":250"), "it was committed: {read}");
}

pub(super) fn python([lines]: [Vec<&str>; 1]) {
    let redis = RedisServer::start();
    let mut shell = Shell::start(&[("6379", redis.port())]);
    // In an environment, as for a reader who types `pip install`. It was moved to where it is kept, which
    // its own `pip` does not survive.
    let python = crate::python::python();
    let bin = python.parent().unwrap().display();
    shell.succeed(&format!("export PATH=\"{bin}:$PATH\""));
    shell.succeed("pip() { python3 -m pip \"$@\"; }");
    // An instance must have written how many lanes there are.
    shell.succeed("UNSTALE_REDIS_URL=redis://127.0.0.1:6379 $EXAMPLES/quick_start");
    let before = events(&redis);
    for line in lines {
        shell.succeed(line);
    }
    assert_eq!(events(&redis), before + 1, "nothing was published");
}

#[test]
fn every_example_is_listed_and_run() {
    let page = read("docs/getting-started.md");
    let manifest = read("Cargo.toml");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        // A file, or a folder that is a program; the reference service has a section of its own.
        let tests = if path.extension().is_some_and(|end| end == "rs") {
            "tests/artifacts/examples.rs".to_owned()
        } else if path.join("main.rs").is_file() && name != "accounts" {
            format!("tests/scenarios/{name}.rs")
        } else {
            continue;
        };
        let row = page
            .split_once(&format!("\n| `{name}` | "))
            .map(|(_, row)| row);
        let row = row.and_then(|row| row.lines().next());
        let row = row.unwrap_or_else(|| unreachable!("the page does not list {name}"));
        let run = format!("shows(\"{name}\", ");
        assert!(read(&tests).contains(&run), "no test runs {name}");
        // What `cargo run --example NAME` asks for: features that are not on by default.
        let needs = manifest.split_once(&format!("name = \"{name}\"\nrequired-features = ["));
        let needs = needs.and_then(|(_, rest)| rest.split_once(']'));
        let features = needs.map_or("", |(features, _)| features).split(", ");
        for feature in features.map(|feature| feature.trim_matches('"')) {
            let by_default = ["", "redis", "tls", "prometheus"].contains(&feature);
            let flag = format!("`--features {feature}`");
            assert!(by_default || row.contains(&flag), "{name} needs {flag}");
        }
        count += 1;
    }
    let table = page.split_once("| example | shows |\n").unwrap().1;
    let rows = table.lines().skip(1).take_while(|row| row.starts_with('|'));
    assert_eq!(rows.count(), count, "a listed example is not there");
    let readme = read("README.md");
    assert!(
        readme.contains(&format!("and {count} examples")),
        "README.md: {count} examples"
    );
}
