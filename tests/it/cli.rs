//! The program `unstale` beside a fleet on a real Redis, as an operator runs it.

#![expect(clippy::panic, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use unstale::{Instance, Outcome, Settings, State};

use crate::support::nodes::{Node, Source};
use crate::support::redis::{RedisServer, free_port};
use crate::support::resp::Client;

const PASSWORD: &str = "hunter2-p4ssw0rd";

/// The program with nothing of `UNSTALE_*` but what a test sets.
fn program(args: &[&str], vars: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unstale"));
    command.env_clear().envs(vars.iter().copied()).args(args);
    command.stdin(Stdio::null());
    command
}

/// What a run printed, and its exit status.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            status: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) fn run(args: &[&str], vars: &[(&str, &str)]) -> Ran {
    tokio::task::block_in_place(|| program(args, vars).output().unwrap().into())
}

/// As [`run`], in the namespace of the tests.
pub(crate) fn run_on(url: &str, args: &[&str]) -> Ran {
    run(args, &on(url))
}

fn on(url: &str) -> [(&'static str, &str); 2] {
    [("UNSTALE_REDIS_URL", url), ("UNSTALE_NAMESPACE", "shop")]
}

async fn node(url: &str, lanes: u32, source: &Source) -> Node {
    let mut settings = Settings::default();
    settings.redis_url = Some(url.to_owned());
    settings.namespace = "shop".to_owned();
    settings.lanes = lanes;
    Node::of(Instance::start(settings).await.unwrap(), source)
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
        super::redis::until("the event arrives", async || received() > before).await;
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
    let rows: [(&[&str], [bool; 3], &str); 5] = [
        (&["1", "13"], [false, true, false], "2 keys"),
        (&["--tag", "tens-0"], [false, false, true], "1 tag"),
        (&["--all"], [false; 3], "everything"),
        (&["7"], [true; 3], "1 key"),
        // Another format of keys: nobody knows what the hashes name.
        (&["7", "--format", "9"], [false; 3], "1 key"),
    ];
    for (args, expected, acknowledged) in rows {
        let args = [&["invalidate", "rows"], args].concat();
        let (ran, hits) = hits_after(&node, || run_on(&server.url(), &args)).await;
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        let line = format!("acknowledged: {acknowledged} of rows in lane 0, sequence ");
        assert!(ran.stdout.starts_with(&line), "{ran:?}");
        assert_eq!(hits, expected, "{args:?}");
    }
    assert_eq!(node.instance.health().state, State::Coherent);
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
    assert_eq!(ran.stdout.lines().map(first).sum::<usize>(), 2_998);
    let dropped = "unstale_invalidations_total{cache=\"rows\",kind=\"key\",from=\"remote\"}";
    super::redis::until("keys of every lane are dropped", async || {
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

/// What `doctor --json` found of one check.
fn finding(ran: &Ran, check: &str) -> (String, String) {
    let found = ran.json();
    let findings = found["findings"].as_array().unwrap().clone();
    let finding = findings.iter().find(|finding| finding["check"] == check);
    let finding = finding.unwrap_or_else(|| panic!("no {check}: {ran:?}"));
    let text = |field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    (text("level"), text("remedy"))
}

/// Runs the doctor, who must find exactly this wrong.
fn ill(vars: &[(&str, &str)], check: &str, remedy: &str) {
    let ran = run(&["doctor", "--json"], vars);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(1), ""), "{ran:?}");
    let (level, advice) = finding(&ran, check);
    assert_eq!(level, "fail", "{ran:?}");
    assert!(advice.contains(remedy), "{remedy}: {ran:?}");
    let others = ran.stdout.matches("\"level\":\"fail\"").count();
    assert_eq!(others, 1, "{ran:?}");
    assert!(!ran.stdout.contains("hunter2"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_a_good_server_well_and_changes_nothing() {
    let server = RedisServer::start();
    let ran = run_on(&server.url(), &["doctor", "--json"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    for check in [
        "connection",
        "rights",
        "scripts",
        "server",
        "eviction",
        "output buffer",
        "replicas",
        "lanes",
        "clock",
        "pub/sub delay",
    ] {
        assert_eq!(
            finding(&ran, check),
            ("ok".into(), String::new()),
            "{check}"
        );
    }
    let keys = tokio::task::block_in_place(|| Client::connect(server.port()).cmd(&["DBSIZE"]));
    assert_eq!(keys.int(), Some(0));

    let plain = run_on(&server.url(), &["doctor"]);
    assert_eq!(plain.status, Some(0));
    assert!(plain.stdout.lines().all(|line| line.starts_with("ok ")));
    assert!(!plain.stdout.contains('\x1b'), "colours in a pipe");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_fails_with_the_remedy_for_what_is_wrong_with_redis() {
    let args = ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"];
    let evicting = RedisServer::start_with(&args);
    ill(
        &on(&evicting.url()),
        "eviction",
        "maxmemory-policy noeviction",
    );

    let strict = RedisServer::start_with(&["--requirepass", "right"]);
    for login in [&format!(":{PASSWORD}@"), ""] {
        let url = format!("redis://{login}127.0.0.1:{}", strict.port());
        ill(&on(&url), "login", "UNSTALE_REDIS_URL");
    }
    let nobody = format!("redis://:{PASSWORD}@127.0.0.1:{}", free_port());
    ill(&on(&nobody), "connection", "UNSTALE_REDIS_URL");

    let small = RedisServer::start_with(&["--client-output-buffer-limit", "pubsub 64kb 0 0"]);
    let ran = run_on(&small.url(), &["doctor", "--json"]);
    assert_eq!(ran.status, Some(0), "a warning is no failure: {ran:?}");
    assert_eq!(finding(&ran, "output buffer").0, "warn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_the_right_that_is_missing_and_the_command_that_gives_it() {
    let server = RedisServer::start();
    let mut admin = Client::connect(server.port());
    let secret = format!(">{PASSWORD}");
    let url = format!("redis://app:{PASSWORD}@127.0.0.1:{}", server.port());
    let rows = [
        ("-zadd", "+zadd"),
        ("-hincrby", "+hincrby"),
        ("-publish", "+publish"),
        ("-subscribe", "+subscribe"),
        ("-evalsha", "+evalsha"),
        ("-script", "+script|load"),
        ("-info", "+info"),
        ("resetchannels", "&us:{shop:*"),
        ("resetkeys", "~us:{shop:*"),
    ];
    for (rule, remedy) in rows {
        let base = [
            "ACL", "SETUSER", "app", "reset", "on", &secret, "~us:*", "&us:*", "+@all",
        ];
        admin.cmd(&[&base[..], &[rule]].concat());
        let remedy = format!("ACL SETUSER app {remedy}");
        ill(&on(&url), "rights", &remedy);
        // The remedy is one.
        let words: Vec<&str> = remedy.split(' ').collect();
        admin.cmd(&words);
        let ran = run_on(&url, &["doctor", "--json"]);
        assert_eq!(ran.status, Some(0), "{rule}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_fails_where_the_fleet_has_other_lanes() {
    let server = RedisServer::start();
    let _fleet = node(&server.url(), 2, &Source::default()).await;
    let url = server.url();
    ill(&on(&url), "lanes", "UNSTALE_LANES=2");
    let vars = [&on(&url)[..], &[("UNSTALE_LANES", "2")]].concat();
    assert_eq!(run(&["doctor"], &vars).status, Some(0));
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
    super::redis::until("the write is open", async || {
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

/// A `tail` that listens.
fn tail(url: &str, args: &[&str]) -> Child {
    let mut child = program(&[&["tail"], args].concat(), &on(url))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "listening to 1 lane\n");
    child
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_prints_an_event_with_what_is_known_of_it() {
    let server = RedisServer::start();
    let node = node(&server.url(), 1, &source()).await;
    let url = server.url();
    let start = || tail(&url, &["--json", "--cache", "rows", "--count", "2"]);
    let child = tokio::task::block_in_place(start);
    node.cache.invalidate_many([&1, &2]).await.unwrap();
    node.cache.invalidate_all().await.unwrap();
    let ran: Ran = tokio::task::block_in_place(|| child.wait_with_output().unwrap().into());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let events: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [keys, all] = &events[..] else {
        panic!("{ran:?}");
    };
    assert_eq!(keys["lane"], 0);
    assert_eq!(keys["origin"].as_str().unwrap().len(), 8);
    let op = &keys["ops"][0];
    assert_eq!(
        (op["cache"].as_str(), op["kind"].as_str()),
        (Some("rows"), Some("key"))
    );
    assert_eq!(op["count"], 2);
    assert_eq!(op["hashes"].as_array().unwrap().len(), 2);
    assert_eq!(all["ops"][0]["kind"], "cache");
    let number = |event: &Value| event["sequence"].as_u64().unwrap();
    assert_eq!(number(all), number(keys) + 1);
    // The member of `status` and the origin of an event are called the same.
    let status = run_on(&url, &["status", "--json"]).json();
    assert_eq!(status["members"][0]["id"], keys["origin"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_tells_of_a_gap_and_ends_by_time_or_when_its_reader_has_gone() {
    let server = RedisServer::start();
    let url = server.url();
    let mut child = tokio::task::block_in_place(|| tail(&url, &["--json"]));
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut admin = Client::connect(server.port());
    admin.cmd(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let mut line = String::new();
    tokio::task::block_in_place(|| stdout.read_line(&mut line).unwrap());
    let gap: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(gap["gap"], "disconnected");

    // Like `| head -1`: the next line finds no reader, and that is no error.
    drop(stdout);
    let ended = tokio::task::block_in_place(|| {
        loop {
            run_on(&url, &["invalidate", "rows", "1"]);
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
        }
    });
    assert_eq!(ended.code(), Some(0));

    let mut quiet = tokio::task::block_in_place(|| tail(&url, &["--seconds", "1"]));
    let status = tokio::task::block_in_place(|| quiet.wait().unwrap());
    assert_eq!(status.code(), Some(0));
    let mut text = String::new();
    quiet
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_lists_every_variable_and_hides_secrets() {
    let url = format!("redis://app:{PASSWORD}@cache:6379");
    let vars = [&on(&url)[..], &[("UNSTALE_CACHES__ROWS__TTL", "9s")]].concat();
    let ran = run(&["settings"], &vars);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    for setting in Settings::default().describe() {
        assert!(ran.stdout.contains(&setting.variable), "{setting:?}");
        assert!(ran.stdout.contains(setting.default), "{setting:?}");
        assert!(ran.stdout.contains(setting.help), "{setting:?}");
    }
    assert!(ran.stdout.contains("redis://***@cache:6379"), "{ran:?}");
    assert!(ran.stdout.contains("UNSTALE_CACHES__ROWS__TTL"), "{ran:?}");
    assert!(!ran.stdout.contains("hunter2") && !ran.stdout.contains('\x1b'));
    let json = run(&["settings", "--json"], &vars).json();
    let rows = json.as_array().unwrap();
    let namespace = rows
        .iter()
        .find(|row| row["variable"] == "UNSTALE_NAMESPACE");
    assert_eq!(namespace.unwrap()["value"], "shop");
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
    for command in ["invalidate", "tail", "status", "doctor"] {
        let args = [command, "rows", "1"];
        let args = if command == "invalidate" {
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
    for args in [
        &[][..],
        &["settings"],
        &["invalidate"],
        &["tail"],
        &["status"],
        &["doctor"],
    ] {
        let ran = run(&[args, &["--help"]].concat(), &[]);
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
        assert!(ran.stdout.contains("Examples:\n  "), "{args:?}");
        assert!(ran.stdout.contains("unstale"), "{args:?}");
    }
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
