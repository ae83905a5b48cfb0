//! Many instances: what delivering and verifying cost Redis, and how long an invalidation takes to arrive.
//! Most of them are sockets of another process, which subscribe and verify as an instance does; 16
//! instances write, one more listens.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use unstale::{Cache, Instance};
use unstale_benches::{Report, Samples, Server, record_metrics, settings};

/// What is measured.
#[derive(Clone, Copy)]
struct Fleet {
    subscribers: usize,
    /// Writes a second.
    rate: u64,
    /// The subscribers verify, as instances do that are read from.
    verify: bool,
    /// They subscribe at a replica.
    replica: bool,
    /// The part of a core, in per cent, and the p99 of the propagation in milliseconds.
    goal: Option<(f64, f64)>,
}

const fn fleet_of(subscribers: usize, rate: u64, goal: Option<(f64, f64)>) -> Fleet {
    Fleet {
        subscribers,
        rate,
        verify: false,
        replica: false,
        goal,
    }
}

const FLEETS: [Fleet; 10] = [
    fleet_of(64, 2_000, None),
    fleet_of(250, 500, None),
    fleet_of(250, 2_000, Some((25.0, 10.0))),
    fleet_of(1_000, 200, None),
    fleet_of(1_000, 1_000, Some((30.0, 30.0))),
    fleet_of(1_000, 2_000, Some((40.0, 30.0))),
    fleet_of(1_000, 10_000, None),
    Fleet {
        verify: true,
        ..fleet_of(1_000, 0, Some((10.0, f64::INFINITY)))
    },
    Fleet {
        verify: true,
        ..fleet_of(1_000, 1_000, None)
    },
    Fleet {
        verify: true,
        replica: true,
        ..fleet_of(1_000, 1_000, None)
    },
];

/// How often an instance that is read from verifies a lane; see `UNSTALE_VERIFY_INTERVAL`.
const VERIFIES: Duration = Duration::from_millis(500);

/// What it runs then.
const VERIFY: &str = concat!(
    include_str!("../../../src/bus/redis/lua/lane.lua"),
    include_str!("../../../src/bus/redis/lua/members.lua"),
    include_str!("../../../src/bus/redis/lua/verify.lua")
);

/// Instances that write.
const WRITERS: usize = 16;

/// Before anything counts, and for how long it does.
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(4);

/// The lane's channel of the settings that all benches have.
const CHANNEL: &str = "us:{default:0}e0";

/// A value that tells when its cache dropped it.
#[derive(Clone)]
struct Tell(#[expect(dead_code, reason = "its drop is what counts")] Arc<OnDrop>);

struct OnDrop(UnboundedSender<Instant>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Instant::now());
    }
}

/// Another process that subscribes, and ends with its standard input.
struct Subscribers(
    Child,
    #[expect(dead_code, reason = "closed when dropped")] ChildStdin,
);

