//! The servers, three instances, and the relay as a process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::postgres::{PostgresServer, url};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use unstale::operate::{RelayNews, SourceRelay};
use unstale::{Cache, Instance, Settings};
use unstale_benches::{Server, cpu_of, settings};

/// The first argument of the process that relays.
pub const AS_RELAY: &str = "--as-relay";

const RULES: &str =
    "source = \"shop\"\n[[rule]]\ntable = \"accounts\"\ncache = \"accounts\"\nkey = [\"id\"]\n";

const ROLE: &str = "shop_relay";

/// Rows of the table.
pub const ACCOUNTS: i64 = 100_000;

const INSTANCES: usize = 3;

/// Pause between two reads that make an instance verify.
const READS: Duration = Duration::from_millis(50);

/// Longer than a relay is behind here, so that drops alone end an entry.
const STALENESS: Duration = Duration::from_secs(60);

/// The key that they read; nothing changes it.
const READ: i64 = -2;

/// A value that tells when its cache dropped it.
#[derive(Clone)]
pub struct Tell(#[expect(dead_code, reason = "its drop is what counts")] Arc<OnDrop>);

struct OnDrop(i64, UnboundedSender<(i64, Instant)>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.1.send((self.0, Instant::now()));
    }
}

pub struct Node {
    _instance: Instance,
    pub cache: Cache<i64, Tell>,
    pub loads: Arc<AtomicU64>,
    /// Which key was dropped, and when.
    pub dropped: tokio::sync::Mutex<UnboundedReceiver<(i64, Instant)>>,
}

impl Node {
    async fn start(redis: &str, watched: bool) -> Self {
        let instance = Instance::start(settings(redis)).await.expect("starts");
        let (tell, dropped) = unbounded_channel();
        let loads = Arc::<AtomicU64>::default();
        let counted = loads.clone();
        let cache = instance.cache::<i64, Tell>("accounts");
        let cache = if watched { cache.source("shop") } else { cache };
        let cache = cache
            .max_staleness(STALENESS)
            .ttl(Duration::from_secs(3_600))
            .loader(move |id: i64| {
                counted.fetch_add(1, Relaxed);
                let tell = Tell(Arc::new(OnDrop(id, tell.clone())));
                async move { Ok(tell) }
            })
            .build()
            .expect("a valid cache");
        Self {
            _instance: instance,
            cache,
            loads,
            dropped: dropped.into(),
        }
    }

    /// Loads a key, and forgets which were dropped before.
    pub async fn load(&self, id: i64) {
        drop(self.cache.get(&id).await.expect("loads"));
        let mut dropped = self.dropped.lock().await;
        while dropped.try_recv().is_ok() {}
    }

