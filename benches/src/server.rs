//! A Redis of the program's own, and what it says of itself.

use std::sync::Mutex;
use std::time::Duration;

use testkit::{redis, resp};

use crate::cpu_of;

/// A redis-server on a free port, ended when dropped.
#[derive(Debug)]
pub struct Server {
    server: redis::RedisServer,
    admin: Mutex<resp::Client>,
}

/// What the server has done so far, this question included.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    pub commands: u64,
    pub input: u64,
    pub output: u64,
    pub cpu: Duration,
}

impl Server {
    /// # Panics
    ///
    /// Without a redis-server to run.
    pub fn start() -> Self {
        let server = redis::RedisServer::start();
        let admin = Mutex::new(resp::Client::connect(server.port()));
        Self { server, admin }
    }

    /// A replica of what is at this port, once it is in step.
    ///
    /// # Panics
    ///
    /// Without a redis-server to run.
    pub fn replica_of(port: u16) -> Self {
        let of = format!("127.0.0.1 {port}");
        let arguments = ["--replicaof", &of, "--repl-diskless-sync-delay", "0"];
        let server = redis::RedisServer::start_with(&arguments);
        let mut admin = resp::Client::connect(server.port());
        while admin.info("master_link_status") != "up" {
            std::thread::sleep(Duration::from_millis(10));
        }
        let admin = Mutex::new(admin);
        Self { server, admin }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// # Panics
    ///
    /// If the server is gone.
    pub fn stats(&self) -> Stats {
        let mut admin = self.admin.lock().expect("no panic");
        let text = admin.cmd(&["INFO", "stats"]).text();
        let field = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.expect("INFO has it").parse().expect("a number")
        };
        Stats {
            commands: field("total_commands_processed:"),
            input: field("total_net_input_bytes:"),
            output: field("total_net_output_bytes:"),
            cpu: cpu_of(self.server.pid()),
        }
    }

    /// What `work` made the server do.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> (T, Stats) {
        // What the question itself costs is seen in the next answer only.
        let (first, before) = (self.stats(), self.stats());
        let result = work.await;
        let after = self.stats();
        let less = |field: fn(&Stats) -> u64| {
            (field(&after) - field(&before)).saturating_sub(field(&before) - field(&first))
        };
        let stats = Stats {
            commands: less(|stats| stats.commands),
            input: less(|stats| stats.input),
            output: less(|stats| stats.output),
            cpu: after.cpu - before.cpu,
        };
        (result, stats)
    }

    /// How often each command was called, from `INFO commandstats`.
    ///
    /// # Panics
    ///
    /// If the server is gone.
    pub fn calls(&self) -> Vec<(String, u64)> {
        let mut admin = self.admin.lock().expect("no panic");
        let text = admin.cmd(&["INFO", "commandstats"]).text();
        let line = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let calls = rest.split(',').next()?.parse().ok()?;
            Some((name.to_owned(), calls))
        };
        text.lines().filter_map(line).collect()
    }
}
