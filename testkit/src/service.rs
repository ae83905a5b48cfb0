//! Processes of the reference service `accounts` (under `examples/`), and a client of its HTTP API.

use std::collections::VecDeque;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::built::example;
use super::redis::{end, free_port, freeze, signal};

/// Lines of output kept for a failure's message.
const OUTPUT_LINES: usize = 200;

/// How often another port is tried; see `free_port`.
const PORT_ATTEMPTS: usize = 10;

/// Start-up waits 2 s for Redis at most; the rest is for a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// A clean shutdown drains for 5 s at most; the rest is for a busy machine.
const EXIT_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a request may take: longer than any process is stopped for, so that what it answers
/// after it went on is seen too.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// One process of the service; killed when dropped.
#[derive(Debug)]
pub struct Service {
    address: String,
    base: String,
    database: OsString,
    settings: Vec<(String, String)>,
    http: reqwest::Client,
    child: Mutex<Child>,
    output: Output,
    /// They end with the process.
    readers: Vec<JoinHandle<()>>,
}

/// How a service answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// The header `x-cache`: `hit`, `miss`, `coalesced` or `negative`.
    pub cache: Option<String>,
    /// The header `age`, in whole seconds: how long ago the value was loaded.
    pub age: Option<Duration>,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The account's version.
    pub fn version(&self) -> Option<u64> {
        self.json()["version"].as_u64()
    }
}

/// A service that ended before it was ready.
#[derive(Debug)]
pub struct NotStarted {
    pub status: ExitStatus,
    pub output: String,
}

impl Service {
    /// Starts a process and waits until it is alive (`/livez`). `database` is a file of SQLite, or a URL of
    /// PostgreSQL.
    ///
    /// `settings` are variables (`UNSTALE_REDIS_URL`, ...); those of the test's own environment
    /// that begin with `UNSTALE_` do not reach it.
    ///
    /// # Panics
    ///
    /// When it does not come up, with its output.
    pub async fn start(database: impl AsRef<OsStr>, settings: &[(&str, &str)]) -> Self {
        let started = Self::try_start(database, settings).await;
        started.unwrap_or_else(|failed| fail(&format!("ended, {}", failed.status), &failed.output))
    }

    /// As [`start`](Self::start), where ending at once is what is being tested.
    pub async fn try_start(
        database: impl AsRef<OsStr>,
        settings: &[(&str, &str)],
    ) -> Result<Self, NotStarted> {
        let mut attempt = 1;
        loop {
            let started = Self::spawn(free_port(), database.as_ref(), settings)
                .until_alive()
                .await;
            match started {
                Err(failed) if attempt < PORT_ATTEMPTS && failed.output.contains("in use") => {}
                started => return started,
            }
            attempt += 1;
        }
    }

    fn spawn(port: u16, database: &OsStr, settings: &[(&str, &str)]) -> Self {
        let address = format!("{}:{port}", Ipv4Addr::LOCALHOST);
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let output = Output::default();
        let (child, readers) = execute(&address, database, &settings, &output);
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(REQUEST_TIMEOUT)
            .build()
            .expect("a client without TLS needs nothing");
        Self {
            base: format!("http://{address}"),
            address,
            database: database.to_owned(),
            settings,
            http,
            child: Mutex::new(child),
            output,
            readers,
        }
    }

