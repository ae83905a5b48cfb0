//! An axum handler with a cache in its state; the header `x-cache` says how it was answered.
//!
//! ```sh
//! cargo run --example axum_state -- --listen 127.0.0.1:8080
//! curl -i 127.0.0.1:8080/greetings/ada     # x-cache: miss, then hit
//! cargo run --example axum_state -- --once # asks itself on a free port, then ends
//! ```
//!
//! `accounts` beside it is a complete service, with writes, health and an orderly end.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use unstale::{BoxError, Cache, Instance, Outcome, Settings};

/// What handlers share; clones are cheap. With more caches it is a struct of them.
type App = Cache<String, String>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (listen, once) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => ("127.0.0.1:0", false),
        ["--once"] => ("127.0.0.1:0", true),
        ["--listen", address] => (address, false),
        _ => return Err("usage: axum_state [--once | --listen ADDRESS]".into()),
    };

    let instance = Instance::start(Settings::from_env()?).await?;
    let greetings: App = instance
        .cache("greetings")
        .loader(|name: String| async move { Ok(format!("Hello, {name}!")) })
        .build()?;
    let app = Router::new()
        .route("/greetings/{name}", get(greet))
        .with_state(greetings);

    let listener = TcpListener::bind(listen).await?;
    let url = format!("http://{}/greetings/ada", listener.local_addr()?);
    println!("{url}");
    let server = async { axum::serve(listener, app).await };
    if once {
        tokio::select! {
            ended = server => ended?,
            asked = ask_twice(&url) => asked?,
        }
    } else {
        server.await?;
    }
    instance.shutdown().await?;
    Ok(())
}

async fn greet(State(greetings): State<App>, Path(name): Path<String>) -> Response {
    let Ok(lookup) = greetings.lookup(&name).await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let outcome = match lookup.outcome {
        Outcome::Hit => "hit",
        Outcome::Negative => "negative",
        Outcome::Coalesced => "coalesced",
        _ => "miss",
    };
    let greeting = lookup.value.ok_or(StatusCode::NOT_FOUND);
    ([("x-cache", outcome)], greeting).into_response()
}

async fn ask_twice(url: &str) -> Result<(), BoxError> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    for _ in 0..2 {
        let response = client.get(url).send().await?.error_for_status()?;
        let cache = response.headers()["x-cache"].to_str()?.to_owned();
        println!("{} x-cache: {cache}", response.text().await?);
    }
    Ok(())
}
