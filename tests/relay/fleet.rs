//! Three processes of the reference service on one PostgreSQL: what is judged, over HTTP alone.

use std::sync::Arc;
use std::time::Duration;

use testkit::service::{Reply, Service};

use super::rig::Rig;
use super::{MAX_STALENESS, MEMBER_TIMEOUT, VERIFY_INTERVAL};
use crate::support::over_redis::PATIENCE;

const INSTANCES: usize = 3;

/// The table is the service's own.
pub(crate) const RULES: &str = r#"source = "shop"

[[rule]]
table = "accounts"
cache = "accounts"
key = ["id"]
"#;

/// How one read was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// The balance, which is what writers number; none where there is no account.
    pub(crate) state: Option<i64>,
    pub(crate) hit: bool,
    /// Since its load, rounded down to seconds.
    pub(crate) age: Duration,
}

/// Servers that are prepared, and the services. A relay is not among them.
pub(crate) async fn start() -> (Rig, Vec<Arc<Service>>) {
    let rig = Rig::of(&[], "", RULES).await;
    let services = over(&rig, &rig.postgres.url("app", "app", "shop")).await;
    (rig, services)
}

/// The services alone, whose way to the database is this one.
pub(crate) async fn over(rig: &Rig, database: &str) -> Vec<Arc<Service>> {
    let (redis, times) = (
        rig.redis.url(),
        [MAX_STALENESS, VERIFY_INTERVAL, MEMBER_TIMEOUT],
    );
    let [staleness, verify, member] = times.map(|time| format!("{time:?}"));
    let settings = [
        ("UNSTALE_REDIS_URL", &*redis),
        ("UNSTALE_NAMESPACE", "shop"),
        ("UNSTALE_CACHES__ACCOUNTS__SOURCE", "shop"),
        ("UNSTALE_MAX_STALENESS", &*staleness),
        ("UNSTALE_VERIFY_INTERVAL", &*verify),
        ("UNSTALE_MEMBER_TIMEOUT", &*member),
        // Longer than any test: nothing is fresh again because its time has passed.
        ("UNSTALE_TTL", "1h"),
        ("UNSTALE_NEGATIVE_TTL", "1h"),
        ("UNSTALE_ERROR_TTL", "0s"),
        ("UNSTALE_LOAD_TIMEOUT", "60s"),
    ];
    let mut services = Vec::new();
    for _ in 0..INSTANCES {
        services.push(Arc::new(Service::start(database, &settings).await));
    }
    // The publication names the table, which the first of them has made.
    rig.prepare().await;
    for service in &services {
        service.until_healthy(PATIENCE).await;
    }
    services
}

/// Reads an account. A read that fails is the caller's.
pub(crate) async fn read(service: &Service, id: i64) -> Result<Answer, String> {
    let id = id.try_into().expect("accounts have no negative numbers");
    let reply = service
        .get(id)
        .await
        .map_err(|error| format!("{error:?}"))?;
    let state = match reply.status {
        200 => reply.json()["balance"].as_i64(),
        _ => None,
    };
    match reply {
        Reply {
            status: 200 | 404,
            cache: Some(cache),
            age: Some(age),
            ..
        } => Ok(Answer {
            state,
            hit: matches!(&*cache, "hit" | "negative"),
            age,
        }),
        reply => Err(format!("{} {}", reply.status, reply.body)),
    }
}
