//! Several instances of the service on one Redis and one database file.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet, block_in_place};
use tokio::time::{Instant, sleep};
use unstale::{CacheSettings, Instance, InstanceState, Settings};

use super::database::Database;
use super::keys::ApiKeys;
use super::routes;
use crate::wire::Wire;
use testkit::redis::RedisServer;

/// How long instances may take to be coherent; some milliseconds, the rest is for a slow machine.
const COHERENT: Duration = Duration::from_secs(120);

/// Keys that are made at once.
const AT_ONCE: usize = 16;

/// Instances by their index: A is 0, B is 1.
pub(crate) struct Fleet {
    pub(crate) keys: Vec<ApiKeys>,
    pub(crate) databases: Vec<Database>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) wires: Vec<Wire>,
    pub(crate) good: Vec<String>,
    settings: Settings,
    dir: TempDir,
    _redis: RedisServer,
}

impl Fleet {
    /// Starts everything, makes `count` keys on A, and has all of them in memory everywhere.
    pub(crate) async fn start(instances: usize, count: usize) -> Self {
        Self::start_with(instances, count, CacheSettings::default()).await
    }

    /// As [`start`](Self::start), with what an operator has set for the cache.
    pub(crate) async fn start_with(instances: usize, count: usize, cache: CacheSettings) -> Self {
        let mut settings = Settings::default();
        settings.caches.insert("api_keys".to_owned(), cache);
        Self::with(instances, count, settings).await
    }

    pub(crate) async fn with(instances: usize, count: usize, settings: Settings) -> Self {
        let dir = TempDir::with_prefix("api-keys-").unwrap();
        let redis = block_in_place(RedisServer::start);
        let mut fleet = Self {
            keys: Vec::new(),
            databases: Vec::new(),
            instances: Vec::new(),
            wires: Vec::new(),
            good: Vec::new(),
            settings,
            dir,
            _redis: redis,
        };
        for _ in 0..instances {
            let wire = Wire::to(fleet._redis.port()).await;
            let mut settings = fleet.settings.clone();
            settings.redis_url = Some(wire.url());
            let instance = Instance::start(settings).await.unwrap();
            let database = Database::open(&fleet.file()).unwrap();
            fleet
                .keys
                .push(ApiKeys::new(&instance, database.clone()).unwrap());
            fleet.databases.push(database);
            fleet.instances.push(instance);
            fleet.wires.push(wire);
        }
        for index in 0..instances {
            fleet.until_coherent(index).await;
        }
        let mut making = JoinSet::new();
        while fleet.good.len() < count {
            if making.len() < AT_ONCE && fleet.good.len() + making.len() < count {
                let a = fleet.keys[0].clone();
                making.spawn(async move { a.create("owner").await.unwrap() });
            } else if let Some(key) = making.join_next().await {
                fleet.good.push(key.unwrap());
            }
        }
        // An event that arrives during the load of its key makes that load not count.
        let deadline = Instant::now() + COHERENT;
        for keys in &fleet.keys {
            while keys.warm_up().await.unwrap() < count {
                assert!(Instant::now() < deadline, "the keys do not stay in memory");
            }
        }
        fleet
    }

    /// The database that all share.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("keys.db")
    }

    pub(crate) fn max_staleness(&self) -> Duration {
        self.settings.max_staleness.unwrap()
    }

    pub(crate) async fn until_coherent(&self, index: usize) {
        let deadline = Instant::now() + COHERENT;
        while self.instances[index].health().state != InstanceState::Coherent {
            assert!(
                Instant::now() < deadline,
                "{:?}",
                self.instances[index].health()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// A series of an instance's metrics, without its prefix; 0 where there is none.
    pub(crate) fn metric(&self, index: usize, series: &str) -> u64 {
        let text = self.instances[index].metrics_text();
        let line = text.lines().find_map(|line| {
            let line = line.strip_prefix("unstale_")?.strip_prefix(series)?;
            line.strip_prefix(' ')
        });
        line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }

    /// Serves an instance over HTTP.
    pub(crate) async fn serve(&self, index: usize) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = routes::router(self.keys[index].clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Served { url, http, task }
    }

    pub(crate) async fn stop(self) {
        for instance in &self.instances {
            instance.shutdown().await.unwrap();
        }
    }
}

/// An instance behind HTTP.
pub(crate) struct Served {
    url: String,
    http: reqwest::Client,
    task: JoinHandle<()>,
}

impl Served {
    pub(crate) async fn create(&self, owner: &str) -> String {
        let request = self.http.post(format!("{}/keys", self.url));
        let response = request.json(&json!({ "owner": owner })).send();
        let response = response.await.unwrap().error_for_status().unwrap();
        let body: Value = response.json().await.unwrap();
        body["key"].as_str().unwrap().to_owned()
    }

    /// The status and the owner of the key.
    pub(crate) async fn whoami(&self, key: &str) -> (u16, String) {
        let response = self.ask(key).await;
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap_or_default();
        (
            status,
            body["owner"].as_str().unwrap_or_default().to_owned(),
        )
    }

    pub(crate) async fn ask(&self, key: &str) -> Response {
        let request = self.http.get(format!("{}/whoami", self.url));
        request.bearer_auth(key).send().await.unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The sample below which `part` of a hundred are.
pub(crate) fn percentile(samples: &mut [Duration], part: usize) -> Duration {
    assert!(samples.len() >= 100, "only {} samples", samples.len());
    samples.sort_unstable();
    samples[samples.len() * part / 100]
}
