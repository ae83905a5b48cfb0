//! A primary, a replica and three sentinels that watch them.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::redis::{RedisServer, binary, end, free_port};
use super::resp::Client;
use super::tls::Certificates;

/// The service's name.
pub const SERVICE: &str = "mymaster";

/// How long the sentinels may take to find each other: about 2 s, more on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(20);

const SENTINELS: usize = 3;

/// See the module's documentation.
#[derive(Debug)]
pub struct SentinelFleet {
    pub primary: RedisServer,
    pub replica: RedisServer,
    sentinels: Vec<Sentinel>,
    /// Where others find the replica.
    replica_port: u16,
    tls: bool,
}

#[derive(Debug)]
struct Sentinel {
    port: u16,
    /// Where instances find it: over TLS another port.
    reached: u16,
    child: Mutex<Child>,
    /// Where it keeps what it learns.
    _dir: TempDir,
}

impl SentinelFleet {
    /// Starts all of them, and waits until they would agree on a failover.
    pub fn start() -> Self {
        Self::start_over(None)
    }

    /// The same; with certificates only this fixture speaks to any of them without TLS.
    pub fn start_over(tls: Option<&Certificates>) -> Self {
        let (primary, primary_port) = server(tls, &[]);
        let of = format!("127.0.0.1 {primary_port}");
        let (replica, replica_port) = server(tls, &["--replicaof", &of]);
        let in_step = || {
            let info = Client::connect(replica.port()).cmd(&["INFO", "replication"]);
            info.text().contains("master_link_status:up")
        };
        wait("the replica", in_step);
        let sentinels = (0..SENTINELS).map(|_| Sentinel::start(primary_port, tls));
        let fleet = Self {
            sentinels: sentinels.collect(),
            primary,
            replica,
            replica_port,
            tls: tls.is_some(),
        };
        wait("the sentinels", || {
            fleet.sentinels.iter().all(Sentinel::knows_all)
        });
        fleet
    }

    /// The URL for instances.
    pub fn url(&self) -> String {
        let places = self
            .sentinels
            .iter()
            .map(|s| format!("127.0.0.1:{}", s.reached));
        let places: Vec<String> = places.collect();
        let scheme = if self.tls { "rediss" } else { "redis" };
        let places = places.join(",");
        format!("{scheme}-sentinel://{places}?service={SERVICE}")
    }

    /// How many sentinels name the replica as the primary.
    pub fn promoted(&self) -> usize {
        let promoted = self.replica_port;
        let named = self
            .sentinels
            .iter()
            .filter(|s| s.primary() == Some(promoted));
        named.count()
    }

    /// Has the replica promoted although the primary is well; returns when most sentinels know.
    pub fn fail_over(&self) {
        self.sentinels[0].admin(&["SENTINEL", "FAILOVER", SERVICE]);
        self.wait_for_promotion();
    }

    pub fn wait_for_promotion(&self) {
        wait("the promotion", || self.promoted() * 2 > SENTINELS);
    }

    /// Runs a command of an operator at each.
    pub fn at_sentinels(&self, command: &[&str]) {
        for sentinel in &self.sentinels {
            sentinel.admin(command);
        }
    }

    /// The last sentinel names the primary by a host's name, the others by its address.
    pub fn announce_a_name(&self) {
        let last = &self.sentinels[SENTINELS - 1];
        last.admin(&["SENTINEL", "CONFIG", "SET", "resolve-hostnames", "yes"]);
        last.admin(&["SENTINEL", "CONFIG", "SET", "announce-hostnames", "yes"]);
        last.admin(&["SENTINEL", "REMOVE", SERVICE]);
        let port = self.primary.port().to_string();
        last.admin(&["SENTINEL", "MONITOR", SERVICE, "localhost", &port, "2"]);
        let named = || last.admin(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
        wait("the name", || {
            named()
                .array()
                .first()
                .map(super::resp::Value::text)
                .as_deref()
                == Some("localhost")
        });
    }

    /// SIGKILL of some sentinels.
    pub fn kill_sentinels(&self, count: usize) {
        for sentinel in &self.sentinels[..count] {
            end(&mut sentinel.child.lock().unwrap());
        }
    }
}

impl Sentinel {
    #[expect(clippy::panic, reason = "a fixture fails its test")]
    fn start(primary: u16, tls: Option<&Certificates>) -> Self {
        let dir = TempDir::with_prefix("sentinel-").expect("a temporary directory");
        // A port that another process takes in between ends the process: another try.
        for _ in 0..10 {
            let port = free_port();
            let reached = tls.map_or(port, |_| free_port());
            let secured = tls.map_or_else(String::new, |tls| {
                let lines = tls.settings(reached, "no").into_iter();
                let lines = lines.map(|(name, value)| format!("{name} {value}\n"));
                lines.chain(["tls-replication yes\n".to_owned()]).collect()
            });
            let config = format!(
                "{secured}port {port}\nbind 127.0.0.1\ndir {dir}\nlogfile {dir}/log\n\
                 sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds {SERVICE} 500\n\
                 sentinel failover-timeout {SERVICE} 3000\n",
                dir = dir.path().display()
            );
            let file = dir.path().join("sentinel.conf");
            fs::write(&file, config).expect("a file in it");
            let mut child = Command::new(binary())
                .arg(&file)
                .arg("--sentinel")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("redis-server can be executed");
            let deadline = Instant::now() + READY_TIMEOUT;
            while Instant::now() < deadline {
                if child.try_wait().expect("a child").is_some() {
                    break;
                }
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    let child = Mutex::new(child);
                    return Self {
                        port,
                        reached,
                        child,
                        _dir: dir,
                    };
                }
                thread::sleep(POLL);
            }
            end(&mut child);
        }
        panic!("no sentinel started");
    }

    fn admin(&self, command: &[&str]) -> super::resp::Value {
        Client::connect(self.port).cmd(command)
    }

    fn primary(&self) -> Option<u16> {
        let named = self.admin(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
        named.array().get(1)?.text().parse().ok()
    }

    /// It knows the replica and both other sentinels.
    fn knows_all(&self) -> bool {
        let master = self.admin(&["SENTINEL", "MASTER", SERVICE]);
        let fields: Vec<String> = master.array().iter().map(|v| v.text()).collect();
        let number = |name: &str| {
            let at = fields.iter().position(|field| field == name)?;
            fields.get(at + 1)?.parse::<usize>().ok()
        };
        number("num-slaves") == Some(1) && number("num-other-sentinels") == Some(SENTINELS - 1)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        end(child.unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

/// A server, and the port where others find it: over TLS another than its own.
fn server(tls: Option<&Certificates>, arguments: &[&str]) -> (RedisServer, u16) {
    let port = free_port();
    let secured = tls.map_or_else(Vec::new, |tls| tls.arguments(port, "no"));
    let mut all = vec!["--repl-diskless-sync-delay", "0"];
    all.extend(arguments);
    if tls.is_some() {
        all.extend(["--tls-replication", "yes"]);
        all.extend(secured.iter().map(String::as_str));
    }
    let server = RedisServer::start_with(&all);
    let port = if tls.is_some() { port } else { server.port() };
    (server, port)
}

/// Waits until it is so.
pub fn wait(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + READY_TIMEOUT;
    while !so() {
        assert!(Instant::now() < deadline, "never became ready: {what}");
        thread::sleep(POLL);
    }
}
