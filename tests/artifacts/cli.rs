//! The program `unstale` beside a fleet on a real Redis, as an operator runs it.

#![expect(clippy::panic, reason = "a test that cannot go on fails")]

mod columns;
mod doctor;
mod hostile;
mod keys;
mod tail;
mod why;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use serde_json::Value;
use unstale::{Instance, InstanceState, Outcome, Settings};

use crate::support::nodes::{Node, Source};
use testkit::program::{Ran, on, program, run, run_on};
use testkit::redis::{RedisServer, free_port};
use testkit::resp::Client;

const PASSWORD: &str = "hunter2-p4ssw0rd";

async fn node(url: &str, lanes: u32, source: &Source) -> Node {
    let mut settings = Settings::default();
    settings.redis_url = Some(url.to_owned());
    settings.namespace = "shop".to_owned();
    settings.lanes = lanes;
    Node::of(Instance::start(settings).await.unwrap(), source)
}

/// Waits until Redis knows that so many instances have the cache.
async fn until_known(url: &str, cache: &str, instances: usize) {
    let mut settings = Settings::default();
    settings.redis_url = Some(url.to_owned());
    settings.namespace = "shop".to_owned();
    crate::support::over_redis::until("it is known who has the cache", async || {
        let audience = unstale::operate::audience(&settings, cache).await.unwrap();
        audience.formats.len() == instances
    })
    .await;
}

/// Caches three rows, runs the program and returns which of them are hits soon after.
async fn hits_after(node: &Node, run: impl FnOnce() -> Ran) -> (Ran, [bool; 3]) {
    for key in [1, 2, 13] {
        node.get(key).await;
        assert_eq!(node.outcome(key).await, Outcome::Hit);
    }
    let received = || node.metric("unstale_events_received_total");
    let before = received();
    let ran = run();
    if ran.status == Some(0) {
        crate::support::over_redis::until("the event arrives", async || received() > before).await;
    }
    let mut hits = [false; 3];
    for (hit, key) in hits.iter_mut().zip([1, 2, 13]) {
        *hit = node.outcome(key).await == Outcome::Hit;
    }
    (ran, hits)
}

