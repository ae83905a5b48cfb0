//! The servers, the way to them, the instances, and the relay as a process.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use testkit::postgres::{PostgresServer, url};
use testkit::program::{Ran, run};
use testkit::proxy::Proxy;
use testkit::redis::RedisServer;
use tokio::task::block_in_place;

use super::database::Database;
use super::program::relay::Relay;
use super::schema::{Node, RULES, TABLES};
use super::{MAX_STALENESS, MEMBER_TIMEOUT, VERIFY_INTERVAL};
use crate::support::over_redis::until;

const INSTANCES: usize = 3;

/// The relay's login.
pub(crate) const ROLE: &str = "shop_relay";
pub(crate) const PASSWORD: &str = "relay-p4ssw0rd";

/// Everything a test needs, with no relay yet.
pub(crate) struct Rig {
    pub(crate) redis: RedisServer,
    pub(crate) postgres: PostgresServer,
    /// A relay that goes this way can be cut off.
    pub(crate) to_redis: Proxy,
    pub(crate) to_postgres: Proxy,
    /// The application's own connection, straight to the server.
    pub(crate) database: Arc<Database>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) bound: Duration,
    pub(crate) lanes: u32,
    /// The slot of the relays that are started from now on, where it outlives them.
    pub(crate) slot: Option<&'static str>,
    folder: TempDir,
}

/// Which way a relay goes to its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Straight,
    OverProxies,
}

impl Rig {
    /// Servers that are prepared, and three instances with a bound of two seconds.
    pub(crate) async fn start() -> Self {
        Self::bounded(MAX_STALENESS).await
    }

    pub(crate) async fn bounded(bound: Duration) -> Self {
        Self::bare(&[]).await.ready(bound).await
    }

    /// Prepares the servers, and starts three instances.
    pub(crate) async fn ready(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self.prepare().await;
        self.join().await;
        self
    }

    /// Servers alone; PostgreSQL has the tables, and nothing of a relay.
    pub(crate) async fn bare(settings: &[(&str, &str)]) -> Self {
        Self::of(settings, TABLES, RULES).await
    }

    /// The same with other tables and rules.
    pub(crate) async fn of(settings: &[(&str, &str)], tables: &str, rules: &str) -> Self {
        Self::made(PostgresServer::start_with(settings).await, tables, rules).await
    }

    /// The same with this PostgreSQL.
    pub(crate) async fn on(postgres: PostgresServer) -> Self {
        Self::made(postgres, TABLES, RULES).await
    }

    async fn made(postgres: PostgresServer, tables: &str, rules: &str) -> Self {
        let redis = block_in_place(RedisServer::start);
        let made = "CREATE ROLE app LOGIN PASSWORD 'app'; CREATE DATABASE shop OWNER app";
        postgres.sql(made).await;
        // Over the socket, where no server asks for TLS.
        let (folder, port) = (postgres.folder().display(), postgres.port());
        let app = format!("host={folder} port={port} user=app password=app dbname=shop");
        let database = Database::new(app);
        database.run(tables).await;
        let folder = TempDir::with_prefix("relay-").unwrap();
        fs::write(folder.path().join("rules.toml"), rules).unwrap();
        Self {
            to_redis: Proxy::start(redis.port()).await,
            to_postgres: Proxy::start(postgres.port()).await,
            redis,
            postgres,
            database,
            nodes: Vec::new(),
            slot: None,
            bound: MAX_STALENESS,
            lanes: 1,
            folder,
        }
    }

    /// Runs what `--print-sql` prints, as an operator does.
    pub(crate) async fn prepare(&self) {
        let ran = self.operator(&["--print-sql", "--role", ROLE]);
        assert_eq!(ran.status, Some(0), "{ran:?}");
        self.postgres.sql_in("shop", &ran.stdout).await;
        let password = format!("ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'");
        self.postgres.sql(&password).await;
    }

    /// Starts the instances.
    pub(crate) async fn join(&mut self) {
        for _ in 0..INSTANCES {
            let parts = (&self.database, self.lanes);
            let node = Node::start(&self.redis.url(), parts, self.bound).await;
            self.nodes.push(node);
        }
    }

    pub(crate) fn rules(&self) -> PathBuf {
        self.folder.path().join("rules.toml")
    }

    /// Replaces the rules.
    pub(crate) fn write_rules(&self, text: &str) {
        fs::write(self.rules(), text).unwrap();
    }

    /// `unstale relay` with the superuser's login, over the socket.
    pub(crate) fn operator(&self, args: &[&str]) -> Ran {
        let folder = self.postgres.folder().display().to_string();
        let port = self.postgres.port();
        let url = format!("postgres://postgres@/shop?host={folder}&port={port}");
        self.run(args, &url)
    }

    /// `unstale relay` with the relay's login, to its end.
    pub(crate) fn as_relay(&self, args: &[&str]) -> Ran {
        self.run(args, &self.url(Way::Straight))
    }

    /// The same with another URL of the database.
    pub(crate) fn run(&self, args: &[&str], url: &str) -> Ran {
        let rules = self.rules().display().to_string();
        let args = [&["relay", "--rules", &rules], args].concat();
        let variables = self.variables(url, Way::Straight);
        let variables: Vec<(&str, &str)> = variables.iter().map(|(k, v)| (*k, &**v)).collect();
        run(&args, &variables)
    }

    /// Where the relay finds the database.
    pub(crate) fn url(&self, way: Way) -> String {
        let port = match way {
            Way::Straight => self.postgres.port(),
            Way::OverProxies => self.to_postgres.port(),
        };
        url(port, ROLE, PASSWORD, "shop")
    }

    pub(crate) fn variables(&self, database: &str, way: Way) -> Vec<(&'static str, String)> {
        let redis = match way {
            Way::Straight => self.redis.url(),
            Way::OverProxies => self.to_redis.url(),
        };
        let mut variables = vec![
            ("UNSTALE_REDIS_URL", redis),
            ("UNSTALE_NAMESPACE", "shop".to_owned()),
            ("UNSTALE_LANES", self.lanes.to_string()),
            ("UNSTALE_VERIFY_INTERVAL", format!("{VERIFY_INTERVAL:?}")),
            ("UNSTALE_MEMBER_TIMEOUT", format!("{MEMBER_TIMEOUT:?}")),
            ("UNSTALE_RELAY_DATABASE_URL", database.to_owned()),
        ];
        variables.extend(
            self.slot
                .map(|slot| ("UNSTALE_RELAY_SLOT", slot.to_owned())),
        );
        variables
    }

    /// Changes rows as an application does.
    pub(crate) async fn sql(&self, sql: &str) {
        self.database.run(sql).await;
    }

    /// Starts a relay; it may have to wait for another one.
    pub(crate) fn spawn(&self, way: Way) -> Relay {
        self.spawn_at(&self.url(way), way)
    }

    pub(crate) fn spawn_at(&self, database: &str, way: Way) -> Relay {
        Relay::start(&self.rules(), &self.variables(database, way))
    }

    /// Starts a relay and waits until it reads the log.
    pub(crate) async fn relay(&self, way: Way) -> Relay {
        let relay = self.spawn(way);
        relay.until_says("relaying shop").await;
        relay
    }

    /// The slots that relays have made.
    pub(crate) async fn slots(&self) -> String {
        let slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'unstale%'";
        self.postgres.sql(slots).await
    }

    pub(crate) async fn no_slot(&self) {
        until("no slot is left", async || self.slots().await == "0").await;
    }
}
