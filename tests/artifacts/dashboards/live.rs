//! Every query of the boards and the rules, answered by a real Prometheus that has watched a real
//! fleet through messages lost, a black hole, a restart of Redis and a crash.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::sleep;

use super::expression::Expression;
use super::{board, folder, is_row, items, text};
use testkit::fleet::Fleet;
use testkit::prometheus::Prometheus;
use testkit::proxy::Mode;
use testkit::service::Service;

/// The TTL of the fleet, in seconds: short, so that entries expire within the test.
const TTL: f64 = 3.0;

/// Metrics that may stay at nothing in this test, and why. Whatever else a panel shows must have
/// been seen to move.
const QUIET: [(&str, &str); 15] = [
    (
        "unstale_delivery_pause_seconds",
        "there are fewer than a hundred subscribers",
    ),
    (
        "unstale_publish_failures_total",
        "a write is refused while Redis is away, so hardly any is being published",
    ),
    ("unstale_audit_stale_total", "nothing is stale for so long"),
    (
        "unstale_lane_waits_total",
        "a connection is mostly known to be lost before its lanes are too old",
    ),
    ("unstale_clock_jumps_total", "no machine is suspended"),
    (
        "unstale_coalesced_total",
        "a load from SQLite is too short to be shared for certain",
    ),
    (
        "unstale_loads_discarded_total",
        "and too short to be overtaken",
    ),
    (
        "unstale_loads_in_flight",
        "and to be under way just when it is asked for",
    ),
    (
        "unstale_outbox_keys",
        "it is empty again within a millisecond",
    ),
    ("unstale_open_writes", "so are these"),
    (
        "unstale_outbox_collapses_total",
        "65,536 keys would have to wait",
    ),
    ("unstale_republished_total", "Redis fails over"),
    (
        "unstale_recovered_writes_total",
        "a crash rarely hits a write that is open",
    ),
    (
        "unstale_subscription_repairs_total",
        "the subscription loses no more than messages",
    ),
    ("unstale_weight_bytes", "the service has no weigher"),
];

/// Lines that belong to a setting which the service does not use.
const UNUSED: [(&str, &str); 8] = [
    (
        "unstale_shared_reads_total",
        "the service has no shared tier",
    ),
    ("unstale_shared_stores_total", "as before"),
    ("unstale_shared_waits_total", "as before"),
    ("unstale_shared_trips_total", "as before"),
    ("unstale_shared_broken", "as before"),
    ("unstale_oversized_total", "it needs a weigher"),
    ("unstale_stale_if_error_total", "it is off"),
    ("unstale_stale_if_slow_total", "so is this"),
];

/// Metrics that only caches with an audit have, only caches that name a source, and only relays: the service has
/// none of these.
const ABSENT: [&str; 13] = [
    "unstale_audits_total",
    "unstale_audit_stale_total",
    "unstale_source_verified_age_seconds",
    "unstale_relay_state",
    "unstale_relay_lag_seconds",
    "unstale_relay_lag_bytes",
    "unstale_relay_commits_total",
    "unstale_relay_rows_total",
    "unstale_relay_unmapped_rows_total",
    "unstale_relay_events_total",
    "unstale_relay_marks_total",
    "unstale_relay_collapses_total",
    "unstale_relay_restarts_total",
];

/// Alerts whose expression must have had a result in this test; `for` and thresholds of minutes keep
/// the others from it, and alerts_test.yml shows those.
const SEEN: [&str; 4] = [
    "UnstaleFleetDisconnected",
    "UnstaleDisconnected",
    "UnstaleWritesAtRisk",
    "UnstaleMetricsMissing",
];

/// Reads and writes as long as the set lives: much of a little, a little of much, and what does not
/// exist. Errors are what an incident looks like from outside.
fn load(services: &[Arc<Service>]) -> JoinSet<()> {
    let mut load = JoinSet::new();
    for (index, service) in services.iter().enumerate() {
        let service = Arc::clone(service);
        load.spawn(async move {
            for turn in 0_u64.. {
                let id = fastrand::u64(..fastrand::u64(1..400));
                let id = if turn % 9 == 0 { 100_000 + id % 5 } else { id };
                let _ = service.get(id).await;
                if turn % 7 == 0 {
                    let balance = i64::try_from(turn).unwrap_or(0);
                    let _ = service.put(id % 400, "Ada", balance).await;
                }
                sleep(Duration::from_millis(4)).await;
            }
        });
        // Reads go on even while writes hang.
        let service = Arc::clone(&services[index]);
        load.spawn(async move {
            loop {
                let _ = service.get(fastrand::u64(..20)).await;
                sleep(Duration::from_millis(10)).await;
            }
        });
    }
    load
}

