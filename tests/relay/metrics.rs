//! What a relay serves to Prometheus, and what instances say of their proof.

use std::time::Duration;

use testkit::proxy::{Cut, Door};
use testkit::redis::free_port;

use super::program::relay::Relay;
use super::rig::{Rig, Way};
use crate::support::over_redis::until;

/// A relay whose metrics are served.
struct Watched {
    relay: Relay,
    url: String,
    http: reqwest::Client,
}

impl Watched {
    fn start(rig: &Rig, way: Way) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let mut variables = rig.variables(&rig.url(way), way);
        variables.push(("UNSTALE_METRICS_ADDR", address.clone()));
        Self {
            relay: Relay::start(&rig.rules(), &variables),
            url: format!("http://{address}/metrics"),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    async fn leading(rig: &Rig, way: Way) -> Self {
        let watched = Self::start(rig, way);
        watched.relay.until_says("relaying shop").await;
        watched
            .until(r#"state{source="shop",state="leading"}"#, |state| {
                state == 1.0
            })
            .await;
        watched
    }

    /// The value of a series, `lag_seconds` say; none where it is not there, or nothing is served yet.
    async fn find(&self, series: &str) -> Option<f64> {
        let answer = self.http.get(&self.url).send().await.ok()?;
        value(&answer.text().await.ok()?, &relay(series))
    }

    async fn get(&self, series: &str) -> f64 {
        self.find(series).await.expect(series)
    }

    async fn until(&self, series: &str, is: impl Fn(f64) -> bool) {
        until(&format!("{series} is so"), async || {
            self.find(series).await.is_some_and(&is)
        })
        .await;
    }
}

fn relay(series: &str) -> String {
    let labels = if series.contains('{') {
        ""
    } else {
        r#"{source="shop"}"#
    };
    format!("unstale_relay_{series}{labels}")
}

fn value(text: &str, series: &str) -> Option<f64> {
    let begins = format!("{series} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&begins));
    line?.parse().ok()
}

const PROOF: &str = r#"unstale_source_verified_age_seconds{source="shop"}"#;

/// Waits until the proof of every instance is so old.
async fn proofs(rig: &Rig, is: impl Fn(f64) -> bool) {
    for node in &rig.nodes {
        until("the age of the proof is so", async || {
            is(value(&node.instance.metrics_text(), PROOF).expect(PROOF))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_publishing_and_proving_are_counted() {
    let rig = Rig::start().await;
    rig.postgres
        .sql_in("shop", "ALTER PUBLICATION unstale_shop ADD TABLE notes")
        .await;
    let relay = Watched::leading(&rig, Way::Straight).await;
    assert_eq!(relay.get("rows_total").await, 0.0);
    let events = relay.get("events_total").await;
    assert!(events > 0.0, "the first drop of all caches is published");
    relay.until("marks_total", |marks| marks > 0.0).await;
    let marks = relay.get("marks_total").await;
    rig.sql("INSERT INTO accounts SELECT n, 0 FROM generate_series(1, 10) n")
        .await;
    relay.until("rows_total", |rows| rows >= 10.0).await;
    relay.until("events_total", |now| now > events).await;
    relay.until("marks_total", |now| now > marks).await;
    assert!(relay.get("commits_total").await >= 1.0);
    rig.sql("INSERT INTO notes VALUES ('a'), ('b'), ('c')")
        .await;
    relay.until("rows_total", |rows| rows >= 13.0).await;
    assert_eq!(relay.get("rows_total").await, 13.0);
    assert_eq!(relay.get("unmapped_rows_total").await, 3.0);
    assert_eq!(relay.get("restarts_total").await, 0.0);
    relay.until("lag_bytes", |bytes| bytes == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_caches_and_restarts_are_counted() {
    let rig = Rig::start().await;
    let relay = Watched::leading(&rig, Way::Straight).await;
    let collapses = |cause| format!("collapses_total{{source=\"shop\",cause=\"{cause}\"}}");
    let (truncated, altered) = (collapses("truncate"), collapses("altered"));
    rig.sql("INSERT INTO accounts VALUES (1, 1)").await;
    relay.until("rows_total", |rows| rows >= 1.0).await;
    assert_eq!(relay.get(&truncated).await, 0.0);
    assert_eq!(relay.get(&altered).await, 0.0);
    rig.sql("TRUNCATE accounts").await;
    relay.until(&truncated, |times| times == 1.0).await;
    rig.sql("ALTER TABLE codes ADD COLUMN extra bigint").await;
    relay.until(&altered, |times| times >= 1.0).await;
    assert_eq!(relay.get(&truncated).await, 1.0);
    assert_eq!(relay.get("restarts_total").await, 0.0);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication";
    rig.postgres.sql(end).await;
    relay.until("restarts_total", |times| times >= 1.0).await;
    let leads = r#"state{source="shop",state="leading"}"#;
    relay.until(leads, |state| state == 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_cut_off_from_redis_lags_until_it_is_back() {
    let rig = Rig::start().await;
    let relay = Watched::leading(&rig, Way::OverProxies).await;
    proofs(&rig, |age| age < 3.0).await;
    relay.until("lag_seconds", |lag| lag < 3.0).await;
    rig.to_redis.set_door(Door::Refuse).await;
    rig.to_redis.cut(Cut::Rst);
    rig.sql("INSERT INTO accounts SELECT n, 0 FROM generate_series(1, 1000) n")
        .await;
    let long = Duration::from_secs(6).as_secs_f64();
    relay.until("lag_seconds", |lag| lag > long).await;
    relay.until("lag_bytes", |bytes| bytes > 0.0).await;
    // Redis itself is there: what the instances lack is the relay.
    proofs(&rig, |age| age > long).await;
    rig.to_redis.set_door(Door::Open).await;
    relay.until("lag_seconds", |lag| lag < 3.0).await;
    relay.until("lag_bytes", |bytes| bytes == 0.0).await;
    proofs(&rig, |age| age < 3.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_waits_says_so_and_an_instance_that_relays_nothing_says_nothing() {
    let rig = Rig::start().await;
    let first = Watched::leading(&rig, Way::Straight).await;
    let second = Watched::start(&rig, Way::Straight);
    second.relay.until_says("another relay of shop works").await;
    let (leads, waits) = (
        r#"state{source="shop",state="leading"}"#,
        r#"state{source="shop",state="waiting"}"#,
    );
    second.until(waits, |state| state == 1.0).await;
    assert_eq!(second.get(leads).await, 0.0);
    assert_eq!(second.get("lag_seconds").await, 0.0);
    first.relay.kill();
    second.until(leads, |state| state == 1.0).await;
    assert_eq!(second.get(waits).await, 0.0);
    let text = rig.nodes[0].instance.metrics_text();
    assert!(!text.contains("unstale_relay_"), "{text}");
    assert!(value(&text, PROOF).is_some(), "{text}");
}