fn source() -> Source {
    let source = Source::default();
    for key in [1, 2, 13] {
        source.set(key, key);
    }
    source
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalidate_drops_what_it_names_and_nothing_else_in_a_running_instance() {
    let server = RedisServer::start();
    let node = node(&server.url(), 1, &source()).await;
    until_known(&server.url(), "rows", 1).await;
    let rows: [(&[&str], [bool; 3], &str); 5] = [
        (&["1", "13"], [false, true, false], "2 keys"),
        (&["--tag", "tens-0"], [false, false, true], "1 tag"),
        (&["--all"], [false; 3], "everything"),
        (&["7"], [true; 3], "1 key"),
        // Another format of keys: what the hashes name is unknown.
        (&["7", "--format", "9"], [false; 3], "1 key"),
    ];
    for (args, expected, acknowledged) in rows {
        let args = [&["invalidate", "rows"], args].concat();
        let (ran, hits) = hits_after(&node, || run_on(&server.url(), &args)).await;
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        let line = format!("acknowledged: {acknowledged} of rows in lane 0, sequence ");
        assert!(ran.stdout.starts_with(&line), "{ran:?}");
        let (_, heard) = ran.stdout.split_once('\n').unwrap();
        let whole =
            "1 of them dropped the whole cache: its keys have the format 1, not 9 (--format)\n";
        let whole = if args.contains(&"9") { whole } else { "" };
        let summary = format!("heard by 1 instance, 1 with rows\n{whole}");
        assert_eq!(heard, summary, "{ran:?}");
        assert_eq!(hits, expected, "{args:?}");
    }
    assert_eq!(node.instance.health().state, InstanceState::Coherent);
}

/// A name that is misspelt, or the variables of another service, must not look like success.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalidate_that_reaches_no_instance_warns_and_fails() {
    let server = RedisServer::start();
    let url = server.url();
    let unheard = |vars: &[(&str, &str)], args: &[&str], says: &str| {
        let ran = run(args, vars);
        assert_eq!(ran.status, Some(1), "{ran:?}");
        assert!(ran.stdout.starts_with("acknowledged: 1 key"), "{ran:?}");
        assert!(ran.stderr.contains(says), "{says}: {ran:?}");
    };
    unheard(
        &on(&url),
        &["invalidate", "rows", "1"],
        "no instance is in namespace shop",
    );
    let first = node(&url, 1, &source()).await;
    let second = node(&url, 1, &source()).await;
    until_known(&url, "rows", 2).await;
    let ran = run_on(&url, &["invalidate", "rows", "1"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(
        ran.stdout.ends_with("heard by 2 instances, 2 with rows\n"),
        "{ran:?}"
    );
    // The cache, the namespace, the database.
    let none = "2 instances heard it, and none has a cache rosw";
    unheard(&on(&url), &["invalidate", "rosw", "1"], none);
    let oops = [("UNSTALE_REDIS_URL", &*url), ("UNSTALE_NAMESPACE", "oops")];
    unheard(
        &oops,
        &["invalidate", "rows", "1"],
        "no instance is in namespace oops",
    );
    let other = format!("{url}/1");
    let none = "the database in UNSTALE_REDIS_URL";
    unheard(&on(&other), &["invalidate", "rows", "1"], none);
    // A cache that is built later is known a moment later.
    let cache = first.instance.cache::<u64, u64>("rosw").build().unwrap();
    until_known(&url, "rosw", 1).await;
    let ran = run_on(&url, &["invalidate", "rosw", "1"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(
        ran.stdout.ends_with("heard by 2 instances, 1 with rosw\n"),
        "{ran:?}"
    );
    // And instances repeat what Redis has forgotten.
    Client::connect(server.port()).cmd(&["FLUSHALL"]);
    crate::support::over_redis::until("it is known again", async || {
        let ran = run_on(&url, &["invalidate", "rosw", "1"]);
        ran.stdout.ends_with("heard by 2 instances, 1 with rosw\n")
    })
    .await;
    drop((cache, second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalidate_reads_keys_from_standard_input_and_follows_the_fleets_lanes() {
    let server = RedisServer::start();
    let node = node(&server.url(), 4, &source()).await;
    let (url, mut input) = (server.url(), String::new());
    for key in (1..3_000).filter(|key| *key != 2) {
        input += &format!("{key}\n\n");
    }
    let piped = || {
        let mut child = program(&["invalidate", "rows", "--stdin"], &on(&url))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap().into()
    };
    let (ran, _) = hits_after(&node, || tokio::task::block_in_place(piped)).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    for lane in 0..4 {
        assert!(ran.stdout.contains(&format!("in lane {lane}, ")), "{ran:?}");
    }
    let first = |line: &str| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap();
    let acknowledged = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with("acknowledged"));
    assert_eq!(acknowledged.map(first).sum::<usize>(), 2_998);
    let dropped = "unstale_invalidations_total{cache=\"rows\",kind=\"key\",from=\"remote\"}";
    crate::support::over_redis::until("keys of every lane are dropped", async || {
        node.metric(dropped) == 2_998
    })
    .await;
    assert_eq!(node.outcome(2).await, Outcome::Hit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalidate_fails_where_nothing_is_acknowledged() {
    let url = format!("redis://:{PASSWORD}@127.0.0.1:{}", free_port());
    let ran = run_on(&url, &["invalidate", "rows", "1"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("refused"), "{ran:?}");
    assert!(!ran.stderr.contains("hunter2"), "{ran:?}");

    // It answers, and cannot take an event.
    let server = RedisServer::start_with(&["--min-replicas-to-write", "1"]);
    let ran = run_on(&server.url(), &["invalidate", "rows", "1"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("min-replicas-to-write"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_shows_members_lanes_and_open_writes() {
    let server = RedisServer::start();
    let empty = run_on(&server.url(), &["status"]);
    assert_eq!(empty.status, Some(0), "{empty:?}");
    assert!(empty.stdout.contains("no instance has ever been here"));

    let source = source();
    let node = node(&server.url(), 2, &source).await;
    let _peer = self::node(&server.url(), 2, &source).await;
    for key in [1, 2, 13] {
        node.cache.invalidate(&key).await.unwrap();
    }
    let cache = node.cache.clone();
    let open = tokio::spawn(async move {
        let commit = std::future::pending::<Result<(), std::io::Error>>();
        cache.write(&1, commit).await
    });
    crate::support::over_redis::until("the write is open", async || {
        node.instance.health().open_writes == 1
    })
    .await;

    let shown = run_on(&server.url(), &["status", "--json"]);
    assert_eq!((shown.status, shown.stderr.as_str()), (Some(0), ""));
    let json = shown.json();
    let members = json["members"].as_array().unwrap();
    assert_eq!(members.len(), 2, "{json}");
    assert!(members.iter().all(|member| member["alive"] == true));
    let sum = |of: &Value, field: &str| {
        let numbers = of.as_array().unwrap().iter();
        numbers.map(|row| row[field].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(sum(&json["members"], "open_writes"), 1, "{json}");
    assert_eq!(sum(&json["lanes"], "open_writes"), 1, "{json}");
    assert_eq!(json["lanes"].as_array().unwrap().len(), 2, "{json}");
    assert_eq!(sum(&json["lanes"], "journal"), 3, "{json}");

    let busy = tokio::spawn({
        let cache = node.cache.clone();
        async move {
            loop {
                cache.invalidate(&1).await.unwrap();
            }
        }
    });
    let json = run_on(&server.url(), &["status", "--json"]).json();
    let rates = json["lanes"].as_array().unwrap().iter();
    let rates: f64 = rates
        .map(|lane| lane["events_per_second"].as_f64().unwrap())
        .sum();
    assert!(rates > 1.0, "{json}");
    busy.abort();
    open.abort();

    let plain = run_on(&server.url(), &["status"]).stdout;
    assert!(plain.contains("members: 2\n"), "{plain}");
    assert!(
        plain.contains("the fleet has 2 lanes, UNSTALE_LANES says 1"),
        "{plain}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_lists_every_variable_and_hides_secrets() {
    let url = format!("redis://app:{PASSWORD}@cache:6379");
    let vars = [
        &on(&url)[..],
        &[("UNSTALE_TTL", "30s"), ("UNSTALE_CACHES__ROWS__TTL", "9s")],
    ]
    .concat();
    let ran = run(&["settings"], &vars);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    // Where lines end depends on the columns.
    let words = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in Settings::default().describe() {
        assert!(ran.stdout.contains(&setting.variable), "{setting:?}");
        assert!(ran.stdout.contains(&setting.default), "{setting:?}");
        assert!(words.contains(setting.help), "{setting:?}");
    }
    assert!(ran.stdout.contains("redis://***@cache:6379"), "{ran:?}");
    let scope_of = |variable: &str| {
        let line = ran.stdout.lines().find(|line| line.starts_with(variable));
        line.unwrap().to_owned()
    };
    assert!(scope_of("UNSTALE_TTL ").ends_with(" default for all caches"));
    assert!(scope_of("UNSTALE_CACHES__ROWS__TTL ").ends_with(" cache rows"));
    assert!(scope_of("UNSTALE_LANES ").ends_with(" instance"));
    assert!(words.contains("set as default for all caches: UNSTALE_TTL. "));
    assert!(!ran.stdout.contains("hunter2") && !ran.stdout.contains('\x1b'));
    let json = run(&["settings", "--json"], &vars).json();
    let rows = json.as_array().unwrap();
    let namespace = rows
        .iter()
        .find(|row| row["variable"] == "UNSTALE_NAMESPACE");
    assert_eq!(namespace.unwrap()["value"], "shop");
    assert_eq!(namespace.unwrap()["scope"], "instance");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_a_start_refuses_are_refused_by_every_command_in_its_words() {
    let vars = [
        ("UNSTALE_TTL", "30"),
        ("UNSTALE_NAMESPASE", "shop"),
        ("UNSTALE_REDIS_URL", "redis://app:hunter2@host:none"),
    ];
    let owned = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let expected = format!("unstale: {}\n", Settings::from_vars(owned).unwrap_err());
    assert!(!expected.contains("hunter2"), "{expected}");
    for args in [
        &["settings"][..],
        &["invalidate", "rows", "1"],
        &["tail"],
        &["status"],
        &["why", "rows", "1"],
        &["doctor"],
    ] {
        let ran = run(args, &vars);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert_eq!(ran.stderr, expected, "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_usage_is_status_2_and_help_teaches() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let wrong: [&[&str]; 8] = [
        &[],
        &["invalidate"],
        &["invalidate", "rows"],
        &["invalidate", "rows", "1", "--all"],
        &["invalidate", "Rows", "1"],
        &["invalidate", "rows", "1", "--format", "x"],
        &["tail", "--cache", "No Name"],
        &["doctor", "--jsno"],
    ];
    for args in wrong {
        let ran = run_on(&url, args);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
    for command in ["invalidate", "why", "tail", "status", "doctor"] {
        let args = [command, "rows", "1"];
        let args = if ["invalidate", "why"].contains(&command) {
            &args[..]
        } else {
            &args[..1]
        };
        let ran = run(args, &[]);
        assert_eq!(ran.status, Some(2), "{ran:?}");
        assert!(
            ran.stderr.contains("UNSTALE_REDIS_URL is not set"),
            "{ran:?}"
        );
    }
    let usage = run(&["invalidate", "--help"], &[]).stdout;
    assert!(
        usage.contains("invalidate [OPTIONS] <CACHE> <KEY>..."),
        "{usage}"
    );
    let usage = run_on(&url, &["invalidate", "rows"]).stderr;
    assert!(
        usage.contains("invalidate [OPTIONS] <CACHE> <KEY>..."),
        "{usage}"
    );
    for args in [
        &[][..],
        &["settings"],
        &["invalidate"],
        &["tail"],
        &["status"],
        &["why"],
        &["doctor"],
    ] {
        let ran = run(&[args, &["--help"]].concat(), &[]);
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
        assert!(ran.stdout.contains("Examples:\n  "), "{args:?}");
        assert!(ran.stdout.contains("unstale"), "{args:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_status_1() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let run = program(&["settings"], &[]).stdout(full).output().unwrap();
    assert_eq!(run.status.code(), Some(1), "{run:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_pipe_is_no_error() {
    for args in [&["settings"][..], &["settings", "--json"]] {
        let mut child = program(args, &[])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ran: Ran = child.wait_with_output().unwrap().into();
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}
