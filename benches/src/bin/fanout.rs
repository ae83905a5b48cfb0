//! Many subscribers: what delivering costs Redis, and how long an invalidation takes to arrive. The
//! subscribers are sockets of another process that are drained; 16 instances write, one more listens.

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

/// Subscribers, writes a second.
const FLEETS: [(usize, u64); 7] = [
    (64, 2_000),
    (250, 500),
    (250, 2_000),
    (1_000, 200),
    (1_000, 1_000),
    (1_000, 2_000),
    (1_000, 10_000),
];

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
    fn start(port: u16, count: usize) -> Self {
        let program = std::env::current_exe().expect("a path");
        let mut child = Command::new(program)
            .args(["subscribers", &port.to_string(), &count.to_string()])
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

/// What the other process does.
async fn subscribe(port: u16, count: usize) {
    let mut sockets = Vec::new();
    for _ in 0..count {
        let mut socket = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("connects");
        let command = format!(
            "*2\r\n$9\r\nSUBSCRIBE\r\n${}\r\n{CHANNEL}\r\n",
            CHANNEL.len()
        );
        socket.write_all(command.as_bytes()).await.expect("sends");
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

async fn fleet(subscribers: usize, rate: u64) -> Measured {
    let server = Server::start();
    let _others = Subscribers::start(server.port(), subscribers);
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
    let every = Duration::from_secs_f64(WRITERS as f64 / rate as f64);
    let mut writing = tokio::task::JoinSet::new();
    for n in 0..WRITERS {
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
    if let [_, mode, port, count] = args.as_slice()
        && mode == "subscribers"
    {
        let number = "a number";
        return runtime.block_on(subscribe(
            port.parse().expect(number),
            count.parse().expect(number),
        ));
    }
    record_metrics();
    let mut rows = Vec::new();
    let mut report = Report::new("Fan-out: many subscribers in another process");
    for (subscribers, rate) in FLEETS {
        let measured = runtime.block_on(fleet(subscribers, rate));
        let [p50, p99] = [0.5, 0.99].map(|part| measured.arrives.quantile(part));
        rows.push(vec![
            subscribers.to_string(),
            format!("{rate}"),
            format!("{:.0}", measured.rate),
            format!("{:.0}", measured.messages),
            format!("{:.0} %", measured.redis),
            format!("{p50:.1} / {p99:.1}"),
        ]);
    }
    report.table(
        "Sixteen instances write single keys at a fixed rate; one more is asked for how long an \
         invalidation takes from the call to the drop of its value. Everything shares this machine.",
        &[
            "subscribers",
            "writes a second asked for",
            "reached",
            "messages a second",
            "CPU of Redis, of a core",
            "from the call to the drop, ms, p50 / p99",
        ],
        rows,
    );
    report.print();
}