/// Waits until these say that they are coherent (200), or not (503).
async fn say(services: &[Arc<Service>], status: u16) {
    for service in services {
        let deadline = Instant::now() + PATIENCE;
        while !service.healthz().await.is_ok_and(|it| it.status == status) {
            assert!(Instant::now() < deadline, "never {status}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// How long anything may take that is only a matter of the machine, however slow it is.
const PATIENCE: Duration = Duration::from_secs(120);

/// What goes wrong, in turn; about 20 seconds.
async fn incident(fleet: &Fleet) {
    let pause = |seconds: f64| sleep(Duration::from_secs_f64(seconds));
    pause(4.0).await;
    fleet.proxies[1].drop_next(2);
    pause(1.5).await;
    fleet.proxies[1].set_both(Mode::Blackhole);
    pause(5.0).await;
    say(&fleet.services[1..2], 503).await;
    fleet.proxies[1].set_both(Mode::Pass);
    say(&fleet.services, 200).await;
    pause(2.5).await;
    block_in_place(|| fleet.redis.kill());
    pause(2.5).await;
    say(&fleet.services, 503).await;
    block_in_place(|| fleet.redis.restart());
    say(&fleet.services, 200).await;
    pause(3.0).await;
    fleet.services[0].kill();
    pause(2.5).await;
}

/// A Prometheus that has seen a time, and what the variables of a board are in it.
struct Seen {
    prometheus: Prometheus,
    /// When it began and ended, in seconds since 1970: every query is about the same time.
    time: Range<f64>,
    variables: BTreeMap<&'static str, String>,
}

impl Seen {
    fn fill(&self, expr: &str) -> String {
        // Three scrapes fit in, as Grafana would have it.
        let mut expr = expr.replace("$__rate_interval", "4s");
        let range = format!("{:.0}s", self.time.end - self.time.start);
        expr = expr.replace("$__range", &range);
        for (name, value) in &self.variables {
            expr = expr.replace(&format!("${name}"), value);
        }
        assert!(!expr.contains('$'), "{expr}");
        expr
    }

    /// All finite values, of all the time or of its end.
    async fn values(&self, expr: &str, instant: bool) -> Result<Vec<f64>, String> {
        let expr = self.fill(expr);
        let (start, now) = (self.time.start.to_string(), self.time.end.to_string());
        let data = if instant {
            let at = [("query", &*expr), ("time", &now)];
            self.prometheus.api("query", &at).await
        } else {
            let over = [
                ("query", &*expr),
                ("start", &start),
                ("end", &now),
                ("step", "1"),
            ];
            self.prometheus.api("query_range", &over).await
        };
        let data = data.map_err(|why| format!("{why}: {expr}"))?;
        let mut values = Vec::new();
        for series in items(&data, "/result") {
            let single = std::slice::from_ref(&series["value"]);
            let points = series["values"].as_array().map_or(single, Vec::as_slice);
            let texts = points.iter().map(|point| text(point, "/1"));
            values.extend(texts.filter_map(|text| text.parse::<f64>().ok()));
        }
        values.retain(|value| value.is_finite());
        Ok(values)
    }

    /// What is wrong with a target of a panel of this kind, if anything.
    async fn check(&self, kind: &str, target: &Value) -> Result<(), String> {
        let expr = text(target, "/expr");
        let instant = target["instant"] == true;
        let tile = kind == "stat";
        if tile && !instant {
            return Err("its last value may be an old one".to_owned());
        }
        let values = self.values(expr, instant).await?;
        let too_long = expr
            .rsplit_once("unstale_ttl_seconds")
            .and_then(|(_, rest)| rest.rsplit_once("> ")?.1.parse::<f64>().ok())
            .is_some_and(|le| le >= TTL);
        if too_long {
            return match values.is_empty() {
                true => Ok(()),
                false => Err("it is no shorter TTL, and yet shown".to_owned()),
            };
        }
        let expression = Expression::parse(expr)?;
        let mut names = expression.selectors.iter().map(|used| used.series.name());
        if values.is_empty() {
            let absent = names.all(|name| ABSENT.contains(&name));
            return absent.then_some(()).ok_or("no data".to_owned());
        }
        // A tile shows the present, in which little goes wrong: what it counts must have been there before.
        let values = match tile {
            true => self.values(expr, false).await?,
            false => values,
        };
        let quiet = names.any(|name| {
            let mut exempt = QUIET.iter().chain(&UNUSED);
            exempt.any(|(quiet, _)| *quiet == name)
        });
        let moved = values.iter().any(|value| *value > 0.0);
        let exempt = quiet && expression.selectors.len() == 1;
        if !moved && !exempt {
            return Err("nothing but 0".to_owned());
        }
        Ok(())
    }

    /// The variables of the board have the values that they should.
    async fn variables_of(&self, board: &Value) -> Vec<(String, Vec<String>)> {
        let mut found = Vec::new();
        for variable in items(board, "/templating/list") {
            let query = text(variable, "/query/query");
            let Some((selector, label)) = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')')?.rsplit_once(", "))
            else {
                continue;
            };
            let path = format!("label/{label}/values");
            let selector = self.fill(selector);
            let values = self.prometheus.api(&path, &[("match[]", &selector)]).await;
            let values = values.unwrap();
            let values = values.as_array().unwrap().iter();
            let values = values.map(|value| value.as_str().unwrap().to_owned());
            found.push((label.to_owned(), values.collect()));
        }
        found
    }
}

/// What is wrong with the rules, as Prometheus has them, if anything.
async fn check_rules(seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let data = seen.prometheus.api("rules", &[]).await.unwrap();
    let groups = items(&data, "/groups").iter();
    let rules: Vec<_> = groups.flat_map(|group| items(group, "/rules")).collect();
    assert!(rules.len() > 15, "{data}");
    for rule in rules {
        let name = text(rule, "/name");
        let recorded = text(rule, "/type") == "recording";
        if text(rule, "/health") != "ok" {
            wrong.push(format!("{name}: {rule}"));
        }
        let expr = if recorded { name } else { text(rule, "/query") };
        match seen.values(expr, false).await {
            Err(why) => wrong.push(format!("{name}: {why}")),
            Ok(values) if values.is_empty() && (recorded || SEEN.contains(&name)) => {
                wrong.push(format!("{name}: no data"));
            }
            Ok(_) => {}
        }
    }
    wrong
}

/// The estimates for other TTLs are in the order that they must have, and entries have expired: no bar
/// may fall back on what is measured now because its parts did not match.
async fn check_bars(seen: &Seen, board: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let panels = items(board, "/panels").iter();
    let bars: Vec<_> = panels.filter(|p| text(p, "/type") == "bargauge").collect();
    assert_eq!(bars.len(), 2);
    for panel in bars {
        let mut values = Vec::new();
        for target in items(panel, "/targets") {
            let value = seen.values(text(target, "/expr"), true).await.unwrap();
            values.extend(value);
        }
        let now = values.remove(0);
        let title = text(panel, "/title");
        let (ascending, last) = (values.is_sorted(), values[values.len() - 1]);
        let right = match title.ends_with("at least") {
            true => ascending && values[0] < now && last <= now,
            false => ascending && values[0] >= now && last > now,
        };
        if !right {
            wrong.push(format!("{title}: {now} now, {values:?}"));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_answers_every_query() {
    let settings = [
        ("UNSTALE_TTL", "3s"),
        ("UNSTALE_NEGATIVE_TTL", "1s"),
        ("UNSTALE_CAPACITY", "60"),
        ("UNSTALE_REFRESH_AHEAD", "0.8"),
        ("UNSTALE_AUDIT", "0.2"),
    ];
    let fleet = Fleet::start_with(3, &settings).await;
    let addresses: Vec<_> = fleet.services.iter().map(|s| s.address()).collect();
    let prometheus = Prometheus::start(&addresses, &folder().join("alerts.yml")).await;
    let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let started = now();
    let load = load(&fleet.services);
    incident(&fleet).await;
    drop(load);

    let every = ("job", ".*".to_owned());
    let others = [("cache", ".*".to_owned()), ("lane", ".*".to_owned())];
    let mut seen = Seen {
        prometheus,
        time: started..now(),
        variables: BTreeMap::from_iter([every].into_iter().chain(others)),
    };
    let mut wrong = check_rules(&seen).await;
    for (file, instance) in [("overview.json", ".*"), ("incident.json", addresses[1])] {
        seen.variables.insert("instance", instance.to_owned());
        let board = board(file);
        let mut all = addresses.clone();
        all.sort_unstable();
        for (label, values) in seen.variables_of(&board).await {
            let expected: &[&str] = match &*label {
                "instance" => &all,
                "lane" => &["0"],
                _ => &["accounts"],
            };
            assert_eq!(values, expected, "{label} of {file}");
        }
        let panels = items(&board, "/panels").iter();
        for panel in panels.filter(|panel| !is_row(panel)) {
            for target in items(panel, "/targets") {
                let kind = text(panel, "/type");
                if let Err(why) = seen.check(kind, target).await {
                    let (title, letter) = (text(panel, "/title"), text(target, "/refId"));
                    wrong.push(format!("{file}, {title}, {letter}: {why}"));
                }
            }
        }
        if file == "overview.json" {
            wrong.extend(check_bars(&seen, &board).await);
        }
        for mark in items(&board, "/annotations/list") {
            let expr = text(mark, "/expr");
            if !expr.is_empty() && seen.values(expr, false).await.unwrap().is_empty() {
                wrong.push(format!("{file}, {}: no data", text(mark, "/name")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
