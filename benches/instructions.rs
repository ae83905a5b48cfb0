//! Instructions a hit takes, counted by valgrind: repeatable where times are not.
//!
//! ```text
//! make bench-instructions
//! ```
//!
//! Alone it only runs lookups: `instructions CONTENDER LOOKUPS`. The Makefile's target counts two
//! runs of different length, so that everything but the lookups cancels out.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use unstale::{Cache, Instance, Settings};

type Value = Arc<[u8; 256]>;

const KEYS: usize = 1_000;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let contender = args.next().unwrap_or_else(|| "unstale".into());
    let lookups = args
        .next()
        .map_or(1_000, |arg| arg.parse().expect("a number"));
    let keys: Vec<String> = (0..KEYS).map(|n| format!("account:{n:016}")).collect();
    let asked = (0..lookups).map(|n| keys[n * 31 % KEYS].as_str());
    match contender.as_str() {
        "quick_cache" => {
            let cache = quick_cache::sync::Cache::<String, Value>::new(KEYS * 2);
            for key in &keys {
                cache.insert(key.clone(), Arc::new([7; 256]));
            }
            asked.for_each(|key| drop(black_box(cache.get(key))));
        }
        "unstale" => {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().expect("a runtime");
            let _guard = runtime.enter();
            let cache = runtime.block_on(filled(&keys));
            let mut context = Context::from_waker(Waker::noop());
            for key in asked {
                match pin!(cache.get(key)).poll(&mut context) {
                    Poll::Ready(Ok(Some(value))) => drop(black_box(value)),
                    other => unreachable!("not a hit: {other:?}"),
                }
            }
        }
        other => unreachable!("a contender is quick_cache or unstale, not {other}"),
    }
}

async fn filled(keys: &[String]) -> Cache<String, Value> {
    let builder = metrics_exporter_prometheus::PrometheusBuilder::new();
    let builder = unstale::metrics::set_buckets(builder).expect("buckets");
    builder.install_recorder().expect("the first recorder");
    let mut settings = Settings::default();
    // Slow under valgrind: nothing may need a verification meanwhile.
    settings.max_staleness = Some(std::time::Duration::from_secs(600));
    let instance = Instance::start(settings).await.expect("starts");
    let cache = instance
        .cache::<String, Value>("accounts")
        .capacity(KEYS * 2)
        .ttl(std::time::Duration::from_secs(3600))
        .loader(|_: String| async { Ok::<_, std::io::Error>(Arc::new([7; 256])) })
        .build()
        .expect("a valid cache");
    cache.preload(keys.iter().cloned()).await.expect("loads");
    cache
}
