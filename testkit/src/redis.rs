//! A redis-server of the test's own, on a port of its own, gone when the value is dropped.

use std::env;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

/// Ports that the kernel gives to no client (it starts at 32,768).
/// In its range a client that retries a dead server's port may get that very port as its own and
/// then talks to itself, or keeps the server from coming back.
const PORTS: RangeInclusive<u16> = 15_000..=31_999;

/// How often another port is tried. Two tests rarely choose the same one of 17,000.
const PORT_ATTEMPTS: usize = 50;

/// How long a server may take to answer: some 20 ms on an idle machine, far more on a busy one.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause between two looks at something that will be true soon.
const POLL: Duration = Duration::from_millis(5);

/// A running redis-server, nothing saved, on 127.0.0.1.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    port: u16,
    args: Vec<String>,
    dir: TempDir,
    child: Mutex<Child>,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    ///
    /// Without a redis-server: a test that needs one fails, it is never skipped.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Like [`start`](Self::start), with more arguments (`&["--appendonly", "yes"]`); they
    /// override the fixture's own. A log level above `notice` would hide that the server is ready.
    pub fn start_with(args: &[&str]) -> Self {
        let debug = ["--enable-debug-command", "local"];
        Self::start_program(binary(), &[&debug[..], args].concat())
    }

    /// Starts the Redis 6.2 that `scripts/servers.py` gets: it is too old, and must be refused.
    ///
    /// # Panics
    ///
    /// Without it.
    pub fn start_too_old() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        let program = root
            .expect("the repository")
            .join("target/servers/redis-6.2");
        assert!(
            program.is_file(),
            "{} is missing: `scripts/install.sh python servers`",
            program.display()
        );
        Self::start_program(program, &[])
    }

    /// Like [`start_with`](Self::start_with), of another program than the tests' server.
    #[expect(clippy::panic, reason = "a fixture fails its test")]
    pub fn start_program(program: PathBuf, args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let dir = TempDir::with_prefix("redis-").expect("a temporary directory");
        let mut log = String::new();
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port();
            match spawn(&program, port, &args, dir.path()) {
                Ok(child) => {
                    return Self {
                        program,
                        port,
                        args,
                        dir,
                        child: Mutex::new(child),
                    };
                }
                Err(Failure::PortTaken) => {}
                Err(Failure::Died(text)) => {
                    log = text;
                    break;
                }
            }
        }
        panic!("{} {args:?} did not start:\n{log}", program.display());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The server's directory: a place for its files (certificates, ACL) and its log `redis.log`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The process id of the present incarnation.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// SIGKILL, then waits until the process is gone.
    pub fn kill(&self) {
        end(&mut self.child());
    }

    /// Starts again on the same port with the same arguments, empty unless they make it save.
    /// A server that still runs is killed first.
    #[expect(clippy::panic, reason = "a fixture fails its test")]
    pub fn restart(&self) {
        let mut child = self.child();
        end(&mut child);
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            match spawn(&self.program, self.port, &self.args, self.dir.path()) {
                Ok(new) => return *child = new,
                // Another process has just tested for a free port; it does not keep it.
                Err(Failure::PortTaken) if Instant::now() < deadline => thread::sleep(POLL),
                Err(failure) => panic!("redis-server did not come back: {failure:?}"),
            }
        }
    }

    /// SIGSTOP: connections stay open and new ones are accepted by the kernel, nothing answers.
    pub fn stop(&self) {
        freeze(&mut self.child());
    }

    /// SIGCONT.
    pub fn cont(&self) {
        signal(&mut self.child(), Signal::CONT);
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        // A test that failed while holding it must still end its server.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        signal(child, Signal::CONT);
        end(child);
    }
}

#[derive(Debug)]
enum Failure {
    PortTaken,
    /// With the end of its log.
    Died(String),
}

fn spawn(program: &Path, port: u16, args: &[String], dir: &Path) -> Result<Child, Failure> {
    let log = dir.join("redis.log");
    // The log is the proof of being ready, so an earlier life's must not be there.
    let _ = fs::remove_file(&log);
    let mut child = Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .args(["--daemonize", "no", "--dir"])
        .arg(dir)
        .arg("--logfile")
        .arg(&log)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server can be executed");
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let text = fs::read_to_string(&log).unwrap_or_default();
        // A PING alone could be answered by another test's server on the same port.
        if text.contains("Ready to accept connections") && answers_ping(port) {
            return Ok(child);
        }
        if child
            .try_wait()
            .expect("the child can be waited for")
            .is_some()
        {
            let text = fs::read_to_string(&log).unwrap_or_default();
            return Err(if text.contains("Address already in use") {
                Failure::PortTaken
            } else {
                Failure::Died(text)
            });
        }
        if Instant::now() > deadline {
            end(&mut child);
            return Err(Failure::Died(format!(
                "not ready after {READY_TIMEOUT:?}\n{text}"
            )));
        }
        thread::sleep(POLL);
    }
}

/// The server that tests run on, its sentinels and clusters too: the program that `REDIS_SERVER_BIN`
/// names, else the first `redis-server` in `PATH`.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("REDIS_SERVER_BIN") {
        return path.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|dir| dir.join("redis-server")).find(|file| file.is_file()).expect(
        "these tests need redis-server: `apt-get install redis-server` or `brew install redis`, \
         or set REDIS_SERVER_BIN to one",
    )
}

/// Returns whether a server speaks here and has loaded its data; one that wants a password counts.
fn answers_ping(port: u16) -> bool {
    let ping = || -> std::io::Result<[u8; 5]> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut reply = [0; 5];
        stream.read_exact(&mut reply)?;
        Ok(reply)
    };
    // Not known, where a test has renamed it away.
    let answers = [b"+PONG", b"-NOAU", b"-NOPE", b"-ERR "];
    ping().is_ok_and(|reply| answers.contains(&&reply))
}

/// A port of 127.0.0.1 on which nothing listens at the moment.
pub fn free_port() -> u16 {
    let size = u64::from(PORTS.end() - PORTS.start()) + 1;
    (0..PORT_ATTEMPTS)
        .map(|_| {
            // Every RandomState has a seed of its own: a random number without a dependency.
            let offset = RandomState::new().hash_one(()) % size;
            PORTS.start() + u16::try_from(offset).expect("below the range's size")
        })
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .expect("a free port of 127.0.0.1")
}

/// Sends a signal to a child that still runs; the number of one that ended may be another's by now.
pub fn signal(child: &mut Child, signal: Signal) {
    if matches!(child.try_wait(), Ok(None)) {
        kill_process(Pid::from_child(child), signal).expect("a child may be signalled");
    }
}

/// SIGSTOP, then waits until no thread of the child runs: one that is not the first to
/// notice may answer yet another request.
pub fn freeze(child: &mut Child) {
    signal(child, Signal::STOP);
    let id = WaitId::Pid(Pid::from_child(child));
    let deadline = Instant::now() + READY_TIMEOUT;
    while waitid(id.clone(), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG)
        .expect("a child can be waited for")
        .is_none()
    {
        assert!(Instant::now() < deadline, "the process does not stop");
        thread::sleep(Duration::from_micros(100));
    }
}

/// SIGKILL, then waits; harmless when the child has ended before.
pub fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
