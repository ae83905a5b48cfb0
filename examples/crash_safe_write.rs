//! A request is cancelled between its commit and its invalidation; the peer still hears of
//! it, because `write` had announced the change before the commit.
//!
//! ```sh
//! cargo run --example crash_safe_write
//! ```
//!
//! Two instances share a bus in this process. In a fleet the same holds when the writing process
//! is killed: a peer finishes the invalidation after `member_timeout`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use unstale::{BoxError, Cache, Instance, LocalBus, Settings, WriteError};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let price = Arc::new(AtomicU64::new(100)); // the database

    let bus = LocalBus::default();
    let writer = Instance::start_on(&bus, Settings::default()).await?;
    let reader = Instance::start_on(&bus, Settings::default()).await?;
    let (at_writer, at_reader) = (prices(&writer, &price)?, prices(&reader, &price)?);
    println!("the reader sees {:?}", at_reader.get("tea").await?);

    // The commit lands, then the client hangs up: its handler's future is dropped.
    let commit = async {
        price.store(120, SeqCst);
        pending::<Result<(), io::Error>>().await
    };
    let hung_up = timeout(Duration::from_millis(50), at_writer.write("tea", commit)).await;
    println!("the write was cancelled: {}", hung_up.is_err());
    while at_reader.get("tea").await? != Some(120) {
        sleep(Duration::from_millis(1)).await;
    }
    println!("the reader sees {:?}", at_reader.get("tea").await?);

    // How a write can fail says what happened to the data.
    let refused = async { Err::<(), _>(io::Error::other("out of stock")) };
    match at_writer.write("tea", refused).await {
        Ok(()) => println!("committed, and every peer has been notified"),
        Err(WriteError::Refused(error)) => println!("nothing was committed: {error}"),
        Err(WriteError::Commit(error)) => println!("the database said no: {error}"),
        Err(WriteError::Abandoned(error)) => println!("unknown: {error}"),
        Err(WriteError::Unconfirmed { error, .. }) => {
            println!("committed, peers are notified later: {error}")
        }
    }

    writer.shutdown().await?;
    reader.shutdown().await?;
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
