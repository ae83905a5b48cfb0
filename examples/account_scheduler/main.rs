//! Four gateways that choose among a thousand upstream accounts of 20 KB, over a link that is worth
//! saving.
//!
//! ```sh
//! cargo run --release --example account_scheduler --features shared
//! ```
//!
//! What choosing an account needs is in every gateway's memory, and goes through Redis in a tenth of
//! its size; tokens never do. A rebuild that changes nothing costs nothing, nor does "last used".
//!
//! Without `UNSTALE_REDIS_URL` the gateways share a bus inside this process.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod account;
mod database;
mod pool;
mod sample;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;
use unstale::{BoxError, Instance, LocalBus, Settings};

use database::Database;
use pool::Pool;
use sample::{MODEL, PLATFORM};

const GATEWAYS: usize = 4;
const ACCOUNTS: u64 = 1_000;

/// Requests, and so notes of when an account was used.
const REQUESTS: u64 = 603;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("accounts.db");
    let (bus, settings) = (LocalBus::default(), Settings::from_env()?);
    let mut instances = Vec::new();
    let mut pools = Vec::new();
    for _ in 0..GATEWAYS {
        let instance = match settings.redis_url {
            Some(_) => Instance::start(settings.clone()).await?,
            None => Instance::start_on(&bus, settings.clone()).await?,
        };
        let database = Database::open(path.clone()).await?;
        pools.push(Pool::new(&instance, &database)?);
        instances.push(instance);
    }
    let first = &pools[0];
    first.put(sample::accounts(ACCOUNTS)).await?;
    let ids: Vec<u64> = (0..ACCOUNTS).collect();

    through_the_tier(&instances, &pools, &ids).await?;

    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let chosen = pools[3]
        .choose(PLATFORM, MODEL, now)
        .await?
        .ok_or("no account")?;
    println!(
        "chosen: {}, with priority {}",
        chosen.scheduling.name, chosen.scheduling.priority
    );
    println!("its tokens came through Redis: {}", chosen.tokens.is_some());
    let whole = pools[3].with_tokens(chosen).await?.ok_or("no account")?;
    println!("they are in the database: {}", whole.tokens.is_some());

    let events = || instances.iter().map(published).sum::<u64>();
    let quiet = events();
    for request in 0..REQUESTS {
        first.used([request % ACCOUNTS].into(), now).await?;
    }
    println!("used {REQUESTS} times: {} events", events() - quiet);
    let changed = first.put(sample::accounts(ACCOUNTS)).await?;
    println!("rebuilt: {changed} changed, {} events", events() - quiet);
    let mut tired = sample::account(7);
    tired.scheduling.schedulable = false;
    let changed = first.put(vec![tired]).await?;
    println!(
        "one is tired: {changed} changed, {} event",
        events() - quiet
    );

    // One network hop.
    while pools[3]
        .account(7)
        .await?
        .is_some_and(|account| account.scheduling.schedulable)
    {
        sleep(Duration::from_millis(1)).await;
    }
    println!("the others know: true");

    let on_the_wire = || instances.iter().map(of_events).sum::<u64>();
    let before = on_the_wire();
    first.forget(&ids).await?;
    let cheap = on_the_wire() - before < 100_000;
    println!("all are invalidated on {GATEWAYS} gateways, in less than 100 KB: {cheap}");

    for instance in &instances {
        instance.shutdown().await?;
    }
    Ok(())
}

/// Loads the accounts in one gateway, and finds them in the others: what that takes on the wire.
async fn through_the_tier(
    instances: &[Instance],
    pools: &[Pool],
    ids: &[u64],
) -> Result<(), BoxError> {
    let bytes = || instances.iter().map(in_the_tier).sum::<u64>();
    let begun = bytes();
    pools[0].warm_up(ids).await?;
    // What was loaded is stored in the background.
    let (mut stored, mut seen) = (bytes(), begun);
    while stored != seen {
        sleep(Duration::from_millis(200)).await;
        (stored, seen) = (bytes(), stored);
    }
    for pool in &pools[1..] {
        pool.warm_up(ids).await?;
    }
    let found = bytes();
    let json = serde_json::to_string(&sample::account(1))?.len() as u64;
    let each = [stored - begun, (found - stored) / (GATEWAYS as u64 - 1)].map(|b| b / ACCOUNTS);
    println!(
        "an account: {json} bytes of JSON; stored in {}, found in {}",
        each[0], each[1]
    );
    let smaller = each.iter().all(|each| each * 5 < json);
    println!("less than a fifth of its size on the wire: {smaller}");
    Ok(())
}

/// Bytes that an instance has exchanged with the shared tier.
fn in_the_tier(instance: &Instance) -> u64 {
    sum(instance, |name| {
        name.starts_with("unstale_bus_") && name.contains("\"shared\"")
    })
}

/// Bytes of the events that an instance has sent and received.
fn of_events(instance: &Instance) -> u64 {
    let of_events = |name: &str| name.contains("\"publish\"") || name.contains("\"deliver\"");
    sum(instance, |name| {
        name.starts_with("unstale_bus_") && of_events(name)
    })
}

/// Events that Redis acknowledged to an instance.
fn published(instance: &Instance) -> u64 {
    sum(instance, |name| name == "unstale_events_published_total")
}

/// The sum of some series of an instance's metrics.
fn sum(instance: &Instance, wanted: impl Fn(&str) -> bool) -> u64 {
    let text = instance.metrics_text();
    let series = text.lines().filter_map(|line| line.rsplit_once(' '));
    let values = series
        .filter(|(name, _)| wanted(name))
        .map(|(_, value)| value);
    values.filter_map(|value| value.parse::<u64>().ok()).sum()
}
