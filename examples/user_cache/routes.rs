//! The HTTP side.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use unstale::ErrorKind;

use super::users::Users;

pub(crate) fn router(users: Users) -> Router {
    Router::new()
        .route("/users/{id}", get(user).put(set_role).delete(delete))
        .with_state(users)
}

/// When the client hangs up, axum drops this future at its present await. That stops the waiting and
/// nothing else: the query goes on, for the other callers that wait and for the next one that asks.
async fn user(State(users): State<Users>, Path(id): Path<u32>) -> Response {
    match users.get(id).await {
        Ok(Some(user)) => Json(&*user).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => {
            let status = match error.kind() {
                ErrorKind::LoadTimeout => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, error.to_string()).into_response()
        }
    }
}

/// A client that hangs up here leaves a change that may have been made or not: the cache drops the
/// user everywhere in both cases, at once and once more when the commit can no longer come.
async fn set_role(State(users): State<Users>, Path(id): Path<u32>, role: String) -> Response {
    match users.set_role(id, &role).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

async fn delete(State(users): State<Users>, Path(id): Path<u32>) -> Response {
    match users.delete(id).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}
