//! Scenario 4: access tokens of third parties. A TTL that comes with the value, a margin before its
//! end, keys that have the secret in them, one call for many callers, an outage of Redis, and a
//! million applications.

#[path = "../../examples/third_party_tokens/third_party.rs"]
mod third_party;
#[path = "../../examples/third_party_tokens/tokens.rs"]
mod tokens;

mod fleet;
mod life;
mod many;
mod outage;
mod secrets;

use std::path::Path;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use unstale::{Instance, Settings};

use testkit::example::shows;
use testkit::redis::RedisServer;
use testkit::resp::Client as Admin;
use third_party::ThirdParty;
use tokens::{Credentials, Secret};

/// How long anything may take that is only a matter of the machine, however slow it is.
const PATIENCE: Duration = Duration::from_secs(120);

/// As a service is set up that changes nothing.
async fn instance(server: &RedisServer) -> Instance {
    let mut settings = Settings::default();
    settings.redis_url = Some(server.url());
    settings.namespace = "shop".to_owned();
    Instance::start(settings).await.unwrap()
}

/// The third party, over a database file in this folder.
async fn third_party(dir: &Path) -> ThirdParty {
    ThirdParty::start(&dir.join("third_party.db"))
        .await
        .unwrap()
}

fn application(corp: &str, secret: &str) -> Credentials {
    Credentials {
        corp: corp.to_owned(),
        secret: Secret::new(secret),
    }
}

/// Waits for the first verification since the fleet shares a cache, which begins the record of
/// invalidations: before that every instance loads for itself.
async fn recorded(server: &RedisServer) {
    let mut admin = Admin::connect(server.port());
    until("the record", async || {
        admin.cmd(&["EXISTS", "us:{shop:0}r"]).text() == "1"
    })
    .await;
}

/// Asks again until the answer is yes.
async fn until(what: &str, mut yes: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !yes().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let asked = timeout(PATIENCE, asking).await;
    assert!(asked.is_ok(), "never became true: {what}");
}

/// A series of an instance's metrics, as Prometheus would read it; 0 where there is none.
fn metric(instance: &Instance, series: &str) -> u64 {
    let text = instance.metrics_text();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

#[tokio::test]
async fn scenario_tokens_the_program_shows_what_it_says() {
    let lines = [
        "100 callers on each of 2 instances: 2 calls to the third party",
        "the same where the fleet shares it: 1 call",
        "two secrets of one corporation have two tokens: true",
        "a wrong secret: None",
        "a token that lives 2 s was served for less than 2 s: true",
        "how often a caller waited for another: 0",
        "rejected on one instance, asked for again on the other: 1 call",
        "the third party is down, the token is there: true",
    ];
    shows("third_party_tokens", &[], &[], &lines).await;
    let server = RedisServer::start();
    let url = server.url();
    let redis = [("UNSTALE_REDIS_URL", url.as_str())];
    shows("third_party_tokens", &[], &redis, &lines).await;
}
