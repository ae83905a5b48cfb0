//! A fleet that signs its events, and an operator who has another key or forgot it.

use unstale::{Instance, Settings};

use super::{Ran, RedisServer, until_known};
use crate::support::over_redis::until;
use testkit::program::{on, run};
use testkit::resp::Client;

const KEY: &str = "the signing key of the fleet";
const OTHER: &str = "another signing key of theirs";

fn run_with(url: &str, key: Option<&str>, args: &[&str]) -> Ran {
    let key = key.map(|key| ("UNSTALE_SIGNING_KEY", key));
    let vars: Vec<_> = on(url).into_iter().chain(key).collect();
    run(args, &vars)
}

async fn instance(url: &str, key: Option<&str>) -> Instance {
    let mut settings = Settings::default();
    settings.redis_url = Some(url.to_owned());
    settings.namespace = "shop".to_owned();
    settings.signing_key = key.map(str::to_owned);
    Instance::start(settings).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_fleet_would_refuse_is_not_published() {
    let server = RedisServer::start();
    let url = server.url();
    let mut admin = Client::connect(server.port());
    for (fleet, wrong, says) in [
        (
            Some(KEY),
            None,
            "sign their events: set UNSTALE_SIGNING_KEY",
        ),
        (Some(KEY), Some(OTHER), "sign events with another key"),
        (
            None,
            Some(OTHER),
            "sign events with another key, or do not sign",
        ),
    ] {
        let instance = instance(&url, fleet).await;
        let _rows = instance.cache::<u64, u64>("rows").build().unwrap();
        until_known(&url, "rows", 1).await;
        let mut sequence = || admin.cmd(&["HGET", "us:{shop:0}s", "q"]).text();
        let before = sequence();
        let ran = run_with(&url, wrong, &["invalidate", "rows", "1"]);
        assert_eq!(ran.status, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(says), "{ran:?}");
        assert_eq!(sequence(), before, "nothing was published");
        let doctor = run_with(&url, wrong, &["doctor"]);
        assert_eq!(doctor.status, Some(1), "{doctor:?}");
        assert!(
            doctor.stdout.contains("1 instance has another signing key"),
            "{doctor:?}"
        );
        let status = run_with(&url, wrong, &["status", "--json"]);
        assert_eq!(status.json()["of_other_keys"], 1, "{status:?}");

        let ran = run_with(&url, fleet, &["invalidate", "rows", "1"]);
        assert_eq!(ran.status, Some(0), "{ran:?}");
        let status = run_with(&url, fleet, &["status", "--json"]);
        assert_eq!(status.json()["of_other_keys"], 0, "{status:?}");
        instance.shutdown().await.unwrap();
        until("it is gone", async || {
            admin.cmd(&["ZCOUNT", "us:{shop:0}m", "0", "(+inf"]).text() == "0"
        })
        .await;
    }
}
