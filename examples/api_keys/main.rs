//! API keys that work on every instance at once, and a database that guessers cannot wear out.
//!
//! ```sh
//! cargo run --example api_keys     # shows it: three instances in one process, then ends
//! ```
//!
//! With an address it serves HTTP; start it twice with one database and one Redis:
//!
//! ```sh
//! export UNSTALE_REDIS_URL=redis://127.0.0.1:6379
//! cargo run --example api_keys -- 127.0.0.1:8081 keys.db &
//! cargo run --example api_keys -- 127.0.0.1:8082 keys.db &
//! curl -X POST localhost:8081/keys --json '{"owner": "ada"}'
//! curl localhost:8082/whoami -H 'authorization: Bearer sk-...'
//! ```
//!
//! - `keys.rs` is what you would keep: the cache with its options, and what is done with it;
//! - `routes.rs` says it in HTTP;
//! - `database.rs` is the source of truth.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod database;
mod keys;
mod routes;

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::ctrl_c;
use tokio::time::sleep;
use unstale::{BoxError, Instance, LocalBus, Settings};

use database::Database;
use keys::ApiKeys;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => show().await,
        [address, database] => serve(address, Path::new(database)).await,
        _ => Err("usage: api_keys [ADDRESS DATABASE]".into()),
    }
}

async fn serve(address: &str, database: &Path) -> Result<(), BoxError> {
    let instance = Instance::start(Settings::from_env()?).await?;
    let keys = ApiKeys::new(&instance, Database::open(database)?)?;
    println!("{} keys in memory", keys.warm_up().await?);
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    let server = axum::serve(listener, routes::router(keys));
    let stop = async { ctrl_c().await.unwrap_or_default() };
    server.with_graceful_shutdown(stop).await?;
    instance.shutdown().await?;
    Ok(())
}

/// Three instances on one database: over Redis where a URL is set, else inside this process.
async fn show() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("keys.db");
    let (settings, bus) = (Settings::from_env()?, LocalBus::default());
    let mut fleet = Vec::new();
    for _ in 0..3 {
        let instance = match settings.redis_url {
            Some(_) => Instance::start(settings.clone()).await?,
            None => Instance::start_on(&bus, settings.clone()).await?,
        };
        let database = Database::open(&file)?;
        let keys = ApiKeys::new(&instance, database.clone())?;
        fleet.push((instance, keys, database));
    }
    let [(_, a, _), (_, b, b_database), _] = &fleet[..] else {
        return Err("three instances".into());
    };

    for owner in 0..1_000 {
        a.create(&format!("owner-{owner}")).await?;
    }
    let mut held = b.warm_up().await?;
    if held < 1_000 {
        // Events of the last keys overtook their load, which therefore did not count.
        held = b.warm_up().await?;
    }
    println!("warm:    B holds {held} keys");

    let key = a.create("ada").await?;
    let who = b.authenticate(&key).await?.map(|who| who.owner.clone());
    println!("created: on A; B says {who:?}");

    for _ in 0..20 {
        b.authenticate("sk-mistyped").await?;
    }
    let absent = || b_database.asked().absent.load(Relaxed);
    println!("bad key: 20 times; {} query", absent());

    let (mut unknown, mut refused, before) = (0, 0, absent());
    for guess in 0..10_000 {
        match b.authenticate(&format!("sk-guess-{guess}")).await {
            Ok(_) => unknown += 1,
            Err(_) => refused += 1,
        }
    }
    let queries = absent() - before;
    let bounded = queries == unknown && queries < 1_000 && refused > 9_000;
    println!("guesses: 10,000 at once; fewer than 1,000 queries: {bounded}");
    let who = b.authenticate(&key).await?.map(|who| who.owner.clone());
    println!("         and the good key is still {who:?}");

    a.revoke(&key).await?;
    let began = std::time::Instant::now();
    while b.authenticate(&key).await?.is_some() && began.elapsed() < Duration::from_secs(5) {
        sleep(Duration::from_millis(1)).await;
    }
    let soon = began.elapsed() < Duration::from_secs(2);
    println!("revoked: on A; B refuses it within its bound of 2 s: {soon}");

    for (instance, _, _) in &fleet {
        instance.shutdown().await?;
    }
    Ok(())
}
