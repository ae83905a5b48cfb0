//! The HTTP side: 401 says that there is no such key, and 503 that this is not known.

use std::fmt::Display;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use super::keys::ApiKeys;

/// `/keys` is for administrators: put it behind what knows them.
pub(crate) fn router(keys: ApiKeys) -> Router {
    Router::new()
        .route("/whoami", get(whoami))
        .route("/keys", post(create).delete(revoke))
        .with_state(keys)
}

async fn whoami(State(keys): State<ApiKeys>, headers: HeaderMap) -> Response {
    match keys.authenticate(bearer(&headers)).await {
        Ok(Some(account)) => Json(&*account).into_response(),
        Ok(None) => unauthorized(),
        // The database fails or is protected from guesses: the key may well be good.
        Err(error) => unavailable(&error),
    }
}

#[derive(Deserialize)]
struct NewKey {
    owner: String,
    /// A random one if there is none.
    key: Option<String>,
}

async fn create(State(keys): State<ApiKeys>, Json(new): Json<NewKey>) -> Response {
    let created = match new.key {
        Some(key) => keys.register(&key, &new.owner).await.map(|()| key),
        None => keys.create(&new.owner).await,
    };
    match created {
        Ok(key) => (StatusCode::CREATED, Json(json!({ "key": key }))).into_response(),
        Err(refused) => unavailable(&refused),
    }
}

async fn revoke(State(keys): State<ApiKeys>, headers: HeaderMap) -> Response {
    match keys.revoke(bearer(&headers)).await {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => unauthorized(),
        Err(refused) => unavailable(&refused),
    }
}

fn bearer(headers: &HeaderMap) -> &str {
    let value = headers.get(header::AUTHORIZATION);
    let value = value.and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default()
}

fn unauthorized() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, challenge).into_response()
}

/// The answer to a write that may have happened: the client is to repeat it. A key that no client has seen cannot
/// be used, and to revoke twice is harmless.
fn unavailable(error: &impl Display) -> Response {
    let soon = [(header::RETRY_AFTER, "1")];
    let error = Json(json!({ "error": error.to_string() }));
    (StatusCode::SERVICE_UNAVAILABLE, soon, error).into_response()
}