impl Subscribers {
    fn start(port: u16, count: usize, verifies_at: Option<u16>) -> Self {
        let program = std::env::current_exe().expect("a path");
        let mut child = Command::new(program)
            .args(["subscribers", &port.to_string(), &count.to_string()])
            .args(verifies_at.map(|port| port.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let stdin = child.stdin.take().expect("piped");
        let mut ready = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut ready)
            .expect("says that it is ready");
        assert_eq!(ready, "ready\n");
        Self(child, stdin)
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command in the protocol of Redis.
fn command(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend(format!("${}\r\n", arg.len()).into_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Loads the script; returns its hash.
async fn load(port: u16) -> Vec<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("connects");
    let load = command(&[b"SCRIPT", b"LOAD", VERIFY.as_bytes()]);
    socket.write_all(&load).await.expect("sends");
    let mut answer = [0; 47];
    socket.read_exact(&mut answer).await.expect("$40, the hash");
    answer[5..45].to_vec()
}

/// Verifies as an instance does that is read from.
async fn verify(port: u16, number: usize, hash: Vec<u8>) {
    let mut socket = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("connects");
    let instance = (1 << 40 | number as u64).to_be_bytes();
    let name = |letter: &str| format!("us:{{default:0}}{letter}").into_bytes();
    let [s, j, d, m, w] = ["s", "j", "d", "m", "w"].map(name);
    let keys: [&[u8]; 8] = [b"EVALSHA", &hash, b"5", &s, &j, &d, &m, &w];
    let (channel, entropy) = (CHANNEL.as_bytes(), [7; 16]);
    let fleet: [&[u8]; 6] = [&instance, b"10000", b"1", b"4096", channel, &entropy];
    let known: [&[u8]; 3] = [b"0", b"0", b"0"];
    let call = command(&[&keys[..], &fleet, &known].concat());
    let mut answer = vec![0; 4_096];
    sleep(VERIFIES.mul_f64(fastrand::f64())).await;
    let mut ticks = interval(VERIFIES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        socket.write_all(&call).await.expect("sends");
        let read = socket.read(&mut answer).await.expect("an answer");
        assert_eq!(answer.first(), Some(&b'*'), "{:?}", answer.get(..read));
    }
}

/// What the other process does.
async fn subscribe(port: u16, count: usize, verifies_at: Option<u16>) {
    let mut sockets = Vec::new();
    for _ in 0..count {
        let mut socket = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("connects");
        let subscribe = command(&[b"SUBSCRIBE", CHANNEL.as_bytes()]);
        socket.write_all(&subscribe).await.expect("sends");
        let mut byte = [0; 64];
        assert!(socket.read(&mut byte).await.expect("an answer") > 0);
        sockets.push(socket);
    }
    for mut socket in sockets {
        tokio::spawn(async move {
            let mut buffer = vec![0; 16_384];
            while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        });
    }
    if let Some(port) = verifies_at {
        let hash = load(port).await;
        for number in 0..count {
            tokio::spawn(verify(port, number, hash.clone()));
        }
    }
    println!("ready");
    std::io::stdout().flush().expect("a pipe");
    // Until the other end is closed.
    let _ = tokio::io::stdin().read(&mut [0; 1]).await;
}

/// Writes single keys at its share of the rate, one after another.
async fn write(cache: Cache<u64, u64>, every: Duration, written: Arc<AtomicU64>) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        let key = fastrand::u64(1_000..1_000_000);
        if cache.invalidate(&key).await.is_ok() {
            written.fetch_add(1, Relaxed);
        }
    }
}

struct Measured {
    rate: f64,
    messages: f64,
    redis: f64,
    arrives: Samples,
}

async fn measure(fleet: Fleet) -> Measured {
    let Fleet {
        subscribers, rate, ..
    } = fleet;
    let server = Server::start();
    let replica = fleet.replica.then(|| Server::replica_of(server.port()));
    let listens = replica.as_ref().map_or(server.port(), Server::port);
    let verifies_at = fleet.verify.then(|| server.port());
    let _others = Subscribers::start(listens, subscribers, verifies_at);
    let start = async || {
        Instance::start(settings(&server.url()))
            .await
            .expect("starts")
    };
    let (tell, mut heard) = unbounded_channel();
    let listener = start().await;
    let held = listener
        .cache::<u64, Tell>("rows")
        .loader(move |_: u64| {
            let tell = Tell(Arc::new(OnDrop(tell.clone())));
            async move { Ok(tell) }
        })
        .build()
        .expect("a valid cache");
    let (written, mut writers) = (Arc::new(AtomicU64::new(0)), Vec::new());
    let every = Duration::from_secs_f64(WRITERS as f64 / rate.max(1) as f64);
    let mut writing = tokio::task::JoinSet::new();
    for n in (0..WRITERS).filter(|_| rate > 0) {
        let cache = start()
            .await
            .cache::<u64, u64>("rows")
            .build()
            .expect("a valid cache");
        writers.push(cache.clone());
        let written = written.clone();
        writing.spawn(async move {
            sleep(every.mul_f64(n as f64 / WRITERS as f64)).await;
            write(cache, every, written).await;
        });
    }
    sleep(WARM_UP).await;
    let calls = || {
        server
            .calls()
            .iter()
            .find(|(name, _)| name == "publish")
            .map_or(0, |it| it.1)
    };
    let (before, messages, began) = (written.load(Relaxed), calls(), Instant::now());
    let work = async {
        let mut arrives = Samples::default();
        let mut key = 0;
        while began.elapsed() < MEASURED {
            if rate == 0 {
                sleep(MEASURED).await;
                break;
            }
            key = (key + 1) % 1_000;
            drop(held.get(&key).await.expect("loads"));
            while heard.try_recv().is_ok() {}
            let asked = Instant::now();
            let writer = &writers[key as usize % WRITERS];
            let _ = writer.invalidate(&key).await;
            if let Ok(Some(at)) = timeout(Duration::from_secs(5), heard.recv()).await {
                arrives.push((at - asked).as_secs_f64() * 1e3);
            }
            sleep(Duration::from_millis(7)).await;
        }
        arrives
    };
    let (arrives, stats) = server.during(work).await;
    let took = began.elapsed().as_secs_f64();
    let share = |count: u64| count as f64 / took;
    Measured {
        rate: share(written.load(Relaxed) - before),
        messages: share(calls() - messages),
        redis: stats.cpu.as_secs_f64() * 100.0 / took,
        arrives,
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let [_, mode, port, count, verifies_at @ ..] = args.as_slice()
        && mode == "subscribers"
    {
        let number = "a number";
        return runtime.block_on(subscribe(
            port.parse().expect(number),
            count.parse().expect(number),
            verifies_at.first().map(|port| port.parse().expect(number)),
        ));
    }
    record_metrics();
    let mut rows = Vec::new();
    let mut report = Report::new("Fan-out: many instances in another process");
    for fleet in FLEETS {
        let measured = runtime.block_on(measure(fleet));
        let Fleet {
            subscribers,
            rate,
            verify,
            replica,
            goal,
        } = fleet;
        let writes = rate > 0;
        let [p50, p99] = [0.5, 0.99].map(|part| match writes {
            true => measured.arrives.quantile(part),
            false => 0.0,
        });
        let arrives = if writes {
            format!("{p50:.1} / {p99:.1}")
        } else {
            "-".into()
        };
        if let Some((cpu, latest)) = goal {
            let what = if verify {
                format!("{subscribers} instances that are read from, {rate} writes/s")
            } else {
                format!("{subscribers} subscribers, {rate} writes/s")
            };
            let (mut goal, mut found) = (
                format!("{cpu:.0} % of a core"),
                format!("{:.0} %", measured.redis),
            );
            if writes {
                goal += &format!(", p99 {latest:.0} ms");
                found += &format!(", {p99:.1} ms");
            }
            let met = measured.redis <= cpu && p99 <= latest;
            report.goal(&what, &goal, found, met);
        }
        rows.push(vec![
            subscribers.to_string(),
            (if verify { "yes" } else { "no" }).into(),
            (if replica { "a replica" } else { "the primary" }).into(),
            rate.to_string(),
            format!("{:.0}", measured.rate),
            format!("{:.0}", measured.messages),
            format!("{:.0} %", measured.redis),
            arrives,
        ]);
    }
    report.table(
        "Sixteen instances write single keys at a fixed rate; one more is asked for how long an \
         invalidation takes from the call to the drop of its value. Everything shares this machine.",
        &[
            "subscribers",
            "they verify twice a second",
            "subscribed at",
            "writes a second asked for",
            "reached",
            "messages a second",
            "CPU of the primary, of a core",
            "from the call to the drop, ms, p50 / p99",
        ],
        rows,
    );
    report.print();
}
