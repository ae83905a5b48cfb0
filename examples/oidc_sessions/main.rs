//! Two gateways in front of dashboards, whose panels all refresh one rotated token at once.
//!
//! ```sh
//! cargo run --example oidc_sessions --features shared
//! ```
//!
//! The token is exchanged once in the whole fleet, an error stays with the gateway that got it, and a revoked token is
//! refused everywhere.
//!
//! Without `UNSTALE_REDIS_URL` the gateways share a bus inside this process.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod database;
mod provider;
mod sessions;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use unstale::{BoxError, Instance, LocalBus, Settings};

use database::{Database, Session};
use provider::Provider;
use sessions::Sessions;

/// Panels of a dashboard, half of them on each gateway.
const PANELS: usize = 50;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let provider = Provider::new(Duration::from_millis(200));
    let (bus, settings) = (LocalBus::default(), Settings::from_env()?);
    let settings = Sessions::settings(settings);
    let mut instances = Vec::new();
    let mut gateways = Vec::new();
    for _ in 0..2 {
        let instance = match settings.redis_url {
            Some(_) => Instance::start(settings.clone()).await?,
            None => Instance::start_on(&bus, settings.clone()).await?,
        };
        let database = Database::open(folder.path().join("sessions.db")).await?;
        gateways.push(Arc::new(Sessions::new(&instance, &provider, &database)?));
        instances.push(instance);
    }
    let (one, other) = (&gateways[0], &gateways[1]);

    let token = provider.login("ada");
    let next = refresh_at_once(&gateways, &token).await?;
    let calls = || provider.calls("refresh");
    println!(
        "{PANELS} panels, {} call upstream, {} next token",
        calls(),
        next.len()
    );
    sleep(Duration::from_secs(1)).await;
    let late = other.refresh(&token).await?.value.ok_or("no tokens")?;
    let same = next.contains(&late.refresh);
    println!(
        "a second later: {} call upstream, the same token: {same}",
        calls()
    );

    provider.fail_next();
    let failed = one.refresh(&late.refresh).await.is_err();
    let again = other.refresh(&late.refresh).await.is_ok();
    println!("one fails: {failed}; the other tries again: {again}");

    let ada = Session {
        id: "session-1".to_owned(),
        subject: "ada".to_owned(),
    };
    one.begin(ada).await?;
    let session = other.session("session-1").await?.ok_or("no session")?;
    println!("the other gateway knows the session of {}", session.subject);
    let issuer = "https://login.example";
    let metadata = one.metadata(issuer).await?.ok_or("no metadata")?;
    let active = one.introspect(&late.access).await?.ok_or("nothing")?.active;
    let genuine = one.genuine(&late.access, "key-1").await?;
    println!(
        "{} says it is active: {active}; genuine: {genuine}",
        metadata.token_endpoint
    );

    let before = other.allowed("token-7").await?;
    let notified = one.revoke("token-7").await?;
    // One network hop.
    while other.allowed("token-7").await? {
        sleep(Duration::from_millis(1)).await;
    }
    println!(
        "allowed: {before}; revoked, {notified:?} notified; allowed: {}",
        other.allowed("token-7").await?
    );

    for _ in 0..2 {
        for instance in &instances {
            instance.shutdown().await?;
        }
    }
    println!("closed twice");
    Ok(())
}

/// Every panel refreshes the token: the refresh tokens that they get.
async fn refresh_at_once(
    gateways: &[Arc<Sessions>],
    token: &str,
) -> Result<BTreeSet<String>, BoxError> {
    let mut panels = JoinSet::new();
    for panel in 0..PANELS {
        let (gateway, token) = (gateways[panel % 2].clone(), token.to_owned());
        panels.spawn(async move { gateway.refresh(&token).await });
    }
    let mut next = BTreeSet::new();
    while let Some(refreshed) = panels.join_next().await {
        let tokens = refreshed??.value.ok_or("no tokens")?;
        next.insert(tokens.refresh.clone());
    }
    Ok(next)
}
