//! How to test your own service against lost messages: two instances on a bus that loses one.
//!
//! ```sh
//! cargo run --example your_own_tests --features test-util
//! ```
//!
//! In your tests this `main` is a `#[tokio::test(start_paused = true)]`: the clock stands still,
//! but for sleeps, which take no time. In your `Cargo.toml` the feature belongs to the
//! `dev-dependencies`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::{Instant as Clock, sleep};
use unstale::{BoxError, Cache, Instance, LocalBus, Settings, testing};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), BoxError> {
    let settings = Settings::default();
    let bound = settings.max_staleness.expect("it is on by default");
    let price = Arc::new(AtomicU64::new(100)); // the database

    let bus = LocalBus::default();
    let first = testing::start_on(&bus, settings.clone()).await?;
    let second = testing::start_on(&bus, settings).await?;
    let (at_first, at_second) = (prices(&first, &price)?, prices(&second, &price)?);
    assert_eq!(at_second.get("tea").await?, Some(100));

    // The second instance never hears of this change.
    bus.faults(1).lose_next(1);
    price.store(120, SeqCst);
    at_first.invalidate("tea").await?;
    let published = Clock::now();
    let at_once = at_second.get("tea").await?;
    println!("message lost: the second instance has {at_once:?}");
    assert_eq!(at_once, Some(100));

    // It finds out by itself, no later than the bound.
    let stale_for = loop {
        let asked = published.elapsed();
        if at_second.get("tea").await? == Some(120) {
            break asked;
        }
        assert!(asked <= bound, "a stale hit past the bound");
        sleep(Duration::from_millis(10)).await;
    };
    println!("it found out within {bound:?}: {}", stale_for <= bound);

    first.shutdown().await?;
    second.shutdown().await?;
    Ok(())
}

fn prices(instance: &Instance, price: &Arc<AtomicU64>) -> Result<Cache<String, u64>, BoxError> {
    let price = price.clone();
    let loader = move |_: String| {
        let price = price.load(SeqCst);
        async move { Ok(price) }
    };
    Ok(instance.cache("prices").loader(loader).build()?)
}
