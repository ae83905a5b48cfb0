//! A PostgreSQL server of the test's own, on a port and in a folder of its own, gone when the value is
//! dropped.

mod client;
mod data;
mod processes;
mod programs;
mod replica;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::redis::{free_port, signal};
use super::tls::Certificates;
pub use client::{query, url};

/// How often another port is tried; see `free_port`.
const PORT_ATTEMPTS: usize = 50;

/// How long a server may take to answer: some 100 ms on an idle machine, far more on a busy one.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// How long an orderly end may take. It waits until clients have what was written for them, which the
/// server gives up after a minute (`wal_sender_timeout`).
const STOP_TIMEOUT: Duration = Duration::from_secs(180);

/// How long the end without order may take before it is forced; the server itself waits 5 s.
const QUIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause between two looks at something that will be true soon.
const POLL: Duration = Duration::from_millis(5);

/// A running server on 127.0.0.1 and on a socket in its folder, with logical replication.
#[derive(Debug)]
pub struct PostgresServer {
    port: u16,
    child: Mutex<Child>,
    folder: TempDir,
}

#[derive(Debug)]
enum Failure {
    PortTaken,
    /// With its log.
    Died(String),
}

impl PostgresServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    ///
    /// Without PostgreSQL: a test that needs it fails, it is never skipped.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Like [`start`](Self::start), with settings (`&[("fsync", "on")]`) that override the fixture's.
    /// `ALTER SYSTEM` overrides both.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_over(None, settings).await
    }

    /// The same; with certificates a client over TCP has to speak TLS. A test that wants certificates of
    /// clients has `ca.crt` to check them.
    pub async fn start_over(tls: Option<&Certificates>, settings: &[(&str, &str)]) -> Self {
        let folder = spawn_blocking(data::create).await;
        let folder = folder.expect("the folder of a server can be made");
        data::secure(folder.path(), tls);
        data::configure(folder.path(), settings);
        Self::start_in(folder).await
    }

    /// Starts the server of a folder.
    #[expect(clippy::panic, reason = "a fixture fails its test")]
    async fn start_in(folder: TempDir) -> Self {
        let socket = folder.path().display().to_string();
        data::configure(folder.path(), &[("unix_socket_directories", &socket)]);
        let port = free_port();
        // From now on it is ended with the value, whatever happens.
        let mut server = Self {
            port,
            child: Mutex::new(spawn(folder.path(), port)),
            folder,
        };
        for _ in 0..PORT_ATTEMPTS {
            match server.until_ready().await {
                Ok(()) => return server,
                Err(Failure::PortTaken) => server.port = free_port(),
                Err(Failure::Died(log)) => panic!("PostgreSQL did not start:\n{log}"),
            }
            server.spawn();
        }
        panic!("no port for PostgreSQL");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the present incarnation's postmaster.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// The server's folder: its socket, its `data` and its log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the present incarnation has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(log(self.folder())).unwrap_or_default()
    }

    /// Where a role finds a database. The superuser `postgres` has no password, and only the socket.
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        url(self.port, user, password, database)
    }

    /// An orderly end: transactions are rolled back, connections closed, everything saved. Subscribers of
    /// the log are waited for, as long as they answer.
    pub async fn stop(&self) {
        self.resume();
        signal(&mut self.child(), Signal::INT);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while !self.has_ended() {
            let log = self.log();
            assert!(Instant::now() < deadline, "it does not stop:\n{log}");
            sleep(POLL).await;
        }
    }

    /// A crash: SIGKILL for all its processes, then waits until they are gone.
    pub fn kill(&self) {
        processes::crash(&mut self.child());
    }

    /// Starts again on the same port with the same data. A server that still runs is stopped first.
    #[expect(clippy::panic, reason = "a fixture fails its test")]
    pub async fn restart(&self) {
        self.stop().await;
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            self.spawn();
            match self.until_ready().await {
                Ok(()) => return,
                // A short test for a free port by another fixture, which does not keep it.
                Err(Failure::PortTaken) if Instant::now() < deadline => sleep(POLL).await,
                Err(failure) => panic!("PostgreSQL did not come back: {failure:?}"),
            }
        }
    }

    /// SIGSTOP for all its processes: connections stay open and new ones are accepted by the kernel,
    /// nothing answers.
    pub fn pause(&self) {
        processes::pause(&mut self.child());
    }

    /// SIGCONT.
    pub fn resume(&self) {
        processes::resume(&mut self.child());
    }

    fn spawn(&self) {
        *self.child() = spawn(self.folder(), self.port);
    }

    /// Waits until it answers by its own socket; not if it has ended before.
    async fn until_ready(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let ended = self.has_ended();
            let log = self.log();
            if ended && log.contains("Address already in use") {
                return Err(Failure::PortTaken);
            }
            if ended || Instant::now() > deadline {
                return Err(Failure::Died(log));
            }
            if log.contains("ready to accept") && self.try_sql("SELECT 1").await.is_ok() {
                return Ok(());
            }
            sleep(POLL).await;
        }
    }

    fn has_ended(&self) -> bool {
        processes::ended(&mut self.child())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        // A test that failed while holding it must still end its server.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Without a checkpoint, but it takes its shared memory with it.
        processes::resume(child);
        signal(child, Signal::QUIT);
        let deadline = Instant::now() + QUIT_TIMEOUT;
        while !processes::ended(child) && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        processes::crash(child);
        data::forget(self.folder.path());
    }
}

fn log(folder: &Path) -> PathBuf {
    folder.join("postgres.log")
}

fn spawn(folder: &Path, port: u16) -> Child {
    // The log is the proof of being ready, so an earlier life's must not be there.
    let log = File::create(log(folder)).expect("the log can be written");
    programs::server(programs::binary("postgres"))
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("PostgreSQL can be executed")
}
