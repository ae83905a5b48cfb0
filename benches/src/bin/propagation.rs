//! How long an invalidation takes to reach another instance, beside bare publish and subscribe.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
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

/// A value that tells when its cache dropped it: the moment at which nobody can be served it any more.
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
        heard: tokio::sync::Mutex<UnboundedReceiver<Instant>>,
    },
    Unstale {
        from: Cache<u64, u64>,
        to: Cache<u64, Tell>,
        heard: tokio::sync::Mutex<UnboundedReceiver<Instant>>,
    },
}

impl Contender {
    async fn bare(url: &str) -> Self {
        let config = Config::from_url(url).expect("a URL");
        let connect = async || {
            let client = Client::new(config.clone(), None, None, None);
            client.init().await.expect("connects");
            client
        };
        let (from, to) = (connect().await, connect().await);
        let mut messages = to.message_rx();
        to.subscribe("bare").await.expect("subscribes");
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
        Self::Bare { from, heard }
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
                async move { Ok::<_, std::io::Error>(tell) }
            })
            .build()
            .expect("a valid cache");
        let heard = heard.into();
        Self::Unstale { from, to, heard }
    }

    /// Microseconds from the call to the other side's hearing of it.
    async fn once(&self, key: u64) -> f64 {
        match self {
            Self::Bare { from, heard } => {
                let payload = vec![7_u8; PAYLOAD];
                let began = Instant::now();
                let publish = from.publish::<(), _, _>("bare", payload.as_slice());
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
    heard.expect("somebody tells")
}

/// Both contenders in turns; all samples, and the medians of the rounds.
fn measure(
    runtime: &tokio::runtime::Runtime,
    contenders: &[Contender; 2],
    pause: Option<Duration>,
) -> [Samples; 2] {
    let next = AtomicU64::new(0);
    let all = [(); 2].map(|()| std::cell::RefCell::new(Samples::default()));
    let which: [usize; 2] = [0, 1];
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
        runtime.block_on(Contender::bare(&server.url())),
        runtime.block_on(Contender::unstale(&server.url())),
    ];
    let mut report = Report::new("Propagation: from the call to the drop on another instance");
    let mut rows = Vec::new();
    for (what, pause) in [
        ("2 ms between two", Some(PAUSE)),
        ("one after another", None),
    ] {
        let [bare, ours] = measure(&runtime, &contenders, pause);
        let part = |part: f64| (bare.quantile(part), ours.quantile(part));
        let ((bare50, ours50), (bare99, ours99)) = (part(0.5), part(0.99));
        let cell = |of: f64| format!("{of:.0}");
        rows.push(vec![
            what.into(),
            cell(bare50),
            cell(ours50),
            cell(bare99),
            cell(ours99),
        ]);
        let (p50, p99) = (ours50 / bare50, ours99 / bare99);
        report.goal(
            &format!("propagation, {what}"),
            "p50 and p99 within 1.2 x of bare fred",
            format!("{p50:.2} x and {p99:.2} x"),
            p50 <= 1.2 && p99 <= 1.2,
        );
    }
    report.table(
        "Microseconds. Bare: fred, `PUBLISH` of as many bytes; ours: script with sequence and journal.",
        &["", "bare p50", "unstale p50", "bare p99", "unstale p99"],
        rows,
    );
    report.print();
}
