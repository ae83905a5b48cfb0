//! The HTTP side: what each outcome of a read or a write means to a client.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use unstale::{Cache, ErrorKind, Instance, InstanceState, Outcome, WriteError};

use crate::database::{self, Account, Database};

/// What every handler needs; cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) accounts: Cache<u64, Arc<Account>>,
    pub(crate) database: Database,
    pub(crate) instance: Instance,
    pub(crate) stopping: watch::Receiver<bool>,
}

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/accounts/{id}", get(read).put(write).delete(delete))
        .route("/accounts/{id}/explain", get(explain))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .with_state(app)
}

type Id = Result<Path<String>, PathRejection>;

/// What a client may set.
#[derive(Deserialize)]
struct Change {
    name: String,
    balance: i64,
}

/// Reads through the cache; `x-cache` says how it was answered, and `age` how many seconds ago it was loaded.
async fn read(State(app): State<App>, id: Id) -> Result<Response, Failure> {
    let id = parse(id)?;
    let lookup = app.accounts.lookup(&id).await?;
    let outcome = match lookup.outcome {
        Outcome::Hit => "hit",
        Outcome::Miss => "miss",
        Outcome::Coalesced => "coalesced",
        Outcome::Negative => "negative",
        _ => "other",
    };
    let answer = match lookup.value {
        Some(account) => Json(&*account).into_response(),
        None => Failure::unknown(id).into_response(),
    };
    let headers = [
        (HeaderName::from_static("x-cache"), outcome.to_string()),
        (header::AGE, lookup.age.as_secs().to_string()),
    ];
    Ok((headers, answer).into_response())
}

/// Why a read of an account would be answered as it would be, for operators. No read: nothing is loaded or counted.
/// It says nothing of the account but its hash, and belongs behind what protects `/metrics`.
async fn explain(State(app): State<App>, id: Id) -> Result<Json<Value>, Failure> {
    let said = app.accounts.explain(&parse(id)?);
    let ms = |time: Duration| time.as_millis() as u64;
    let held = said.held.map(|held| {
        json!({
            "exists": held.exists,
            "age_ms": ms(held.age),
            "ttl_left_ms": ms(held.ttl_left),
        })
    });
    let last = said.last_invalidation.as_ref().map(|last| {
        json!({
            "what": last.to_string(),
            "origin": last.origin.map(|origin| origin.to_string()),
            "lane": last.lane,
            "epoch": last.epoch,
            "sequence": last.sequence,
            "age_ms": said.last_invalidation_age.map(ms),
        })
    });
    Ok(Json(json!({
        "outcome": format!("{:?}", said.outcome).to_lowercase(),
        "cause": said.cause.map(|cause| cause.to_string()),
        "waits": said.waits,
        "held": held,
        "lane": said.lane,
        "verified_age_ms": said.verified_age.map(ms),
        "max_staleness_ms": said.max_staleness.map(ms),
        "last_invalidation": last,
        "known_for_ms": ms(said.known_for),
        "text": said.to_string(),
    })))
}

/// Longest name of an account, in characters.
const LONGEST_NAME: usize = 200;

/// Creates or changes an account. 200 says that every instance has been notified.
async fn write(
    State(app): State<App>,
    id: Id,
    change: Result<Json<Change>, JsonRejection>,
) -> Result<Response, Failure> {
    let id = parse(id)?;
    let Json(Change { name, balance }) =
        change.map_err(|error| Failure(error.status(), error.body_text()))?;
    // A row's size is bounded, or no number of entries bounds the memory of the cache.
    if name.chars().count() > LONGEST_NAME {
        let reason = format!("a name has at most {LONGEST_NAME} characters");
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, reason));
    }
    // The commit owns its data, since it may outlive this request: a client that hangs up drops
    // this future, and the cache then invalidates as for any write of unknown outcome.
    let database = app.database.clone();
    let commit = async move { database.put(id, name, balance).await };
    Ok(match notified(app.accounts.write(&id, commit).await)? {
        Notified::All(account) => Json(account).into_response(),
        Notified::Later(account, reason) => (
            StatusCode::ACCEPTED,
            Json(Accepted {
                account: Some(account),
                reason,
            }),
        )
            .into_response(),
    })
}

