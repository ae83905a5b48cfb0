//! A Prometheus of the test's own, on a port of its own, gone when the value is dropped.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::redis::{end, free_port};

/// How often another port is tried; see `free_port`.
const PORT_ATTEMPTS: usize = 10;

/// It is ready within a second on an idle machine.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// For one query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(50);

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    base: String,
    http: reqwest::Client,
    child: Mutex<Child>,
    dir: TempDir,
}

impl Prometheus {
    /// Starts one that asks these addresses (`host:port`) for `/metrics` every second, as the job
    /// `accounts`, and evaluates these rules every second.
    ///
    /// # Panics
    ///
    /// Without a prometheus: a test that needs one fails, it is never skipped.
    #[expect(clippy::panic, reason = "a fixture fails its test")]
    pub async fn start(targets: &[&str], rules: &Path) -> Self {
        let config = json!({
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": [rules],
            "scrape_configs": [{
                "job_name": "accounts",
                "static_configs": [{ "targets": targets }],
            }],
        });
        for _ in 0..PORT_ATTEMPTS {
            let mut started = Self::spawn(free_port(), &config);
            if started.until_ready().await {
                return started;
            }
            let log = started.log();
            assert!(log.contains("already in use"), "prometheus ended:\n{log}");
        }
        panic!("no port for prometheus");
    }

    fn spawn(port: u16, config: &Value) -> Self {
        let dir = TempDir::with_prefix("prometheus-").expect("a temporary directory");
        // JSON is YAML.
        let file = dir.path().join("prometheus.yml");
        fs::write(file, config.to_string()).expect("the configuration can be written");
        let log = fs::File::create(dir.path().join("log")).expect("the log can be written");
        let child = Command::new(binary("prometheus"))
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus can be executed");
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(QUERY_TIMEOUT)
            .build();
        Self {
            base: format!("http://127.0.0.1:{port}"),
            http: http.expect("a client without TLS needs nothing"),
            child: Mutex::new(child),
            dir,
        }
    }

    /// Returns whether it is ready; not if it has ended before.
    async fn until_ready(&mut self) -> bool {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let child = self.child.get_mut().expect("no thread panicked with it");
            if child
                .try_wait()
                .expect("a child can be waited for")
                .is_some()
            {
                return false;
            }
            let ready = self.http.get(format!("{}/-/ready", self.base)).send().await;
            if ready.is_ok_and(|reply| reply.status().is_success()) {
                return true;
            }
            assert!(Instant::now() < deadline, "prometheus:\n{}", self.log());
            sleep(POLL).await;
        }
    }

    /// What its HTTP API answers: the data, or its error.
    pub async fn api(&self, path: &str, params: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("{}/api/v1/{path}", self.base);
        let reply = self.http.get(url).query(params).send().await;
        let body: Value = match reply {
            Ok(reply) => reply.json().await.map_err(|error| error.to_string())?,
            Err(error) => return Err(error.to_string()),
        };
        if body["status"] == "success" {
            return Ok(body["data"].clone());
        }
        Err(body["error"].to_string())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Ok(child) = self.child.get_mut() {
            end(child);
        }
    }
}

/// `prometheus` or `promtool`: from the folder `PROMETHEUS_BIN` if it is set, else the first in `PATH`.
pub fn binary(name: &str) -> PathBuf {
    let folders = env::var_os("PROMETHEUS_BIN").or_else(|| env::var_os("PATH"));
    let folders = folders.unwrap_or_default();
    let files = env::split_paths(&folders).map(|folder| folder.join(name));
    files.into_iter().find(|file| file.is_file()).expect(
        "these tests need Prometheus with promtool: `scripts/install.sh prometheus`, or `apt-get install \
         prometheus`, or set PROMETHEUS_BIN to the folder that has both",
    )
}
