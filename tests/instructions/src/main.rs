//! What is counted, and a table of the counts.
//!
//! ```text
//! make bench-instructions
//! ```
//!
//! Without arguments it prints the table. With a contender and a number it runs so many lookups,
//! which is what the counting runs under valgrind.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use unstale::{Cache, Instance, Settings};
use unstale_instructions::{CONTENDERS, instructions};

type Value = Arc<[u8; 256]>;

const KEYS: usize = 1_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [] => table(),
        [contender, lookups] => run(contender, lookups.parse().expect("a number of lookups")),
        _ => panic!("no arguments, or a contender and a number of lookups"),
    }
}

fn table() {
    let program = std::env::current_exe().expect("it has a path");
    println!("| a hit: 24-byte String key, 1,000 keys, `Arc` value | instructions |");
    println!("|---|---|");
    for contender in CONTENDERS {
        println!("| {contender} | {} |", instructions(&program, contender));
    }
}

fn run(contender: &str, lookups: usize) {
    let keys: Vec<String> = (0..KEYS).map(|n| format!("account:{n:016}")).collect();
    let mut asked = (0..lookups).map(|n| keys[n * 31 % KEYS].as_str());
    if contender == "quick_cache" {
        let cache = quick_cache::sync::Cache::<String, Value>::new(KEYS * 2);
        for key in &keys {
            cache.insert(key.clone(), Arc::new([7; 256]));
        }
        return only_this(&mut asked, |key| cache.get(key));
    }
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    let _guard = runtime.enter();
    let cache = runtime.block_on(filled(&keys));
    let mut context = Context::from_waker(Waker::noop());
    match contender {
        "peek" => only_this(&mut asked, |key| cache.peek(key)),
        "get" => only_this(&mut asked, |key| {
            match pin!(cache.get(key)).poll(&mut context) {
                Poll::Ready(Ok(found)) => found,
                Poll::Ready(Err(_)) | Poll::Pending => None,
            }
        }),
        "lookup" => only_this(&mut asked, |key| {
            match pin!(cache.lookup(key)).poll(&mut context) {
                Poll::Ready(Ok(lookup)) => lookup.value,
                Poll::Ready(Err(_)) | Poll::Pending => None,
            }
        }),
        other => panic!("{other} is none of {CONTENDERS:?}"),
    }
}

/// Callgrind counts while this runs.
#[inline(never)]
fn only_this<'a>(
    asked: &mut dyn Iterator<Item = &'a str>,
    mut get: impl FnMut(&'a str) -> Option<Value>,
) {
    for key in asked {
        assert!(black_box(get(key)).is_some(), "not a hit");
    }
}

/// Everything is on: TTL, promise, stamps, all metrics in an installed Prometheus recorder.
async fn filled(keys: &[String]) -> Cache<String, Value> {
    let mut builder = metrics_exporter_prometheus::PrometheusBuilder::new();
    for (name, bounds) in unstale::metrics::histogram_buckets() {
        let histogram = metrics_exporter_prometheus::Matcher::Full(name.to_owned());
        builder = builder
            .set_buckets_for_metric(histogram, bounds)
            .expect("buckets");
    }
    builder.install_recorder().expect("the first recorder");
    let mut settings = Settings::default();
    // Slow under valgrind: nothing may need a verification meanwhile.
    settings.max_staleness = Some(Duration::from_secs(600));
    let instance = Instance::start(settings).await.expect("starts");
    let cache = instance
        .cache::<String, Value>("accounts")
        .capacity(KEYS * 2)
        .ttl(Duration::from_secs(3600))
        .loader(|_: String| async { Ok(Arc::new([7; 256])) })
        .build()
        .expect("a valid cache");
    assert_eq!(cache.preload(keys).await.failed, 0);
    cache
}
