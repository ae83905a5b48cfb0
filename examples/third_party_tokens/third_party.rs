//! The third party: an HTTP service with a database of its own, and how this service asks it.
//!
//! [`Client`] is what a service keeps. [`ThirdParty`] replaces the service of a third party.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use rusqlite::{Connection, OptionalExtension as _};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use unstale::BoxError;

use super::tokens::{Credentials, Grant, Issuer};

/// Asks over HTTP.
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    pub(crate) fn new(url: &str) -> Result<Self, BoxError> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("{url}/token");
        Ok(Self { http, url })
    }
}

impl Issuer for Client {
    async fn issue(&self, credentials: Credentials) -> Result<Option<Grant>, BoxError> {
        let Credentials { corp, secret } = credentials;
        let body = json!({ "corp": corp, "secret": secret.reveal() });
        // In the body, and never in the URL, which errors and logs show.
        let answer = self.http.post(&self.url).json(&body).send().await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        Ok(Some(answer.error_for_status()?.json().await?))
    }
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS applications (
        corp       TEXT NOT NULL,
        secret     TEXT NOT NULL,
        expires_in TEXT NOT NULL, -- as JSON: 7200, or \"7200\"
        PRIMARY KEY (corp, secret)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS issued (token INTEGER PRIMARY KEY AUTOINCREMENT, corp TEXT NOT NULL) STRICT";

/// See the module's documentation.
pub(crate) struct ThirdParty {
    url: String,
    books: Arc<Books>,
    server: JoinHandle<()>,
}

struct Books {
    database: Mutex<Connection>,
    /// Milliseconds that an answer takes.
    delay: AtomicU64,
    /// Every answer is 503.
    down: AtomicBool,
}

impl ThirdParty {
    /// Serves on a free port of this machine, until it is dropped.
    pub(crate) async fn start(file: &Path) -> Result<Self, BoxError> {
        let database = Connection::open(file)?;
        database.pragma_update(None, "journal_mode", "wal")?;
        // A power cut may undo the latest tokens; waiting for the disk would be most of every call.
        database.pragma_update(None, "synchronous", "normal")?;
        database.execute_batch(SCHEMA)?;
        let books = Arc::new(Books {
            database: Mutex::new(database),
            delay: AtomicU64::new(0),
            down: AtomicBool::new(false),
        });
        let app = Router::new()
            .route("/token", post(issue))
            .with_state(books.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let server = tokio::spawn(async move {
            // Ends with the listener only.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { url, books, server })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// An application, and what its tokens say about how long they live, in JSON.
    pub(crate) fn register(
        &self,
        credentials: &Credentials,
        expires_in: &str,
    ) -> Result<(), BoxError> {
        let Credentials { corp, secret } = credentials;
        self.books.database().execute(
            "INSERT OR REPLACE INTO applications VALUES (?1, ?2, ?3)",
            [corp.as_str(), secret.reveal(), expires_in],
        )?;
        Ok(())
    }

    /// From now on answers take so long.
    pub(crate) fn slow(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.books.delay.store(millis, SeqCst);
    }

    /// From now on it answers no request, or every one again.
    pub(crate) fn set_down(&self, down: bool) {
        self.books.down.store(down, SeqCst);
    }

    /// Tokens issued so far: one for each call.
    pub(crate) fn issued(&self) -> Result<u64, BoxError> {
        let database = self.books.database();
        Ok(database.query_row("SELECT count(*) FROM issued", [], |row| row.get(0))?)
    }
}

impl Drop for ThirdParty {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Books {
    fn database(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a token says about its life, and its number; `None` for an unknown application.
    fn issue(&self, corp: &str, secret: &str) -> rusqlite::Result<Option<(String, i64)>> {
        let database = self.database();
        let expires_in: Option<String> = database
            .prepare_cached("SELECT expires_in FROM applications WHERE corp = ?1 AND secret = ?2")?
            .query_row([corp, secret], |row| row.get(0))
            .optional()?;
        let Some(expires_in) = expires_in else {
            return Ok(None);
        };
        database
            .prepare_cached("INSERT INTO issued (corp) VALUES (?1)")?
            .execute([corp])?;
        Ok(Some((expires_in, database.last_insert_rowid())))
    }
}

#[derive(Deserialize)]
struct Request {
    corp: String,
    secret: String,
}

async fn issue(State(books): State<Arc<Books>>, Json(request): Json<Request>) -> Response {
    sleep(Duration::from_millis(books.delay.load(SeqCst))).await;
    if books.down.load(SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let issued = spawn_blocking(move || books.issue(&request.corp, &request.secret)).await;
    match issued {
        Ok(Ok(Some((expires_in, number)))) => {
            let body = format!(r#"{{"access_token":"token-{number}","expires_in":{expires_in}}}"#);
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Ok(Ok(None)) => StatusCode::UNAUTHORIZED.into_response(),
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
