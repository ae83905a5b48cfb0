//! `unstale status --metrics`: what another TTL would have done, from what instances serve.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep_until};
use unstale::{Instance, Loaded, LocalBus, Settings, testing};

use testkit::redis::free_port;

fn program(arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_unstale"));
    program.env_clear().arg("status").args(arguments);
    program.stdin(Stdio::null());
    program
}

fn status(arguments: &[&str]) -> Output {
    block_in_place(|| program(arguments).output().unwrap())
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
async fn a_saved_scrape_shows_what_another_ttl_would_do() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("metrics.txt");
    std::fs::write(&file, SAVED).unwrap();
    let estimate = stdout(&status(&["--metrics", file.to_str().unwrap()]));
    // 75 of 200; 100 of 200; a third of 60 more; all 60 more.
    let expected = "cache accounts: 200 reads by 1 instance\n  \
                    TTL 4.1 s       at least   37.5 % hits\n  \
                    TTL 10.0 s           now   50.0 % hits\n  \
                    TTL 12.6 s       at most   60.0 % hits\n  \
                    TTL none         at most   80.0 % hits\n";
    assert_eq!(estimate, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_instances_show_what_another_ttl_would_do() {
    let mut fleet = Vec::new();
    let mut arguments = vec!["--json".to_owned()];
    for _ in 0..2 {
        let address = format!("127.0.0.1:{}", free_port());
        let mut settings = Settings::default();
        settings.metrics_addr = Some(address.parse().unwrap());
        let instance = Instance::start(settings).await.unwrap();
        let load = |key: u64| async move { Ok(Loaded::new(Some(key))) };
        let rows = instance.cache::<u64, u64>("rows").loader(load).build();
        let rows = rows.unwrap();
        for read in 0..40 {
            rows.get(&(read % 10)).await.unwrap();
        }
        arguments.extend(["--metrics".to_owned(), format!("http://{address}/metrics")]);
        // With its last handle a cache takes its metrics along.
        fleet.push((instance, rows));
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let estimate: Value = serde_json::from_str(&stdout(&status(&arguments))).unwrap();
    let cache = &estimate["caches"][0];
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
async fn an_instance_without_metrics_is_named() {
    let unreachable = format!("http://127.0.0.1:{}/metrics", free_port());
    let output = status(&["--metrics", &unreachable]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(
        why.contains(&unreachable) && why.contains("refused"),
        "{why}"
    );
    assert_eq!(
        status(&[]).status.code(),
        Some(2),
        "without either: what of?"
    );
}

/// The TTL of the fleet that is asked what another one would do.
const TTL: Duration = Duration::from_secs(20);

/// Long enough for every key to expire many times.
const TRAFFIC: Duration = Duration::from_secs(600);

const INSTANCES: usize = 2;

/// One thing that happens to one of the instances.
struct Step {
    at: Duration,
    instance: usize,
    key: u64,
    invalidates: bool,
}

/// Ten minutes of a service: some keys are read many times a second and most once in a while, people
/// come back to what they looked at seconds ago, and now and then something changes.
fn traffic() -> Vec<Step> {
    let mut random = fastrand::Rng::with_seed(20);
    let mut steps = Vec::new();
    let mut at = Duration::ZERO;
    while at < TRAFFIC {
        at += Duration::from_micros(random.u64(..100_000));
        let key = 500_f64.powf(random.f64()) as u64;
        let instance = random.usize(..INSTANCES);
        let mut step = |at, invalidates| {
            steps.push(Step {
                at,
                instance,
                key,
                invalidates,
            });
        };
        step(at, false);
        if key.is_multiple_of(3) {
            step(at + Duration::from_micros(700_001), false);
        }
        if random.u8(..40) == 0 {
            step(at, true);
        }
    }
    steps.sort_by_key(|step| step.at);
    steps
}

/// What the program says of a fleet that had this TTL under that traffic.
async fn estimate_of_a_fleet_with(ttl: Duration, traffic: &[Step]) -> Value {
    let bus = LocalBus::default();
    let mut settings = Settings::default();
    settings.ttl = ttl;
    let mut fleet = Vec::new();
    for _ in 0..INSTANCES {
        let instance = testing::start_on(&bus, settings.clone()).await.unwrap();
        let load = |key: u64| async move { Ok(Loaded::new(Some(key))) };
        let rows = instance.cache::<u64, u64>("rows").loader(load).build();
        fleet.push((instance, rows.unwrap()));
    }
    let start = Instant::now();
    for step in traffic {
        sleep_until(start + step.at).await;
        let (_, rows) = &fleet[step.instance];
        if step.invalidates {
            rows.invalidate(&step.key).await.unwrap();
        } else {
            rows.get(&step.key).await.unwrap();
        }
    }
    let dir = TempDir::new().unwrap();
    let mut arguments = vec!["--json".to_owned()];
    for (number, (instance, _)) in fleet.iter().enumerate() {
        let file = dir.path().join(number.to_string());
        std::fs::write(&file, instance.metrics_text()).unwrap();
        arguments.extend(["--metrics".to_owned(), file.display().to_string()]);
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut estimate: Value =
        serde_json::from_str(&stdout(&program(&arguments).output().unwrap())).unwrap();
    estimate["caches"][0].take()
}

/// The program's answers are bounds that hold, and some are close: each is compared with what it says
/// of a fleet that really had that TTL. Time is tokio's, so that ten minutes are two seconds.
#[tokio::test(start_paused = true)]
async fn the_estimate_for_another_ttl_is_what_that_ttl_does() {
    // The crate's own dice, for the jitter of TTLs.
    fastrand::seed(20);
    let traffic = traffic();
    let estimate = estimate_of_a_fleet_with(TTL, &traffic).await;
    let now = estimate["hit_ratio"].as_f64().unwrap();
    let rows = estimate["other_ttls"].as_array().unwrap();
    let told_of = |seconds: Option<f64>| {
        let row = rows
            .iter()
            .find(|row| row["ttl_seconds"].as_f64() == seconds);
        row.unwrap_or_else(|| unreachable!("{seconds:?} is no row of {estimate:#}"))
    };
    // How far the bound may be from the truth: the estimates for the next TTLs are better than those far away.
    for (seconds, away) in [(4.096, 0.25), (16.384, 0.07)] {
        let least = told_of(Some(seconds))["hit_ratio_at_least"]
            .as_f64()
            .unwrap();
        let measured = measured(Some(seconds), &traffic).await;
        assert!(least <= measured && measured < now, "{least} {measured}");
        assert!(measured - least < away, "{seconds}: {least} {measured}");
    }
    for (seconds, away) in [(Some(22.56), 0.03), (Some(60.96), 0.06), (None, 0.01)] {
        let most = told_of(seconds)["hit_ratio_at_most"].as_f64().unwrap();
        let measured = measured(seconds, &traffic).await;
        assert!(now < measured && measured <= most, "{measured} {most}");
        assert!(most - measured < away, "{seconds:?}: {measured} {most}");
    }
}

/// The hit ratio of a fleet with this TTL, or none to speak of.
async fn measured(seconds: Option<f64>, traffic: &[Step]) -> f64 {
    let ttl = seconds.map_or(TRAFFIC * 2, Duration::from_secs_f64);
    let estimate = estimate_of_a_fleet_with(ttl, traffic).await;
    estimate["hit_ratio"].as_f64().unwrap()
}
