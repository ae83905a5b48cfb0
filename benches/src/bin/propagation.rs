//! How long an invalidation takes to reach another instance, beside bare publish and subscribe, and
//! beside a bare call of the script that numbers, journals and publishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, LuaInterface, PubsubInterface};
use fred::types::Value;
use fred::types::config::Config;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};
use unstale::{Cache, Instance};
use unstale_benches::{Report, Samples, Server, interleaved, record_metrics, settings};

const ROUNDS: usize = 15;

/// Invalidations in each round.
const EACH: usize = 200;

/// Pause between two of them where the bus is otherwise quiet: connections and tasks fall asleep.
const PAUSE: Duration = Duration::from_millis(2);

/// Bytes a bare message carries: as many as an event of one key.
const PAYLOAD: usize = 56;

/// What instances call: it makes an event that cannot be lost unnoticed of a message.
const SCRIPT: &str = concat!(
    include_str!("../../../src/bus/redis/lua/lane.lua"),
    include_str!("../../../src/bus/redis/lua/publish.lua"),
);

/// The lane of the bare calls: its state and its journal.
const LANE: [&str; 2] = ["us:{bare:0}s", "us:{bare:0}j"];

/// A value that reports when its cache dropped it: the moment from which no reader can be served it.
#[derive(Clone)]
struct Tell(#[expect(dead_code, reason = "its drop is what counts")] Arc<OnDrop>);

struct OnDrop(UnboundedSender<Instant>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Instant::now());
    }
}

enum Contender {
    Bare {
        from: Client,
        /// The script's hash, if it is called instead of `PUBLISH`.
        script: Option<String>,
        heard: tokio::sync::Mutex<UnboundedReceiver<Instant>>,
    },
    Unstale {
        from: Cache<u64, u64>,
        to: Cache<u64, Tell>,
        heard: tokio::sync::Mutex<UnboundedReceiver<Instant>>,
    },
}

impl Contender {
    async fn bare(url: &str, channel: &'static str, scripted: bool) -> Self {
        let config = Config::from_url(url).expect("a URL");
        let connect = async || {
            let client = Client::new(config.clone(), None, None, None);
            client.init().await.expect("connects");
            client
        };
        let (from, to) = (connect().await, connect().await);
        let mut messages = to.message_rx();
        to.subscribe(channel).await.expect("subscribes");
        let script = match scripted {
            true => Some(from.script_load::<String, _>(SCRIPT).await.expect("loads")),
            false => None,
        };
        let (tell, heard) = unbounded_channel();
        tokio::spawn(async move {
            while let Ok(message) = messages.recv().await {
                let now = Instant::now();
                if message.value.as_bytes().is_some() && tell.send(now).is_err() {
                    return;
                }
            }
            drop(to);
        });
        let heard = heard.into();
        Self::Bare {
            from,
            script,
            heard,
        }
    }

    async fn unstale(url: &str) -> Self {
        let start = async || Instance::start(settings(url)).await.expect("starts");
        let (from, to) = (start().await, start().await);
        let from = from
            .cache::<u64, u64>("rows")
            .build()
            .expect("a valid cache");
        let (tell, heard) = unbounded_channel();
        let to = to
            .cache::<u64, Tell>("rows")
            .loader(move |_: u64| {
                let tell = Tell(Arc::new(OnDrop(tell.clone())));
                async move { Ok(tell) }
            })
            .build()
            .expect("a valid cache");
        let heard = heard.into();
        Self::Unstale { from, to, heard }
    }

    /// Microseconds from the call to the other side's hearing of it.
    async fn once(&self, key: u64) -> f64 {
        match self {
            Self::Bare {
                from,
                script,
                heard,
            } => {
                let payload = vec![7_u8; PAYLOAD];
                let began = Instant::now();
                let publish = async {
                    match script {
                        None => from.publish::<(), _, _>("bare", payload.as_slice()).await,
                        Some(hash) => {
                            let args: Vec<Value> =
                                vec!["e0".into(), "4096".into(), payload.as_slice().into()];
                            from.evalsha(hash.as_str(), LANE.to_vec(), args).await
                        }
                    }
                };
                let mut heard = heard.lock().await;
                let (published, heard) = tokio::join!(publish, hear(&mut heard));
                published.expect("publishes");
                (heard - began).as_nanos() as f64 / 1e3
            }
            Self::Unstale { from, to, heard } => {
                drop(to.get(&key).await.expect("loads"));
                let began = Instant::now();
                let mut heard = heard.lock().await;
                let (published, heard) = tokio::join!(from.invalidate(&key), hear(&mut heard));
                published.expect("publishes");
                (heard - began).as_nanos() as f64 / 1e3
            }
        }
    }
}

async fn hear(heard: &mut UnboundedReceiver<Instant>) -> Instant {
    let patience = Duration::from_secs(10);
    let heard = timeout(patience, heard.recv()).await.expect("it arrives");
    heard.expect("the value reports its drop")
}

/// Both contenders in turns; all samples, and the medians of the rounds.
fn measure(
    runtime: &tokio::runtime::Runtime,
    contenders: &[Contender; 3],
    pause: Option<Duration>,
) -> [Samples; 3] {
    let next = AtomicU64::new(0);
    let all = [(); 3].map(|()| std::cell::RefCell::new(Samples::default()));
    let which: [usize; 3] = [0, 1, 2];
    interleaved(&which, ROUNDS, |which| {
        let mut round = Samples::default();
        runtime.block_on(async {
            for _ in 0..EACH {
                if let Some(pause) = pause {
                    sleep(pause).await;
                }
                round.push(contenders[*which].once(next.fetch_add(1, Relaxed)).await);
            }
        });
        all[*which].borrow_mut().extend(&round);
        round.median()
    });
    all.map(std::cell::RefCell::into_inner)
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _guard = runtime.enter();
    record_metrics();
    let server = Server::start();
    let contenders = [
        runtime.block_on(Contender::bare(&server.url(), "bare", false)),
        runtime.block_on(Contender::bare(&server.url(), "us:{bare:0}e0", true)),
        runtime.block_on(Contender::unstale(&server.url())),
    ];
    let mut report = Report::new("Propagation: from the call to the drop on another instance");
    let mut rows = Vec::new();
    for (what, pause) in [
        ("2 ms between two", Some(PAUSE)),
        ("one after another", None),
    ] {
        let [bare, script, ours] = measure(&runtime, &contenders, pause);
        let cells = |of: &Samples| format!("{:.0} / {:.0}", of.median(), of.quantile(0.99));
        rows.push(vec![
            what.into(),
            cells(&bare),
            cells(&script),
            cells(&ours),
        ]);
        let ratio = |part: f64| ours.quantile(part) / bare.quantile(part);
        let (p50, p99) = (ratio(0.5), ratio(0.99));
        report.goal(
            &format!("propagation, {what}"),
            "p50 and p99 within 1.2 x of bare fred",
            format!("{p50:.2} x and {p99:.2} x"),
            p50 <= 1.2 && p99 <= 1.2,
        );
    }
    report.table(
        "Microseconds, p50 / p99. `PUBLISH` and the script are called by fred alone, with as many \
         bytes: the difference between them is what numbering and journaling take in Redis.",
        &["", "fred, `PUBLISH`", "fred, the script", "unstale"],
        rows,
    );
    report.print();
}
