//! What Kubernetes asks the service: no probe fails because Redis is away.

use std::time::{Duration, Instant};

use serde_yaml_ng::Value;
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::files::yaml;
use testkit::fleet::Fleet;
use testkit::service::Service;

/// How long a change of state may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The path that this probe of the service asks.
fn path(probe: &str) -> String {
    let deployment = yaml("deploy/kubernetes/base/deployment.yaml");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let path = container[probe]["httpGet"]["path"].as_str();
    path.map(str::to_owned).unwrap_or_default()
}

async fn status(service: &Service, path: &str) -> u16 {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = http.get(format!("http://{}{path}", service.address()));
    asked.send().await.unwrap().status().as_u16()
}

/// Waits until `/healthz` has this status and this state.
async fn until_health(service: &Service, status: u16, state: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let health = service.healthz().await.unwrap();
        if health.status == status && health.json()["state"] == state {
            return;
        }
        assert!(Instant::now() < deadline, "{status}, {state}: {health:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_probe_fails_while_redis_is_away() {
    let probes = ["livenessProbe", "readinessProbe"].map(path);
    assert_eq!(probes, ["/livez", "/readyz"]);
    let fleet = Fleet::start(1).await;
    let service = &fleet.services[0];
    for (redis, expected, state) in [(true, 200, "coherent"), (false, 503, "degraded")] {
        if !redis {
            block_in_place(|| fleet.redis.kill());
        }
        until_health(service, expected, state).await;
        for probe in &probes {
            assert_eq!(status(service, probe).await, 200, "{probe}, {state}");
        }
    }
    assert!(service.terminate().await.success());
}

#[test]
fn the_documents_say_which_route_is_for_whom() {
    let text = super::files::read("deploy/README.md");
    let (_, probes) = text.split_once("### Probes").unwrap();
    let (probes, _) = probes.split_once("\n### ").unwrap();
    for route in ["/livez", "/readyz", "/healthz"] {
        assert!(probes.contains(&format!("| `{route}` |")), "{route}");
    }
    // A relay serves no requests, and has no probes.
    let relay: Value = yaml("deploy/kubernetes/components/relay/deployment.yaml");
    let container = &relay["spec"]["template"]["spec"]["containers"][0];
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        assert!(container[probe].is_null(), "{probe}");
    }
}
