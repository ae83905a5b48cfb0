//! One service with secrets and recognisable keys, through reads, writes and failures: nothing that is
//! printed, logged, measured, sent to Redis or shown by the program has any of them.
//!
//! In a binary of its own, because it listens to all of the process's log lines.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use unstale::{Instance, Key, KeyEncoder, Settings};

use testkit::leaks::{Seen, contents, monitor};
use testkit::redis::RedisServer;
use testkit::resp::Client;

const PASSWORD: &str = "hunter2-p4ssw0rd";
const WRONG: &str = "wr0ng-hunter3-p4ss";
const SECRET: &str = "s1gning-secret-of-the-fleet";
const OLD_SECRET: &str = "0ld-secret-of-the-fleet";
const SHORT: &str = "sh0rt-secret";
const TIER_SECRET: &str = "t1er-secret-of-the-fleet";
const OLD_TIER_SECRET: &str = "0ld-t1er-secret-of-the-fleet";
const KEY: &str = "rawkey-customer-4711";
const TAG: &str = "rawtag-tenant-4712";
const VALUE: &str = "rawvalue-4713";

/// How long a condition may take that is only a matter of a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Keeps every log line.
struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A key type of a service's own, which prints what it writes into.
#[derive(Clone)]
struct Noisy(&'static str, Arc<Mutex<String>>);

impl PartialEq for Noisy {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Noisy {}

impl Key for Noisy {
    fn encode(&self, out: &mut KeyEncoder) {
        out.part(self.0.as_bytes());
        write!(self.1.lock().unwrap_or_else(|e| e.into_inner()), "{out:?}").unwrap();
    }
}

fn admin(server: &RedisServer) -> Client {
    let mut client = Client::connect(server.port());
    client.cmd(&["AUTH", PASSWORD]);
    client
}

/// The variables of the settings' secrets.
fn secret_variables(settings: &Settings) -> [(&'static str, &str); 5] {
    [
        ("UNSTALE_REDIS_URL", settings.redis_url.as_deref().unwrap()),
        ("UNSTALE_SIGNING_KEY", SECRET),
        ("UNSTALE_SIGNING_KEY_ACCEPTED", OLD_SECRET),
        ("UNSTALE_TIER_SECRET", TIER_SECRET),
        ("UNSTALE_TIER_SECRET_ACCEPTED", OLD_TIER_SECRET),
    ]
}

/// Runs the program and returns what it printed on both channels.
async fn program(args: &[&str], settings: &Settings) -> Vec<u8> {
    said(args, "", settings, secret_variables(settings)).await
}

/// As [`program`], with lines on its standard input and its secrets in files.
async fn program_of_files(args: &[&str], lines: &str, settings: &Settings) -> Vec<u8> {
    let folder = tempfile::TempDir::new().unwrap();
    let files = secret_variables(settings).map(|(name, secret)| {
        let path = folder.path().join(name);
        std::fs::write(&path, secret).unwrap();
        (format!("{name}_FILE"), path.display().to_string())
    });
    said(args, lines, settings, files).await
}

async fn said(
    args: &[&str],
    lines: &str,
    settings: &Settings,
    variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unstale"));
    command.env_clear().args(args).envs(variables);
    command.env("UNSTALE_NAMESPACE", &settings.namespace);
    command.env("RUST_LOG", "trace");
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let lines = lines.to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // A command that reads no input may be gone already.
        let _ = input.write_all(lines.as_bytes());
        drop(input);
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    [output.stdout, output.stderr].concat()
}

fn settings(server: &RedisServer, password: &str) -> Settings {
    let mut settings = Settings::default();
    settings.redis_url = Some(format!("redis://:{password}@127.0.0.1:{}", server.port()));
    settings.namespace = "shop".to_owned();
    settings.signing_key = Some(SECRET.to_owned());
    settings.signing_key_accepted = Some(OLD_SECRET.to_owned());
    settings.tier_secret = Some(TIER_SECRET.to_owned());
    settings.tier_secret_accepted = Some(OLD_TIER_SECRET.to_owned());
    settings.verify_interval = Duration::from_millis(50);
    settings.max_staleness = Some(Duration::from_millis(200));
    settings.publish_timeout = Duration::from_millis(300);
    settings
}

async fn until(what: &str, mut yes: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !yes().await {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    assert!(asked.is_ok(), "never became true: {what}");
}

/// Errors of settings and of a login that is refused.
async fn refusals(server: &RedisServer, seen: &mut Seen) {
    let wrong = Instance::start(settings(server, WRONG)).await.unwrap_err();
    seen.add("errors", format!("{wrong} {wrong:?}"));
    let variables = [
        ("UNSTALE_REDIS_URL", format!("redis//:{PASSWORD}@h")),
        ("UNSTALE_SIGNING_KEY", SHORT.to_owned()),
        ("UNSTALE_SIGNING_KEYS", SECRET.to_owned()),
        ("UNSTALE_SIGNING_KEY_ACCEPTED", SHORT.to_owned()),
        ("UNSTALE_TIER_SECRET", SHORT.to_owned()),
        ("UNSTALE_TIER_SECRETS", TIER_SECRET.to_owned()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let bad = Settings::from_vars(variables).unwrap_err();
    seen.add("errors", format!("{bad} {bad:?}"));
    let mut bad = settings(server, PASSWORD);
    bad.journal = 0;
    let error = bad.validate().unwrap_err();
    seen.add(
        "errors",
        format!("{error} {error:?} {bad:?} {:?}", bad.describe()),
    );
}

/// What the program prints, while it listens and after.
async fn operate(settings: &Settings, seen: &mut Seen) {
    let (tail, drop) = (
        ["tail", "--json", "--seconds", "3"],
        ["invalidate", "accounts", KEY],
    );
    let tail = program(&tail, settings);
    tokio::pin!(tail);
    // Again and again: it says nothing when it begins to listen.
    let tail = loop {
        tokio::select! {
            tail = &mut tail => break tail,
            drop = program(&drop, settings) => seen.add("program", drop),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    seen.add("tail", tail);
    let commands: [&[&str]; 12] = [
        &["demo", "--seconds", "6"],
        &["settings"],
        &["settings", "--json"],
        &["doctor"],
        &["status"],
        &["status", "--json"],
        &["tail", "--seconds", "1"],
        &["invalidate", "accounts", "--tag", TAG],
        &["invalidate", "accounts", "--all"],
        &["invalidate", "accounts", "--stdin"],
        &["invalidate", "no cache has this name", KEY],
        &["invalidate", KEY],
    ];
    let lines = format!("{KEY}\n {KEY}\n");
    for args in commands {
        seen.add("program", program(args, settings).await);
        let files = program_of_files(args, &lines, settings).await;
        seen.add("program with files", files);
    }
}

/// What a key sees of the encoder that takes its bytes.
async fn encoder(instance: &Instance, seen: &mut Seen) {
    let printed = Arc::new(Mutex::new(String::new()));
    let noisy = instance.cache::<Noisy, u64>("noisy").build().unwrap();
    let load = async { Ok(1) };
    noisy
        .get_with(&Noisy(KEY, printed.clone()), load)
        .await
        .unwrap();
    assert!(printed.lock().unwrap().contains("KeyEncoder"));
    seen.add("debug", printed.lock().unwrap().clone());
}

/// A cache with the shared tier: what it stores is in Redis in clear, but its key.
async fn tiered(instance: &Instance, seen: &mut Seen) {
    let builder = instance.cache::<String, u64>("tiered");
    let builder = builder.tier(unstale::SharedTier::new());
    seen.add("debug", format!("{builder:?}"));
    let cache = builder.loader(|_: String| async { Ok(7) }).build().unwrap();
    until("it is stored", async || {
        cache.get(KEY).await.unwrap();
        let stored = "unstale_shared_stores_total{cache=\"tiered\",outcome=\"stored\"} ";
        let text = instance.metrics_text();
        let count = text.lines().find_map(|line| line.strip_prefix(stored));
        if count.is_some_and(|count| count != "0") {
            return true;
        }
        // A store that took too long is given up: load again.
        let _ = cache.invalidate(KEY).await;
        false
    })
    .await;
}

/// Reads, writes, tags and a batch of one instance; the server dies and comes back meanwhile.
async fn live(server: &RedisServer, seen: &mut Seen) {
    let settings = settings(server, PASSWORD);
    let instance = Instance::start(settings.clone()).await.unwrap();
    let builder = instance.cache::<String, String>("accounts");
    seen.add("debug", format!("{builder:?}"));
    let loader = |_: String| async { Ok(unstale::Loaded::new(VALUE.to_owned()).tag(TAG)) };
    let cache = builder.loader(loader).build().unwrap();
    let done = async || Ok::<_, io::Error>(());
    for _ in 0..3 {
        cache.get(KEY).await.unwrap();
        cache.write(KEY, done()).await.unwrap();
        cache.get(KEY).await.unwrap();
        cache.invalidate_tag(TAG).await.unwrap();
    }
    encoder(&instance, seen).await;
    tiered(&instance, seen).await;

    let open = instance
        .batch()
        .key(&cache, KEY)
        .tag(&cache, TAG)
        .all(&cache);
    seen.add("debug", format!("{open:?}"));
    open.write(async {
        seen.add("redis", contents(admin(server)));
        seen.add("program", program(&["status"], &settings).await);
        Ok::<_, io::Error>(())
    })
    .await
    .unwrap();

    operate(&settings, seen).await;
    seen.add("redis", contents(admin(server)));

    // A message without a signature, on the channel and in the place of an event.
    admin(server).cmd(&[
        "PUBLISH",
        "us:{shop:0}e0",
        "this message of ours has no signature.",
    ]);
    let refused = "unstale_events_dropped_total{reason=\"refused\"} 1";
    until("it is heard", async || {
        instance.metrics_text().contains(refused)
    })
    .await;
    server.kill();
    let lost = cache.invalidate(KEY).await.unwrap_err();
    let refused = cache.write(KEY, done()).await.unwrap_err();
    let long = "rawkey-customer-4711".repeat(4_000);
    let too_long = cache.get(&long).await.unwrap_err();
    seen.add(
        "errors",
        format!("{lost} {lost:?} {refused} {refused:?} {too_long} {too_long:?}"),
    );
    seen.add("program", program(&["doctor"], &settings).await);
    server.restart();
    until("it is back", async || cache.invalidate(KEY).await.is_ok()).await;
    seen.add("metrics", instance.metrics_text());
    let health = instance.health();
    seen.add(
        "debug",
        format!(
            "{instance:?} {cache:?} {health:?} {:?} {settings:?}",
            cache.stats()
        ),
    );
    instance.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_secrets_nor_raw_keys_are_shown_anywhere() {
    // Every crate's, those of the `log` crate too.
    let log = tracing_subscriber::fmt().with_env_filter("trace");
    log.with_ansi(false).with_writer(|| Sink).init();
    let server = RedisServer::start_with(&["--requirepass", PASSWORD]);
    let mut seen = Seen::default();
    let commands = monitor(admin(&server));
    refusals(&server, &mut seen).await;
    live(&server, &mut seen).await;
    drop(server);
    seen.add("monitor", commands.join().unwrap());
    seen.add("log", LOG.lock().unwrap().clone());

    // It looked where something is.
    for (place, text) in [
        ("monitor", "EVALSHA"),
        ("monitor", "us:{shop:0}w"),
        ("log", "WARN unstale"),
        ("log", " fred::"),
        ("log", "UNSTALE_SIGNING_KEY"),
        ("metrics", "unstale_events_published_total"),
        ("redis", "us:{shop:0}j"),
        ("tail", "\"sequence\""),
        ("program", "UNSTALE_SIGNING_KEY_ACCEPTED"),
        ("program with files", "UNSTALE_TIER_SECRET_ACCEPTED"),
        ("program with files", "2 keys"),
        ("errors", "16 to 1024 bytes"),
        ("debug", "Settings"),
    ] {
        assert!(seen.count(place, text.as_bytes()) > 0, "{text} in {place}");
    }
    seen.assert_clean(&[PASSWORD, WRONG, SECRET, OLD_SECRET, SHORT]);
    seen.assert_clean(&[TIER_SECRET, OLD_TIER_SECRET]);
    seen.assert_clean(&[KEY, TAG, VALUE]);
}
