//! The files of `deploy/` do what they say, with a real Redis that is started with them.

mod files;
mod probes;
mod relay;

use std::fs;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::task::block_in_place;
use unstale::{Instance, InstanceState, Outcome, Settings};

use crate::support::nodes::{Node, Source};
use crate::support::over_redis::OPEN;
use crate::support::over_redis::{node, settings, until};
use testkit::proxy::{Cut, Door, Proxy};
use testkit::redis::RedisServer;
use testkit::resp::{Client, Value};

/// The placeholder of each password.
const PLACEHOLDER: &str = "#SHA256-OF-ITS-PASSWORD";

/// Another fleet on the same Redis has these names.
const FOREIGN_KEY: &str = "us:{other:0}s";
const FOREIGN_CHANNEL: &str = "us:{other:0}e0";

/// A Redis started with both files.
struct Deployed {
    server: RedisServer,
    /// The folder of `users.acl`.
    _dir: TempDir,
}

impl Deployed {
    fn start() -> Self {
        let users = users();
        assert_eq!(users.matches(PLACEHOLDER).count(), 2, "one each");
        Self::with(&users.replace(PLACEHOLDER, ">secret"))
    }

    fn with(users: &str) -> Self {
        let dir = TempDir::with_prefix("deploy-").unwrap();
        let acl = dir.path().join("users.acl");
        fs::write(&acl, users).unwrap();
        // Only where the other file lies is not as it says.
        let conf = path("redis.conf");
        let server = RedisServer::start_with(&[
            "--include",
            conf.to_str().unwrap(),
            "--aclfile",
            acl.to_str().unwrap(),
        ]);
        Self { server, _dir: dir }
    }

    fn client(&self, user: &str) -> Client {
        let mut client = Client::connect(self.server.port());
        client.cmd(&["AUTH", user, "secret"]);
        client
    }

    /// The settings of an instance that reaches Redis on this port. Its URL names the database, so that it is
    /// selected.
    fn settings(port: u16) -> Settings {
        let mut settings = settings(&format!("redis://unstale:secret@127.0.0.1:{port}/0"));
        settings.namespace = Settings::default().namespace;
        settings
    }

    /// The commands, keys and channels that were refused so far.
    fn refusals(&self) -> Vec<String> {
        let log = block_in_place(|| self.client("operator").cmd(&["ACL", "LOG"]));
        let object = |entry: &Value| {
            let fields = entry.array();
            let name = fields.iter().position(|field| field.text() == "object");
            fields[name.expect("every entry has one") + 1].text()
        };
        log.array().iter().map(object).collect()
    }
}

fn path(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("deploy/redis").join(name)
}

fn users() -> String {
    fs::read_to_string(path("users.acl")).unwrap()
}

/// The rules of the user `unstale`.
fn rules() -> Vec<String> {
    let users = users();
    let line = users.lines().find_map(|line| {
        let rules = line.strip_prefix("user unstale on ")?;
        rules.strip_prefix(PLACEHOLDER)
    });
    let rules = line.expect("the user is there");
    rules.split_whitespace().map(str::to_owned).collect()
}

async fn coherent(nodes: &[&Node]) {
    until("all are coherent", async || {
        let state = |node: &&Node| node.instance.health().state;
        nodes
            .iter()
            .all(|node| state(node) == InstanceState::Coherent)
    })
    .await;
}