/// Deletes an account. 204 says that every instance has been notified.
async fn delete(State(app): State<App>, id: Id) -> Result<Response, Failure> {
    let id = parse(id)?;
    let database = app.database.clone();
    let commit = async move { database.delete(id).await };
    match notified(app.accounts.write(&id, commit).await)? {
        Notified::All(false) | Notified::Later(false, _) => Err(Failure::unknown(id)),
        Notified::All(true) => Ok(StatusCode::NO_CONTENT.into_response()),
        Notified::Later(true, reason) => Ok((
            StatusCode::ACCEPTED,
            Json(Accepted {
                account: None,
                reason,
            }),
        )
            .into_response()),
    }
}

/// For liveness probes: 200 while the process serves. A restart heals nothing that this could report.
async fn live() -> &'static str {
    "ok\n"
}

/// For readiness probes: 503 once the shutdown has begun. A degraded cache stays ready: its hits are bounded all the
/// same, and when Redis is away every other instance is degraded, too.
async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    let closed = app.instance.health().state == InstanceState::Closed;
    if closed || *app.stopping.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    (StatusCode::OK, "ready\n")
}

/// For people and alerts, never for a probe: the details, and 503 while the cache is degraded.
async fn health(State(app): State<App>) -> impl IntoResponse {
    let health = app.instance.health();
    let (status, state) = match health.state {
        InstanceState::Coherent => (StatusCode::OK, "coherent"),
        InstanceState::Closed => (StatusCode::SERVICE_UNAVAILABLE, "closed"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "degraded"),
    };
    let ages = health
        .verified_age
        .iter()
        .map(|age| age.map(|age| age.as_millis()));
    let body = json!({
        "state": state,
        // "local" where Redis was meant: each instance is a fleet of its own.
        "bus": health.bus.to_string(),
        "instance": health.id.to_string(),
        "connected": health.connected,
        "verified_age_ms": ages.collect::<Vec<_>>(),
        "open_writes": health.open_writes,
    });
    (status, Json(body))
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        app.instance.metrics_text(),
    )
}

/// The ids of databases are signed; negative ones are not used.
fn parse(id: Id) -> Result<u64, Failure> {
    let id = id.ok().and_then(|Path(id)| id.parse::<i64>().ok());
    id.and_then(|id| u64::try_from(id).ok()).ok_or_else(|| {
        Failure(
            StatusCode::BAD_REQUEST,
            format!("the id must be a number from 0 to {}", i64::MAX),
        )
    })
}

/// A write that was committed.
enum Notified<T> {
    /// Redis has acknowledged the event.
    All(T),
    /// It has not, for this reason; instances that miss the event follow within the bound.
    Later(T, String),
}

/// The answer to a write that Redis has not acknowledged: the row, if any, and the reason.
#[derive(Serialize)]
struct Accepted {
    #[serde(flatten)]
    account: Option<Account>,
    reason: String,
}

fn notified<T>(written: Result<T, WriteError<T, database::Error>>) -> Result<Notified<T>, Failure> {
    match written {
        Ok(value) => Ok(Notified::All(value)),
        Err(WriteError::Unconfirmed { value, error }) => {
            Ok(Notified::Later(value, error.to_string()))
        }
        // Nothing was committed: the client may try again, here or elsewhere.
        Err(WriteError::Refused(error)) => {
            let reason = format!("nothing was committed: {error}");
            Err(Failure(StatusCode::SERVICE_UNAVAILABLE, reason))
        }
        // These two may have been committed or not; every instance drops the key either way.
        Err(WriteError::Commit(error)) => Err(Failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        )),
        Err(WriteError::Abandoned(error)) => {
            let reason = format!("the outcome is unknown: {error}");
            Err(Failure(StatusCode::GATEWAY_TIMEOUT, reason))
        }
    }
}

/// An answer that is not the one asked for: `{"error": "..."}`.
struct Failure(StatusCode, String);

impl Failure {
    fn unknown(id: u64) -> Self {
        Self(StatusCode::NOT_FOUND, format!("there is no account {id}"))
    }
}

/// A read that failed: it is the loader's error, or says that there are too many loads.
impl From<unstale::Error> for Failure {
    fn from(error: unstale::Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Limited => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::LoadTimeout => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        Self(status, format!("{error}{}", cause.unwrap_or_default()))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(status, error) = self;
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), %error, "request failed");
        }
        (status, Json(json!({ "error": error }))).into_response()
    }
}
