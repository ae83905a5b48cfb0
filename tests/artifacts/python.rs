//! A writer in another language, `examples/python/invalidate.py`, against PROTOCOL.md and against
//! instances over a real Redis.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use unstale::{Cache, Instance, Key, Loaded, Outcome, Settings};

use crate::support::nodes::{Node, Source, metric, ms};
use testkit::python::{text, venv};
use testkit::redis::RedisServer;
use testkit::resp::Client;

/// How long anything may take that is only a matter of a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// A Python that has what the example requires.
pub(crate) fn python() -> PathBuf {
    venv("examples/python/requirements.txt").join("python")
}

/// The example, with these arguments.
fn script(arguments: &[&str]) -> Output {
    let mut command = Command::new(python());
    command
        .arg(root().join("examples/python/invalidate.py"))
        .args(arguments);
    command
        .env_remove("UNSTALE_REDIS_URL")
        .env_remove("UNSTALE_SIGNING_KEY")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::null()).output().unwrap()
}

/// Runs the example over a namespace `shop`; it must succeed.
fn invalidate(url: &str, cache: &str, arguments: &[&str]) {
    let base = ["--redis", url, "--namespace", "shop", "--cache", cache];
    let output = tokio::task::block_in_place(|| script(&[&base, arguments].concat()));
    assert!(output.status.success(), "{}", text(&output));
}

fn settings(url: &str) -> Settings {
    let mut settings = Settings::default();
    settings.redis_url = Some(url.to_owned());
    settings.namespace = "shop".to_owned();
    settings
}