/// `to` has this value, and in memory.
async fn has(to: &Node, key: u64, value: u64) {
    until("the value", async || to.get(key).await == Some(value)).await;
    until("a hit", async || to.outcome(key).await == Outcome::Hit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_needs_no_more_than_its_user_may() {
    let deployed = Deployed::start();
    let source = Source::default();
    let proxy = Proxy::start(deployed.server.port()).await;
    let a = node(Deployed::settings(deployed.server.port()), &source).await;
    let b = node(Deployed::settings(proxy.port()), &source).await;

    // An invalidation.
    source.set(1, 1);
    has(&b, 1, 1).await;
    source.set(1, 2);
    a.cache.invalidate(&1).await.unwrap();
    has(&b, 1, 2).await;

    // A write.
    let commit = async {
        source.set(1, 3);
        Ok::<_, io::Error>(())
    };
    a.cache.write(&1, commit).await.unwrap();
    has(&b, 1, 3).await;

    // A repair.
    proxy.drop_next(1);
    source.set(1, 4);
    a.cache.invalidate(&1).await.unwrap();
    until("the repair", async || {
        b.metric("unstale_repairs_total{outcome=\"repaired\"}") > 0
    })
    .await;
    has(&b, 1, 4).await;

    // Redis restarts, and a writer is never seen again: a peer finishes for it. That its intent is
    // still there takes the append-only file, and a user `default` who may replay it.
    lose_a_writer_and_restart(&deployed, &source).await;
    until("the recovery", async || {
        let recovered = |node: &Node| node.metric("unstale_recovered_writes_total");
        recovered(&a) + recovered(&b) > 0
    })
    .await;
    coherent(&[&a, &b]).await;
    source.set(1, 5);
    b.cache.invalidate(&1).await.unwrap();
    has(&a, 1, 5).await;

    // It leaves the fleet.
    a.instance.shutdown().await.unwrap();
    b.instance.shutdown().await.unwrap();
    assert_eq!(deployed.refusals(), [""; 0]);
}

/// Leaves an intent behind that only the server's disk has kept.
async fn lose_a_writer_and_restart(deployed: &Deployed, source: &Source) {
    let proxy = Proxy::start(deployed.server.port()).await;
    let writer = node(Deployed::settings(proxy.port()), source).await;
    let cache = writer.cache.clone();
    let write = tokio::spawn(async move {
        let commit = pending::<Result<(), io::Error>>();
        cache
            .write(&1, commit)
            .await
            .map_err(|error| error.to_string())
    });
    until("the intent", async || {
        let intents = block_in_place(|| {
            deployed
                .client("operator")
                .cmd(&["EVAL", OPEN, "1", "us:{default:0}w"])
        });
        intents.int() == Some(1)
    })
    .await;
    proxy.set_door(Door::Refuse).await;
    proxy.cut(Cut::Rst);
    write.abort();
    drop((writer, proxy));
    block_in_place(|| {
        deployed.server.kill();
        deployed.server.restart();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_needs_all_that_its_user_may() {
    let deployed = Deployed::start();
    let mut operator = deployed.client("operator");
    let rules = rules();
    let commands = rules.iter().filter_map(|rule| rule.strip_prefix('+'));
    for command in commands {
        operator.cmd(&["ACL", "SETUSER", "unstale", &format!("-{command}")]);
        let starting = tokio::spawn(Instance::start(Deployed::settings(deployed.server.port())));
        until(&format!("{command} is refused"), async || {
            deployed.refusals().iter().any(|object| object == command)
        })
        .await;
        starting.abort();
        operator.cmd(&["ACL", "SETUSER", "unstale", &format!("+{command}")]);
        operator.cmd(&["ACL", "LOG", "RESET"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_user_may_do_nothing_else() {
    let deployed = Deployed::start();
    let node = node(
        Deployed::settings(deployed.server.port()),
        &Source::default(),
    )
    .await;
    let mut user = deployed.client("unstale");
    let load = |user: &mut Client, script: &str| user.cmd(&["SCRIPT", "LOAD", script]).text();
    let sets = load(&mut user, "return redis.call('HSET', KEYS[1], 'q', '1')");
    let flushes = load(&mut user, "return redis.call('FLUSHALL')");
    let publishes = load(&mut user, "return redis.call('PUBLISH', ARGV[1], '')");
    for refused in [
        // Anything for all keys, and anything for the server.
        &["KEYS", "*"][..],
        &["SCAN", "0"],
        &["RANDOMKEY"],
        &["FLUSHALL"],
        &["FLUSHDB"],
        &["DBSIZE"],
        &["CONFIG", "GET", "*"],
        &["CONFIG", "SET", "maxmemory", "1"],
        &["ACL", "LIST"],
        &["ACL", "SETUSER", "unstale", "+@all"],
        &["CLIENT", "LIST"],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["CLIENT", "PAUSE", "1"],
        &["SCRIPT", "FLUSH"],
        &["EVAL", "return 1", "0"],
        &["FUNCTION", "LIST"],
        &["DEBUG", "SLEEP", "0"],
        &["MONITOR"],
        &["REPLICAOF", "127.0.0.1", "1"],
        &["SAVE"],
        &["SHUTDOWN"],
        // A command on its own keys that it does not need.
        &["TYPE", "us:{default:0}s"],
        &["HGETALL", "us:{default:0}s"],
        &["RENAME", "us:{default:0}s", "us:{default:0}j"],
        &["EXPIRE", "us:{default:0}s", "1"],
        // Keys of others, and one beside its own.
        &["GET", "accounts"],
        &["HGET", FOREIGN_KEY, "q"],
        &["HSET", FOREIGN_KEY, "q", "1"],
        &["DEL", FOREIGN_KEY],
        &["DEL", "us:{default:0}s", FOREIGN_KEY],
        &["HSET", "us:{default:0}z", "q", "1"],
        &["EVALSHA", &sets, "1", FOREIGN_KEY],
        &["EVALSHA", &flushes, "0"],
        // Channels of others.
        &["SUBSCRIBE", FOREIGN_CHANNEL],
        &["SUBSCRIBE", "__keyevent@0__:del"],
        &["PSUBSCRIBE", "*"],
        &["PSUBSCRIBE", "us:{default:0}e0"],
        &["PUBLISH", FOREIGN_CHANNEL, ""],
        &["EVALSHA", &publishes, "0", FOREIGN_CHANNEL],
    ] {
        let answer = user.try_cmd(refused).unwrap();
        // In a script: Redis 7.0, and what came later.
        let in_script = [
            "The user executing the script can't",
            "ACL failure in script",
        ];
        let denied = |text: &str| {
            text.starts_with("NOPERM") || in_script.iter().any(|words| text.contains(words))
        };
        assert!(
            matches!(&answer, Value::Error(text) if denied(text)),
            "{refused:?}: {answer:?}"
        );
    }
    // The same on its own names is allowed, or the answers above would mean little.
    user.cmd(&["EVALSHA", &publishes, "0", "us:{default:0}e0:test"]);
    user.cmd(&["SUBSCRIBE", "us:{default:0}e0"]);
    coherent(&[&node]).await;
}

#[tokio::test]
async fn a_connection_without_a_password_is_refused() {
    let deployed = Deployed::start();
    let mut stranger = Client::connect(deployed.server.port());
    for (command, answer) in [
        (&["PING"][..], "NOAUTH"),
        (&["AUTH", "default", ""], "WRONGPASS"),
        (&["AUTH", "unstale", ""], "WRONGPASS"),
        (&["AUTH", "operator", PLACEHOLDER], "WRONGPASS"),
    ] {
        let refused = stranger.try_cmd(command).unwrap();
        assert!(
            matches!(&refused, Value::Error(text) if text.starts_with(answer)),
            "{command:?}: {refused:?}"
        );
    }
}

#[test]
#[should_panic(expected = "password hash must be exactly 64 characters")]
fn redis_does_not_start_before_the_passwords_are_chosen() {
    Deployed::with(&users());
}
