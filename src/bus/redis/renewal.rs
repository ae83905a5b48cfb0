//! Gives an open connection each new login, before the old one expires.

use std::convert::Infallible;

use fred::clients::Client;
use fred::error::Error as FredError;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::select;
use tokio::time::sleep;

use super::connection::options;
use super::peer::Peer;
use super::{error, values};
use crate::backoff;
use crate::metrics::Kind;
use crate::time::Clock;
use crate::url::Login;

/// First pause after a login that was refused: the file may be changed a moment before the server is.
const FIRST: std::time::Duration = std::time::Duration::from_millis(250);

/// Longest pause; the connection goes on with its old login meanwhile.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(10);

/// Logs a connection in, by `log_in`, whenever there are newer logins than those of this version. Never ends.
pub(super) async fn keep<F, R>(log_in: F, peer: &Peer, version: u64) -> Infallible
where
    F: Fn(Login) -> R,
    R: Future<Output = Result<(), FredError>>,
{
    let logins = peer.target.logins();
    let mut known = logins.newer(version).await;
    let mut failures = 0;
    loop {
        let version = known.version;
        let login = peer.target.login(&known).clone();
        if login.password.is_none() {
            known = logins.newer(version).await;
            continue;
        }
        let Err(refused) = log_in(login).await else {
            tracing::debug!(server = %peer.place, "logged in to Redis again");
            failures = 0;
            known = logins.newer(version).await;
            continue;
        };
        failures += 1;
        if let Some(suppressed) = peer.common.refusals.allow(Clock::Kernel.now()) {
            let error = error::from_fred(&refused);
            tracing::warn!(server = %peer.place, suppressed, %error, "Redis refuses the new login on an open connection; trying again");
        }
        select! {
            newer = logins.newer(version) => known = newer,
            () = sleep(backoff::jittered(FIRST, LONGEST, failures)) => {}
        }
    }
}

/// By AUTH, on a connection of fred's.
pub(super) async fn log_in(client: &Client, peer: &Peer, login: Login) -> Result<(), FredError> {
    let traffic = &peer.common.config.traffic;
    let words = login.username.iter().chain(&login.password);
    let lengths = words.clone().map(String::len);
    traffic.sent(
        Kind::Connect,
        values::command(["AUTH".len()].into_iter().chain(lengths)),
    );
    let client = client.with_options(&options(peer.target.timeout()));
    let command = CustomCommand::new_static("AUTH", ClusterHash::Random, false);
    let words: Vec<Value> = words.map(|word| values::bytes(word.as_bytes())).collect();
    let answer: Value = client.custom(command, words).await?;
    traffic.received(Kind::Connect, values::reply(&answer));
    Ok(())
}
