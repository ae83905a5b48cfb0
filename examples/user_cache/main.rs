//! A user cache behind HTTP: a stampede is one query, and clients that hang up break nothing.
//!
//! ```sh
//! cargo run --example user_cache     # shows it, over HTTP on a port of its own, then ends
//! ```
//!
//! With an address it serves until it is interrupted; with `UNSTALE_REDIS_URL` as one of a fleet:
//!
//! ```sh
//! cargo run --example user_cache -- 127.0.0.1:8080 users.db
//! curl -X PUT localhost:8080/users/7 -d admin
//! curl localhost:8080/users/7
//! ```
//!
//! - `users.rs` is what you would keep: the cache with its options, and what is done with it;
//! - `routes.rs` says it in HTTP;
//! - `database.rs` is the source of truth.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod database;
mod routes;
mod users;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::ctrl_c;
use tokio::task::JoinSet;
use tokio::time::sleep;
use unstale::{BoxError, Instance, Settings};

use database::Database;
use users::{Options, Users};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => show().await,
        [address, database] => serve(address, Path::new(database)).await,
        _ => Err("usage: user_cache [ADDRESS DATABASE]".into()),
    }
}

async fn serve(address: &str, database: &Path) -> Result<(), BoxError> {
    let instance = Instance::start(Settings::from_env()?).await?;
    let users = Users::new(&instance, Database::open(database)?, Options::default())?;
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    let server = axum::serve(listener, routes::router(users));
    let stop = async { ctrl_c().await.unwrap_or_default() };
    server.with_graceful_shutdown(stop).await?;
    instance.shutdown().await?;
    Ok(())
}

async fn show() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let database = Database::open(&folder.path().join("users.db"))?;
    let instance = Instance::start(Settings::from_env()?).await?;
    let users = Users::new(&instance, database.clone(), Options::default())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = axum::serve(listener, routes::router(users.clone()));
    let server = tokio::spawn(server.into_future());

    users.set_role(7, "admin").await?;
    database.move_away(300); // milliseconds, as a slow query has them

    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("http://{address}/users/7");
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        callers.spawn(client.get(&url).send());
    }
    let mut answered = 0;
    for answer in callers.join_all().await {
        answer?.error_for_status()?;
        answered += 1;
    }
    let queries = database.queries();
    println!("stampede:     {answered} callers, {queries} query");

    users.set_role(7, "guest").await?; // which drops it
    hang_up(address).await?;
    sleep(Duration::from_millis(600)).await;
    let queries = database.queries() - queries;
    println!("disconnected: the only caller hung up; {queries} query");
    let role = client.get(&url).send().await?.text().await?;
    let again = database.queries() - 2;
    println!("              the next caller got {role}; {again} more");

    server.abort();
    instance.shutdown().await?;
    instance.shutdown().await?; // twice does no harm
    println!("closed:       twice");
    Ok(())
}

/// Asks, and goes away before the answer comes.
async fn hang_up(address: SocketAddr) -> Result<(), BoxError> {
    let mut client = TcpStream::connect(address).await?;
    let request = b"GET /users/7 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    client.write_all(request).await?;
    sleep(Duration::from_millis(100)).await;
    Ok(())
}
