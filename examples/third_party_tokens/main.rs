//! Access tokens of third parties: their TTL comes with them, they are replaced before they end, and
//! one call of one instance serves the whole fleet.
//!
//! ```sh
//! cargo run --features shared --example third_party_tokens
//! UNSTALE_REDIS_URL=redis://127.0.0.1:6379 cargo run --features shared --example third_party_tokens
//! ```
//!
//! - `tokens.rs` is what a service keeps: what a token is kept by, for how long, and who shares it;
//! - `third_party.rs` asks for one over HTTP, and replaces the third party (SQLite and axum).

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod third_party;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant as Moment, sleep};
use unstale::{BoxError, Instance, LocalBus, Settings};

use third_party::{Client, ThirdParty};
use tokens::{Credentials, Secret, Shares, Tokens};

/// Callers of one token at the same moment, on each instance.
const CALLERS: usize = 100;

/// How long a token that lives two seconds is asked for, again and again.
const WATCHED: Duration = Duration::from_millis(3_500);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let dir = tempfile::tempdir()?;
    let third_party = ThirdParty::start(&dir.path().join("third_party.db")).await?;
    third_party.slow(Duration::from_millis(50));
    let bus = LocalBus::default();
    let (one, other) = (start(&bus).await?, start(&bus).await?);
    let client = Arc::new(Client::new(third_party.url())?);
    let build = |shares| -> Result<[Tokens; 2], BoxError> {
        Ok([
            Tokens::build(&one, client.clone(), shares)?,
            Tokens::build(&other, client.clone(), shares)?,
        ])
    };

    // `expires_in` is a text here; the second application of the corporation has another secret.
    let billing = application("corp-7", "billing");
    let support = application("corp-7", "support");
    third_party.register(&billing, r#""7200""#)?;
    third_party.register(&support, "7200")?;
    let calls = storm(&build(Shares::Instance)?, &billing, &third_party).await?;
    println!("{CALLERS} callers on each of 2 instances: {calls} calls to the third party");
    let fleet = build(Shares::Fleet)?;
    // The first verification, a round trip away, begins the fleet's record of invalidations; before
    // that every instance would ask for a token of its own.
    sleep(Duration::from_millis(200)).await;
    let calls = storm(&fleet, &billing, &third_party).await?;
    println!("the same where the fleet shares it: {calls} call");

    let token = fleet[0].get(&billing).await?.ok_or("it was there")?;
    let header = format!("Bearer {}", token.reveal());
    println!("requests carry a header of {} characters", header.len());
    let apart = fleet[0].get(&billing).await? != fleet[0].get(&support).await?;
    println!("two secrets of one corporation have two tokens: {apart}");
    let unknown = fleet[0].get(&application("corp-7", "guessed")).await?;
    println!("a wrong secret: {unknown:?}");

    // One that lives two seconds is replaced after one of them, in the background.
    let brief = application("corp-8", "brief");
    third_party.register(&brief, "2")?;
    let before = fleet[0].cache().stats();
    let oldest = watch(&fleet[0], &brief).await?;
    println!(
        "a token that lives 2 s was served for less than 2 s: {}",
        oldest < Duration::from_secs(2)
    );
    let waits = fleet[0].cache().stats().misses - before.misses;
    println!("how often a caller waited for another: {}", waits - 1);

    fleet[0].reject(&billing).await?;
    sleep(Duration::from_millis(100)).await; // the other one hears of it: one hop
    let before = third_party.issued()?;
    fleet[1].get(&billing).await?;
    let calls = third_party.issued()? - before;
    println!("rejected on one instance, asked for again on the other: {calls} call");

    // The token is good for two hours yet.
    third_party.set_down(true);
    let kept = fleet[1].get(&billing).await?.is_some();
    println!("the third party is down, the token is there: {kept}");
    one.shutdown().await?;
    other.shutdown().await?;
    Ok(())
}

/// Many callers on each instance at the same moment; returns the calls that this took.
async fn storm(
    fleet: &[Tokens],
    credentials: &Credentials,
    third_party: &ThirdParty,
) -> Result<u64, BoxError> {
    let before = third_party.issued()?;
    let mut callers = JoinSet::new();
    for tokens in fleet.iter().cycle().take(CALLERS * fleet.len()) {
        let (tokens, credentials) = (tokens.clone(), credentials.clone());
        callers.spawn(async move { tokens.get(&credentials).await });
    }
    while let Some(called) = callers.join_next().await {
        assert!(called??.is_some(), "the issuer knows these credentials");
    }
    Ok(third_party.issued()? - before)
}

async fn start(bus: &LocalBus) -> Result<Instance, BoxError> {
    let settings = Settings::from_env()?;
    Ok(match &settings.redis_url {
        Some(_) => Instance::start(settings).await?,
        None => Instance::start_on(bus, settings).await?,
    })
}

fn application(corp: &str, secret: &str) -> Credentials {
    Credentials {
        corp: corp.to_owned(),
        secret: Secret::new(secret),
    }
}

/// Asks all the while; returns for how long a token was served.
async fn watch(tokens: &Tokens, credentials: &Credentials) -> Result<Duration, BoxError> {
    let (mut since, mut oldest) = (Moment::now(), Duration::ZERO);
    let end = since + WATCHED;
    let mut token = tokens.get(credentials).await?;
    while Moment::now() < end {
        let asked = Moment::now();
        let present = tokens.get(credentials).await?;
        if present == token {
            oldest = oldest.max(asked - since);
        } else {
            (token, since) = (present, asked);
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(oldest)
}
