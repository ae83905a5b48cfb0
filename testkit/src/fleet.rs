//! Several processes of the reference service on one Redis and one database.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::block_in_place;

use super::proxy::Proxy;
use super::redis::RedisServer;
use super::resp::{Client, Value};
use super::service::Service;

/// How long the instances may take to be coherent after they are alive.
const HEALTHY_TIMEOUT: Duration = Duration::from_secs(120);

/// A running fleet. Fields are dropped in this order: clients before their servers.
#[derive(Debug)]
pub struct Fleet {
    pub services: Vec<Arc<Service>>,
    /// By instance: its way to Redis.
    pub proxies: Vec<Proxy>,
    pub redis: RedisServer,
    dir: TempDir,
}

impl Fleet {
    /// Starts Redis and the instances, and waits until all are coherent.
    /// Needs a runtime with several threads, as everything here that waits for Redis does.
    pub async fn start(instances: usize) -> Self {
        Self::start_with(instances, &[]).await
    }

    /// As [`start`](Self::start), with more variables for every instance.
    pub async fn start_with(instances: usize, more: &[(&str, &str)]) -> Self {
        let dir = TempDir::with_prefix("fleet-").expect("a temporary directory");
        let database = database(&dir);
        let redis = block_in_place(RedisServer::start);
        let mut proxies = Vec::new();
        let mut services = Vec::new();
        for _ in 0..instances {
            let proxy = Proxy::start(redis.port()).await;
            let url = proxy.url();
            let own = [("UNSTALE_REDIS_URL", &*url), ("UNSTALE_NAMESPACE", "fleet")];
            let settings = [&own, more].concat();
            // One after the other: the first creates the database's tables.
            services.push(Arc::new(Service::start(&database, &settings).await));
            proxies.push(proxy);
        }
        for service in &services {
            service.until_healthy(HEALTHY_TIMEOUT).await;
        }
        Self {
            services,
            proxies,
            redis,
            dir,
        }
    }

    /// The file that all instances share.
    pub fn database(&self) -> PathBuf {
        database(&self.dir)
    }

    /// Runs a command on Redis, past the proxies.
    pub fn admin(&self, args: &[&str]) -> Value {
        block_in_place(|| Client::connect(self.redis.port()).cmd(args))
    }
}

fn database(dir: &TempDir) -> PathBuf {
    dir.path().join("accounts.db")
}