    async fn until_alive(mut self) -> Result<Self, NotStarted> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let exit = self
                .child()
                .try_wait()
                .expect("the child can be waited for");
            if let Some(status) = exit {
                for reader in std::mem::take(&mut self.readers) {
                    reader.join().expect("a reader does not panic");
                }
                return Err(NotStarted {
                    status,
                    output: self.output.to_string(),
                });
            }
            if self.is_alive().await {
                return Ok(self);
            }
            if Instant::now() > deadline {
                fail("is not alive", &self.output);
            }
            sleep(POLL).await;
        }
    }

    /// `host:port` of its HTTP API.
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// Returns whether `GET /livez` is answered 200.
    pub async fn is_alive(&self) -> bool {
        let reply = self.request(Method::GET, "/livez").await;
        reply.is_ok_and(|reply| reply.status == 200)
    }

    /// `GET /accounts/{id}`.
    pub async fn get(&self, id: u64) -> reqwest::Result<Reply> {
        self.request(Method::GET, &format!("/accounts/{id}")).await
    }

    /// `PUT /accounts/{id}`.
    pub async fn put(&self, id: u64, name: &str, balance: i64) -> reqwest::Result<Reply> {
        let request = self.http.put(format!("{}/accounts/{id}", self.base));
        send(request.json(&json!({ "name": name, "balance": balance }))).await
    }

    /// `DELETE /accounts/{id}`.
    pub async fn delete(&self, id: u64) -> reqwest::Result<Reply> {
        self.request(Method::DELETE, &format!("/accounts/{id}"))
            .await
    }

    /// `GET /accounts/{id}/explain`: 200 with why a read would be answered as it would be.
    pub async fn explain(&self, id: u64) -> reqwest::Result<Reply> {
        let path = format!("/accounts/{id}/explain");
        self.request(Method::GET, &path).await
    }

    /// `GET /healthz`: 200, or 503 while degraded.
    pub async fn healthz(&self) -> reqwest::Result<Reply> {
        self.request(Method::GET, "/healthz").await
    }

    /// The text of `GET /metrics`.
    pub async fn metrics(&self) -> reqwest::Result<String> {
        Ok(self.request(Method::GET, "/metrics").await?.body)
    }

    /// Waits until `/healthz` says that the fleet is coherent here.
    ///
    /// # Panics
    ///
    /// When it has not said so in time, with its last answer and the process' output.
    pub async fn until_healthy(&self, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let health = self.healthz().await;
            if health.as_ref().is_ok_and(|reply| reply.status == 200) {
                return;
            }
            if Instant::now() > deadline {
                fail(&format!("is not healthy: {health:?}"), &self.output);
            }
            sleep(POLL).await;
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// SIGSTOP: the kernel still accepts connections, nothing answers.
    pub fn stop(&self) {
        freeze(&mut self.child());
    }

    /// SIGCONT.
    pub fn cont(&self) {
        signal(&mut self.child(), Signal::CONT);
    }

    /// SIGKILL: a crash.
    pub fn kill(&self) {
        end(&mut self.child());
    }

    /// Starts it again as it was, on the same port, and waits until it is alive. One that still runs
    /// is killed first.
    ///
    /// # Panics
    ///
    /// When it does not come up, with its output.
    pub async fn restart(&self) {
        self.kill();
        let deadline = Instant::now() + READY_TIMEOUT;
        while !self.is_alive().await {
            let ended = self.child().try_wait();
            if ended.expect("the child can be waited for").is_some() {
                // Its readers end with it.
                let (child, _) =
                    execute(&self.address, &self.database, &self.settings, &self.output);
                *self.child() = child;
            }
            if Instant::now() > deadline {
                fail("does not come back", &self.output);
            }
            sleep(POLL).await;
        }
    }

    /// SIGTERM. Returns how the process ended.
    ///
    /// # Panics
    ///
    /// When it has not ended in time, with its output.
    pub async fn terminate(&self) -> ExitStatus {
        signal(&mut self.child(), Signal::TERM);
        let deadline = Instant::now() + EXIT_TIMEOUT;
        loop {
            let exit = self
                .child()
                .try_wait()
                .expect("the child can be waited for");
            if let Some(status) = exit {
                return status;
            }
            if Instant::now() > deadline {
                fail("ignores SIGTERM", &self.output);
            }
            sleep(POLL).await;
        }
    }

    /// The last lines that the process wrote.
    pub fn output(&self) -> String {
        self.output.to_string()
    }

    async fn request(&self, method: Method, path: &str) -> reqwest::Result<Reply> {
        send(self.http.request(method, format!("{}{path}", self.base))).await
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the process, and the threads that read what it prints.
fn execute(
    address: &str,
    database: &OsStr,
    settings: &[(String, String)],
    output: &Output,
) -> (Child, Vec<JoinHandle<()>>) {
    let mut command = Command::new(binary());
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("UNSTALE_") {
            command.env_remove(name);
        }
    }
    let settings = settings.iter().map(|(name, value)| (name, value));
    let mut child = command
        .args(["--listen", address, "--database"])
        .arg(database)
        .envs(settings)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the service can be executed");
    let readers = vec![
        output.collect(child.stdout.take().expect("stdout is piped")),
        output.collect(child.stderr.take().expect("stderr is piped")),
    ];
    (child, readers)
}

impl Drop for Service {
    fn drop(&mut self) {
        // SIGKILL ends a stopped process too.
        self.kill();
    }
}

async fn send(request: RequestBuilder) -> reqwest::Result<Reply> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let header = |name| response.headers().get(name)?.to_str().ok();
    let cache = header("x-cache").map(str::to_owned);
    let age = header("age").and_then(|age| age.parse().ok());
    Ok(Reply {
        status,
        cache,
        age: age.map(Duration::from_secs),
        body: response.text().await?,
    })
}

/// The program of the reference service.
pub fn binary() -> PathBuf {
    example("accounts")
}

#[expect(clippy::panic, reason = "a fixture fails its test")]
fn fail(what: &str, output: &impl fmt::Display) -> ! {
    panic!("the service {what}; its output:\n{output}");
}

/// The last lines of both of a process' streams, read by threads that end with it.
#[derive(Clone, Debug, Default)]
struct Output(Arc<Mutex<VecDeque<String>>>);

impl Output {
    fn collect(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = Arc::clone(&self.0);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == OUTPUT_LINES {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
        })
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