    /// When the key was dropped.
    pub async fn until_dropped(&self, key: i64) -> Instant {
        let mut dropped = self.dropped.lock().await;
        loop {
            let heard = tokio::time::timeout(Duration::from_secs(300), dropped.recv());
            let (id, at) = heard.await.expect("it arrives").expect("the cache tells");
            if id == key {
                return at;
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    Works,
    None,
}

pub struct Rig {
    pub redis: Server,
    postgres: PostgresServer,
    pub nodes: Arc<Vec<Node>>,
    relay: Option<Child>,
    folder: TempDir,
}

impl Rig {
    pub async fn start(relay: Relay) -> Self {
        let redis = Server::start();
        let postgres = PostgresServer::start_with(&[("shared_buffers", "128MB")]).await;
        let made = "CREATE ROLE app LOGIN PASSWORD 'app'; CREATE DATABASE shop OWNER app";
        postgres.sql(made).await;
        let folder = TempDir::new().expect("a folder");
        let mut rig = Self {
            redis,
            postgres,
            nodes: Arc::default(),
            relay: None,
            folder,
        };
        let table = format!(
            "CREATE TABLE accounts (id bigint PRIMARY KEY, version bigint NOT NULL) WITH (fillfactor = 50);
             INSERT INTO accounts SELECT n, 0 FROM generate_series(-10, {ACCOUNTS}) n"
        );
        let client = rig.client().await;
        client.batch_execute(&table).await.expect("it makes tables");
        if relay == Relay::Works {
            rig.relay = Some(rig.start_relay().await);
        }
        let mut nodes = Vec::new();
        for _ in 0..INSTANCES {
            nodes.push(Node::start(&rig.redis.url(), relay == Relay::Works).await);
        }
        rig.nodes = Arc::new(nodes);
        rig
    }

    /// A session of the application.
    pub async fn client(&self) -> Client {
        let url = self.postgres.url("app", "app", "shop");
        let connected = tokio_postgres::connect(&url, NoTls).await;
        let (client, connection) = connected.expect("it connects");
        tokio::spawn(connection);
        client
    }

    pub fn relay_pid(&self) -> u32 {
        self.relay.as_ref().expect("a relay").id()
    }

    /// CPU time of PostgreSQL's process that reads the log for the relay.
    pub async fn sender_cpu(&self) -> Duration {
        let senders = "SELECT active_pid FROM pg_replication_slots";
        let pid = self.postgres.sql(senders).await;
        cpu_of(pid.parse().expect("one slot"))
    }

    /// Has every instance read, until it is dropped.
    pub fn read(&self) -> Reading {
        let nodes = self.nodes.clone();
        Reading(tokio::spawn(async move {
            loop {
                for node in nodes.iter() {
                    drop(node.cache.get(&READ).await.expect("reads"));
                }
                tokio::time::sleep(READS).await;
            }
        }))
    }

    async fn start_relay(&self) -> Child {
        let rules = self.folder.path().join("rules.toml");
        std::fs::write(&rules, RULES).expect("a file");
        let port = self.postgres.port();
        let socket = self.postgres.folder().display().to_string();
        let admin = format!("postgres://postgres@/shop?host={socket}&port={port}");
        let mut settings = Settings::default();
        settings.relay_database_url = Some(admin);
        let relay = SourceRelay::new(&settings, Some(&rules)).expect("good rules");
        self.postgres.sql_in("shop", &relay.sql(ROLE).await).await;
        let password = format!("ALTER ROLE {ROLE} PASSWORD 'relay'");
        self.postgres.sql(&password).await;
        let program = std::env::current_exe().expect("a program");
        let mut child = Command::new(program)
            .args([AS_RELAY, &rules.display().to_string()])
            .env("UNSTALE_REDIS_URL", self.redis.url())
            .env(
                "UNSTALE_RELAY_DATABASE_URL",
                url(port, ROLE, "relay", "shop"),
            )
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        let read = tokio::task::block_in_place(|| BufReader::new(output).read_line(&mut line));
        assert!(read.is_ok() && line.contains("relaying"), "{line}");
        child
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(relay) = &mut self.relay {
            let _ = relay.kill();
            let _ = relay.wait();
        }
    }
}

/// Ends with the value.
pub struct Reading(JoinHandle<()>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The process that relays: what `unstale relay` does.
pub fn relay(rules: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let settings = Settings::from_env().expect("settings");
        let relay = SourceRelay::new(&settings, Some(Path::new(rules))).expect("good rules");
        let instance = Instance::start(settings).await.expect("starts");
        let news = |news: RelayNews| match news {
            // Its reader has heard enough after the first time.
            RelayNews::Began => drop(writeln!(std::io::stdout(), "relaying")),
            RelayNews::Lost(why) => eprintln!("the log was lost: {why}"),
            RelayNews::Waits => eprintln!("another relay works"),
            RelayNews::GivenUp(what) => eprintln!("the slot was given up: {what}"),
        };
        // It is killed, and needs no end of its own.
        let never = std::future::pending();
        if let Some(error) = relay.run(&instance, news, never).await {
            eprintln!("{error}");
        }
    });
}
