//! `unstale status --metrics`: what another TTL would have done, from what instances serve.

use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::block_in_place;
use unstale::{Instance, Loaded, Settings};

use crate::support::redis::free_port;

fn status(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_unstale"));
    program.env_clear().arg("status").args(arguments);
    block_in_place(|| program.stdin(Stdio::null()).output().unwrap())
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Only the part of the metrics that matters here, of 200 reads.
const SAVED: &str = r#"
unstale_ttl_seconds{cache="accounts"} 10
unstale_hits_total{cache="accounts"} 100
unstale_negative_hits_total{cache="accounts"} 0
unstale_coalesced_total{cache="accounts"} 0
unstale_misses_total{cache="accounts",cause="expired"} 60
unstale_misses_total{cache="accounts",cause="cold"} 40
unstale_hit_age_seconds_bucket{cache="accounts",le="4.096"} 3
unstale_hit_age_seconds_bucket{cache="accounts",le="+Inf"} 4
unstale_expiry_overage_seconds_bucket{cache="accounts",le="2.56"} 1
unstale_expiry_overage_seconds_bucket{cache="accounts",le="+Inf"} 3
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_scrape_tells_what_another_ttl_would_do() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("metrics.txt");
    std::fs::write(&file, SAVED).unwrap();
    let told = stdout(&status(&["--metrics", file.to_str().unwrap()]));
    // 75 of 200; 100 of 200; a third of 60 more; all 60 more.
    let expected = "cache accounts: 200 reads by 1 instance\n  \
                    TTL 4.1 s       at least   37.5 % hits\n  \
                    TTL 10.0 s           now   50.0 % hits\n  \
                    TTL 12.6 s       at most   60.0 % hits\n  \
                    TTL none         at most   80.0 % hits\n";
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_instances_tell_what_another_ttl_would_do() {
    let mut fleet = Vec::new();
    let mut arguments = vec!["--json".to_owned()];
    for _ in 0..2 {
        let address = format!("127.0.0.1:{}", free_port());
        let mut settings = Settings::default();
        settings.metrics_addr = Some(address.parse().unwrap());
        let instance = Instance::start(settings).await.unwrap();
        let load = |key: u64| async move { Ok::<_, std::io::Error>(Loaded::new(Some(key))) };
        let rows = instance.cache::<u64, u64>("rows").loader(load).build();
        let rows = rows.unwrap();
        for read in 0..40 {
            rows.get(&(read % 10)).await.unwrap();
        }
        arguments.extend(["--metrics".to_owned(), format!("http://{address}/metrics")]);
        fleet.push(instance);
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let told: Value = serde_json::from_str(&stdout(&status(&arguments))).unwrap();
    let cache = &told["caches"][0];
    assert_eq!(cache["cache"], "rows");
    assert_eq!(
        (&cache["instances"], &cache["reads"]),
        (&2.into(), &80.0.into())
    );
    // 10 of 40 load; nothing has expired, so that no longer TTL would do better.
    assert_eq!(cache["hit_ratio"], 0.75);
    let others = cache["other_ttls"].as_array().unwrap();
    let (longest, shorter) = (others.last().unwrap(), &others[0]);
    assert!(longest["ttl_seconds"].is_null());
    assert_eq!(longest["hit_ratio_at_most"], 0.75);
    assert_eq!(shorter["hit_ratio_at_least"], 0.75, "all hits are young");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_metrics_is_named() {
    let nobody = format!("http://127.0.0.1:{}/metrics", free_port());
    let output = status(&["--metrics", &nobody]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(why.contains(&nobody) && why.contains("refused"), "{why}");
    assert_eq!(
        status(&[]).status.code(),
        Some(2),
        "without either: what of?"
    );
}