async fn until(what: &str, mut yes: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !yes().await {
            tokio::time::sleep(ms(3)).await;
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    assert!(asked.is_ok(), "never became true: {what}");
}

/// Fences of lanes and gaps: one fence a lane belongs to the start, anything else would drop what
/// no invalidation named.
fn fences_and_gaps(instance: &Instance) -> u64 {
    let text = instance.metrics_text();
    let counted = |line: &&str| {
        line.starts_with("unstale_fences_total{") || line.starts_with("unstale_gaps_total{")
    };
    let values = text.lines().filter(counted);
    values
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[test]
fn the_example_has_the_vectors_of_the_protocol() {
    let protocol = root().join("PROTOCOL.md");
    let output = script(&["--vectors", protocol.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    let blocks = [
        "names", "keys", "lanes", "caches", "tags", "events", "signed",
    ];
    let text_of = read("PROTOCOL.md");
    let lines = blocks.map(|name| {
        let after = text_of
            .split_once(&format!("\n```jsonl {name}\n"))
            .unwrap()
            .1;
        after.split_once("\n```").unwrap().0.lines().count()
    });
    let count: usize = lines.iter().sum();
    assert_eq!(text(&output), format!("{count} vectors hold\n"));
}

#[test]
fn the_example_notices_a_vector_that_does_not_hold() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("PROTOCOL.md");
    for (right, other) in [
        (
            "1217cb28c0ef2191\"}\n{\"type\"",
            "1217cb28c0ef2192\"}\n{\"type\"",
        ),
        ("\"id\": 1095501882", "\"id\": 1095501883"),
        ("\"lane\": 401", "\"lane\": 402"),
        ("0193010290\"}\n```\n\n###", "0193010390\"}\n```\n\n###"),
        ("us:{shop.eu:12}e5", "us:{shop.eu:12}e"),
    ] {
        let text_of = read("PROTOCOL.md").replacen(right, other, 1);
        assert_ne!(text_of, read("PROTOCOL.md"), "{right}");
        fs::write(&file, text_of).unwrap();
        let output = script(&["--vectors", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{right}: {}", text(&output));
    }
}

/// The sequence of each of four lanes.
fn sequences(admin: &mut Client) -> [u64; 4] {
    std::array::from_fn(|lane| {
        let state = format!("us:{{shop:{lane}}}s");
        admin.cmd(&["HGET", &state, "q"]).text().parse().unwrap()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_the_example_names_are_dropped_and_nothing_else() {
    let server = RedisServer::start();
    // The rights are those that PROTOCOL.md names, and what the client sends when it connects.
    let protocol = read("PROTOCOL.md");
    let rights = protocol.split_once("\n```text acl\n").unwrap().1;
    let rights = rights.split_once("\n```").unwrap().0;
    let setup = "on >s3cret +hello +select +client";
    let mut command = vec!["ACL", "SETUSER", "writer", "reset"];
    command.extend(setup.split(' ').chain(rights.split(' ')));
    let mut admin = Client::connect(server.port());
    assert_eq!(admin.cmd(&command).text(), "OK");
    let writer = format!("redis://writer:s3cret@127.0.0.1:{}/5", server.port());

    let source = Source::default();
    let mut settings = settings(&format!("{}/5", server.url()));
    settings.lanes = 4;
    let node = Node::of(Instance::start(settings).await.unwrap(), &source);
    let read = async |keys: [u64; 4]| {
        let mut rows = Vec::new();
        for key in keys {
            rows.push(node.get(key).await.unwrap_or_default());
        }
        rows
    };
    let keys = [10, 11, 20, 30];
    // Events of each lane since the last look.
    admin.cmd(&["SELECT", "5"]);
    let mut seen = sequences(&mut admin);
    let mut published = |admin: &mut Client| {
        let now = sequences(admin);
        let counts = std::array::from_fn(|lane| now[lane] - seen[lane]);
        seen = now;
        counts
    };
    let lanes_of = |keys: &[u64]| {
        let mut counts = [0; 4];
        for key in keys {
            counts[(key.digest().unwrap() % 4) as usize] = 1;
        }
        counts
    };
    assert_ne!(lanes_of(&[10, 30]), [1; 4]);
    let write = |value| keys.iter().for_each(|key| source.set(*key, value));

    write(1);
    assert_eq!(read(keys).await, [1; 4]);
    write(2);
    invalidate(&writer, "rows", &["10", "30"]);
    until("10 and 30 are new", async || {
        read(keys).await == [2, 1, 1, 2]
    })
    .await;
    assert_eq!(published(&mut admin), lanes_of(&[10, 30]));

    write(3);
    invalidate(&writer, "rows", &["--tag", "tens-1"]);
    until("10 and 11 are new", async || {
        read(keys).await == [3, 3, 1, 2]
    })
    .await;

    assert_eq!(published(&mut admin), [1; 4]);
    write(4);
    invalidate(&writer, "rows", &["--all"]);
    until("all are new", async || read(keys).await == [4; 4]).await;
    assert_eq!(published(&mut admin), [1; 4]);
    // Another cache is not this one.
    invalidate(&writer, "cows", &["--all"]);
    until("it was heard", async || {
        metric(
            &node.instance,
            "unstale_events_dropped_total{reason=\"unknown_cache\"}",
        ) == 4
    })
    .await;
    assert_eq!(node.outcome(10).await, Outcome::Hit);
    assert_eq!(fences_and_gaps(&node.instance), 4);
    assert!(admin.cmd(&["ACL", "LOG"]).array().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_names_keys_of_several_parts_and_ten_thousand_at_once() {
    let server = RedisServer::start();
    let instance = Instance::start(settings(&server.url())).await.unwrap();
    let users: Cache<(u32, String), u64> =
        instance.cache("users").loader(|_| one()).build().unwrap();
    let rows: Cache<u64, u64> = instance
        .cache("rows")
        .capacity(20_000)
        .loader(|_| one())
        .build()
        .unwrap();
    let user = |name: &str| (7_u32, name.to_owned());
    for name in ["ada", "bob"] {
        users.get(&user(name)).await.unwrap();
    }
    invalidate(&server.url(), "users", &["--separator", "/", "7/ada"]);
    until("ada is dropped", async || {
        users.peek(&user("ada")).is_none()
    })
    .await;
    assert!(users.peek(&user("bob")).is_some());
    // Without the separator it is a key of one part, which this cache cannot have: all goes.
    invalidate(&server.url(), "users", &["bob"]);
    until("bob is dropped", async || {
        users.peek(&user("bob")).is_none()
    })
    .await;

    for key in 0..=10_000 {
        rows.get(&key).await.unwrap();
    }
    let keys: Vec<String> = (0..10_000).map(|key: u64| key.to_string()).collect();
    let arguments: Vec<&str> = keys.iter().map(String::as_str).collect();
    invalidate(&server.url(), "rows", &arguments);
    until("all are dropped", async || {
        (0..10_000).all(|key| rows.peek(&key).is_none())
    })
    .await;
    assert!(rows.peek(&10_000).is_some());
    assert_eq!(metric(&instance, "unstale_events_applied_total"), 2 + 10);
    assert_eq!(fences_and_gaps(&instance), 1);
}

async fn one() -> Result<Loaded<u64>, unstale::BoxError> {
    Ok(Loaded::new(Some(1)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_guesses_nothing() {
    let server = RedisServer::start();
    let node = Node::of(
        Instance::start(settings(&server.url())).await.unwrap(),
        &Source::default(),
    );
    let url = server.url();
    let base = ["--redis", &url, "--cache", "rows"];
    let fails = |arguments: &[&str], code: i32, advice: &str| {
        let output = tokio::task::block_in_place(|| script(&[&base, arguments].concat()));
        let text = text(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(advice), "{arguments:?}: {text}");
    };
    fails(&["--namespace", "shop"], 2, "--all");
    fails(&["--namespace", "shop", "1", "--all"], 2, "--all");
    fails(&["--namespace", "shap", "1"], 1, "--lanes");
    fails(
        &["--namespace", "shop", "--lanes", "2", "1"],
        1,
        "use 1 lanes",
    );
    fails(
        &["--namespace", "shop", "--separator", "/", "1", "1/2"],
        1,
        "parts",
    );
    server.kill();
    fails(&["--namespace", "shop", "1"], 1, "not published");
    assert_eq!(metric(&node.instance, "unstale_events_received_total"), 0);
}
