//! A user who saves something sees it saved, whichever instance answers next: a cookie says what was written.
//!
//! ```sh
//! cargo run --example read_your_writes                                            # two instances, in one process
//! UNSTALE_REDIS_URL=redis://127.0.0.1:6379 cargo run --example read_your_writes   # the same over Redis
//! ```
//!
//! It starts both on free ports, and then is its own client: it saves at the first and reads at the second.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use unstale::{BoxError, Cache, Instance, LocalBus, Settings, Token};

const WRITES: u64 = 100;

/// The source of truth, which both instances share.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<HashMap<u64, String>>>);

impl Names {
    fn get(&self, id: u64) -> Option<String> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&id).cloned()
    }

    async fn save(&self, id: u64, name: String) -> Result<(), Infallible> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(id, name);
        Ok(())
    }
}

#[derive(Clone)]
struct App {
    names: Names,
    cache: Cache<u64, String>,
}

async fn read(State(app): State<App>, Path(id): Path<u64>, headers: HeaderMap) -> Response {
    let name = match written(&headers) {
        Some(token) => app.cache.get_after(&id, &token).await,
        None => app.cache.get(&id).await,
    };
    match name {
        Ok(name) => name.ok_or(StatusCode::NOT_FOUND).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn save(
    State(app): State<App>,
    Path(id): Path<u64>,
    headers: HeaderMap,
    name: String,
) -> Response {
    let written_before = written(&headers).unwrap_or_default();
    let commit = app.names.save(id, name);
    let Ok(((), token)) = app.cache.write_with_token(&id, commit).await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let cookie = format!(
        "written={}; Path=/; Max-Age=60; HttpOnly",
        token.and(&written_before)
    );
    ([(SET_COOKIE, cookie)], StatusCode::NO_CONTENT).into_response()
}

/// What the client has written lately. A cookie that cannot be read is taken for anything.
fn written(headers: &HeaderMap) -> Option<Token> {
    let cookies = headers.get(COOKIE)?.to_str().ok()?;
    let mut cookies = cookies.split("; ");
    let token = cookies.find_map(|cookie| cookie.strip_prefix("written="))?;
    Some(token.parse().unwrap_or_else(|_| Token::latest()))
}

/// One instance of the service, and where it listens.
async fn serve(bus: &LocalBus, names: &Names) -> Result<(Instance, String), BoxError> {
    let settings = Settings::from_env()?;
    let instance = match settings.redis_url {
        Some(_) => Instance::start(settings).await?,
        None => Instance::start_on(bus, settings).await?,
    };
    let rows = names.clone();
    let cache = instance
        .cache("names")
        .loader(move |id: u64| {
            let rows = rows.clone();
            async move { Ok(rows.get(id)) }
        })
        .build()?;
    let names = names.clone();
    let app = Router::new()
        .route("/names/{id}", get(read).put(save))
        .with_state(App { names, cache });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/names/7", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok((instance, url))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (bus, names) = (LocalBus::default(), Names::default());
    let (first, here) = serve(&bus, &names).await?;
    let (second, there) = serve(&bus, &names).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;

    let mut cookie = String::new();
    for number in 0..WRITES {
        let name = format!("Ada the {number}th");
        let request = client.put(&here).header(COOKIE, &cookie).body(name.clone());
        let saved = request.send().await?.error_for_status()?;
        let set = saved.headers()[SET_COOKIE].to_str()?;
        cookie = set.split(';').next().unwrap_or_default().to_owned();

        let request = client.get(&there).header(COOKIE, &cookie);
        let read = request.send().await?.error_for_status()?.text().await?;
        assert_eq!(
            read, name,
            "the second instance reads what the first one saved"
        );
    }
    println!("{cookie}");
    println!("{WRITES} writes at the first instance, each read at the second: true");

    let request = client
        .get(&there)
        .header(COOKIE, "written=a cookie of another program");
    let read = request.send().await?.error_for_status()?.text().await?;
    println!("and with an invalid cookie: {read}");
    first.shutdown().await?;
    second.shutdown().await?;
    Ok(())
}
