//! API keys (`examples/api_keys`): a new key works everywhere at once, a revoked one nowhere, and
//! guesses cost the database what the limit allows.

#[path = "../../examples/api_keys/database.rs"]
mod database;
#[path = "../../examples/api_keys/keys.rs"]
mod keys;
#[path = "../../examples/api_keys/routes.rs"]
mod routes;

mod attack;
mod failing;
mod fleet;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use unstale::Settings;

use crate::support::fleet::{HEARD, by_events_alone};
use crate::wire::Mode;
use fleet::{Fleet, percentile};
use testkit::example::shows;

/// Instances of a fleet: A, B and C.
const INSTANCES: usize = 3;

/// Between two keys that are asked for before they exist. The cache allows fifty loads of unknown
/// keys a second: on a machine of any speed these are forty at most.
const UNKNOWN: Duration = Duration::from_millis(25);

/// Keys that exist from the start.
const KEYS: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_a_key_created_on_a_is_never_401_on_b() {
    let fleet = Fleet::start(INSTANCES, KEYS).await;
    let [a, b, c] = [0, 1, 2].map(|index| &fleet.keys[index]);
    let mut pace = interval(UNKNOWN);
    // A slow round is not made up for by fast ones.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0..300 {
        pace.tick().await;
        // B hears of it late in every other round: it would refuse from memory what it has heard of
        // before the key was made.
        let late = round % 2 == 0;
        fleet.wires[1].set(if late {
            Mode::Slow(Duration::from_millis(10))
        } else {
            Mode::Pass
        });
        let key = format!("sk-brought-along-{round}");
        assert_eq!(b.authenticate(&key).await.unwrap(), None);
        assert_eq!(c.authenticate(&key).await.unwrap(), None);
        a.register(&key, "ada").await.unwrap();
        for (name, keys) in [("B", b), ("C", c), ("A", a)] {
            let found = keys.authenticate(&key).await.unwrap();
            assert!(found.is_some(), "round {round}: 401 on {name}");
        }
    }
    // And over HTTP, as a client that has just received a key uses it.
    fleet.wires[1].set(Mode::Pass);
    let [at_a, at_b] = [fleet.serve(0).await, fleet.serve(1).await];
    for _ in 0..50 {
        let key = at_a.create("grace").await;
        assert_eq!(at_b.whoami(&key).await, (200, "grace".to_owned()));
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_requests_with_one_unknown_key_are_one_load() {
    let fleet = Fleet::start(INSTANCES, KEYS).await;
    let b = &fleet.keys[1];
    let mut requests = JoinSet::new();
    for _ in 0..10 {
        let b = b.clone();
        requests.spawn(async move { b.authenticate("sk-mistyped").await });
    }
    for answer in requests.join_all().await {
        assert_eq!(answer.unwrap(), None);
    }
    assert_eq!(fleet.databases[1].asked().absent.load(SeqCst), 1);
    for _ in 0..20 {
        assert_eq!(b.authenticate("sk-mistyped").await.unwrap(), None);
    }
    let loads = fleet.databases[1].asked().absent.load(SeqCst);
    assert!(loads <= 2, "{loads} loads of one bad key");
    assert_eq!(
        fleet.metric(1, r#"loads_total{cache="api_keys",outcome="absent"}"#),
        loads
    );
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_a_key_revoked_on_a_is_refused_on_b_by_its_event() {
    let mut settings = Settings::default();
    by_events_alone(&mut settings);
    let fleet = Fleet::with(INSTANCES, KEYS, settings).await;
    let mut late = Vec::new();
    for key in fleet.good.iter().take(200) {
        for keys in &fleet.keys {
            assert!(keys.authenticate(key).await.unwrap().is_some());
        }
        let began = Instant::now();
        assert!(fleet.keys[0].revoke(key).await.unwrap());
        for keys in &fleet.keys[1..] {
            while keys.authenticate(key).await.unwrap().is_some() {
                assert!(began.elapsed() < HEARD, "it was not heard of");
                sleep(Duration::from_millis(1)).await;
            }
        }
        late.push(began.elapsed());
    }
    let [half, p99] = [50, 99].map(|part| percentile(&mut late, part));
    eprintln!("revoked on A, refused on B and C: p50 {half:?}, p99 {p99:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_with_the_bus_cut_a_revoked_key_is_refused_within_max_staleness() {
    let fleet = Fleet::start(INSTANCES, KEYS).await;
    let b = &fleet.keys[1];
    let bound = fleet.max_staleness();
    let mut accepted = 0;
    for key in fleet.good.iter().take(3) {
        assert!(b.authenticate(key).await.unwrap().is_some());
        fleet.wires[1].set(Mode::Silent);
        assert!(fleet.keys[0].revoke(key).await.unwrap());
        let published = Instant::now();
        loop {
            let asked = Instant::now();
            if b.authenticate(key).await.unwrap().is_none() {
                break;
            }
            // A hit is answered at once, a load may take its time.
            assert!(
                asked <= published + bound,
                "accepted after {:?}",
                asked - published
            );
            accepted += 1;
            sleep(Duration::from_millis(5)).await;
        }
        fleet.wires[1].set(Mode::Pass);
        fleet.until_coherent(1).await;
    }
    assert!(accepted > 0, "B was not cut off");
    fleet.stop().await;
}

#[tokio::test]
async fn scenario_the_program_api_keys_shows_it() {
    let lines = [
        "warm:    B holds 1000 keys",
        "created: on A; B says Some(\"ada\")",
        "bad key: 20 times; 1 query",
        "guesses: 10,000 at once; fewer than 1,000 queries: true",
        "         and the good key is still Some(\"ada\")",
        "revoked: on A; B refuses it within its bound of 2 s: true",
    ];
    shows("api_keys", &[], &[], &lines).await;
}
