//! OIDC sessions: one refresh per token in the whole fleet, and revocations that arrive.

#[path = "../../examples/oidc_sessions/database.rs"]
mod database;
#[path = "../../examples/oidc_sessions/provider.rs"]
mod provider;
#[path = "../../examples/oidc_sessions/sessions.rs"]
mod sessions;

mod at_once;
mod revoked;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use unstale::{ErrorKind, Instance, Outcome, Settings};

use crate::support::fleet::{Admin, NAMESPACE, counted_by_all, metric, until};
use database::{Database, Session};
use provider::{Provider, Refusal};
use sessions::Sessions;
use testkit::example::shows;
use testkit::redis::RedisServer;

/// How long an exchange takes upstream.
const LATENCY: Duration = Duration::from_millis(200);

const SECOND: Duration = Duration::from_secs(1);

struct Gateway {
    instance: Instance,
    sessions: Arc<Sessions>,
}

impl Gateway {
    fn reads(&self, cache: &str, outcome: &str) -> u64 {
        self.shared("reads", cache, outcome)
    }

    fn shared(&self, what: &str, cache: &str, outcome: &str) -> u64 {
        let series =
            format!("unstale_shared_{what}_total{{cache=\"{cache}\",outcome=\"{outcome}\"}}");
        metric(&self.instance, &series)
    }
}

/// Two gateways, each with a connection of its own to the one database.
struct Fleet {
    a: Gateway,
    b: Gateway,
    provider: Provider,
    server: RedisServer,
    _folder: TempDir,
}

impl Fleet {
    async fn start() -> Self {
        Self::with(LATENCY, &[]).await
    }

    /// With these variables of the environment.
    async fn with(latency: Duration, variables: &[(&str, &str)]) -> Self {
        let (server, folder) = (RedisServer::start(), TempDir::with_prefix("oidc-").unwrap());
        let provider = Provider::new(latency);
        let url = server.url();
        let own = [
            ("UNSTALE_REDIS_URL", &*url),
            ("UNSTALE_NAMESPACE", NAMESPACE),
        ];
        let variables = own.iter().chain(variables);
        let variables = variables.map(|(name, value)| (name.to_string(), value.to_string()));
        let settings = Sessions::settings(Settings::from_vars(variables).unwrap());
        let start = async || {
            let database = Database::open(folder.path().join("sessions.db"))
                .await
                .unwrap();
            let instance = Instance::start(settings.clone()).await.unwrap();
            let sessions = Sessions::new(&instance, &provider, &database).unwrap();
            Gateway {
                instance,
                sessions: Arc::new(sessions),
            }
        };
        Self {
            a: start().await,
            b: start().await,
            provider,
            server,
            _folder: folder,
        }
    }

    /// Waits until the lane has a record: what is loaded before that is not stored.
    async fn recorded(&self) {
        let mut admin = Admin::connect(&self.server);
        let record = format!("us:{{{NAMESPACE}:0}}r");
        until("the record", async || {
            admin.cmd(&["EXISTS", &record]).text() == "1"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_fifty_callers_of_one_refresh_token_are_one_call_upstream() {
    let fleet = Fleet::start().await;
    // At once after the start, and then a hundred tokens more.
    for round in 1..=20 {
        let token = fleet.provider.login("ada");
        let mut callers = JoinSet::new();
        for n in 0..50 {
            let gateway = if n % 2 == 0 { &fleet.a } else { &fleet.b };
            let (sessions, token) = (gateway.sessions.clone(), token.clone());
            callers.spawn(async move { sessions.refresh(&token).await.unwrap() });
        }
        let mut all = Vec::new();
        while let Some(refreshed) = callers.join_next().await {
            all.push(refreshed.unwrap().value.unwrap());
        }
        // Typed, and the same for every caller: what the provider gave to the one that asked.
        assert_eq!(all.len(), 50);
        assert!(all.iter().all(|tokens| *tokens == all[0]));
        assert_ne!(all[0].refresh, token);
        assert_eq!(fleet.provider.calls("refresh"), round, "calls upstream");
    }
    let found = |gateway: &Gateway| {
        gateway.shared("waits", "refreshes", "found") + gateway.reads("refreshes", "found")
    };
    let found = found(&fleet.a) + found(&fleet.b);
    assert!(found >= 10, "{found} of 20 came from the other instance");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_a_refresh_is_shared_for_five_seconds_and_no_longer() {
    let fleet = Fleet::start().await;
    // A machine that is so slow that the five seconds pass between two steps shows nothing.
    for _ in 0..20 {
        if shared_for_five_seconds(&fleet).await {
            return;
        }
    }
    unreachable!("five seconds always passed between two steps");
}

/// Returns whether all was looked at before the five seconds had passed.
async fn shared_for_five_seconds(fleet: &Fleet) -> bool {
    let token = fleet.provider.login("ada");
    let calls = fleet.provider.calls("refresh");
    let began = Instant::now();
    let in_time = || began.elapsed() < 5 * SECOND;
    let first = fleet.a.sessions.refresh(&token).await.unwrap();
    let ended = Instant::now();
    assert_eq!(first.outcome, Outcome::Miss);
    sleep(SECOND).await;
    let second = fleet.b.sessions.refresh(&token).await;
    if !in_time() {
        return false;
    }
    let second = second.unwrap();
    assert_eq!(second.outcome, Outcome::Tier);
    assert_eq!(second.value, first.value);
    assert!(second.age >= SECOND, "{:?}", second.age);
    assert_eq!(fleet.provider.calls("refresh"), calls + 1);
    // On both until then; afterwards the provider is asked, and refuses what was used before.
    sleep((began + Duration::from_millis(4_500)).saturating_duration_since(Instant::now())).await;
    for gateway in [&fleet.a, &fleet.b] {
        let again = gateway.sessions.refresh(&token).await;
        if !in_time() {
            return false;
        }
        let again = again.unwrap();
        assert_eq!(again.value, first.value);
    }
    sleep((ended + Duration::from_millis(5_100)).saturating_duration_since(Instant::now())).await;
    for (gateway, more) in [(&fleet.a, 2), (&fleet.b, 3)] {
        assert_eq!(refused(gateway, &token).await, Refusal::InvalidGrant);
        assert_eq!(fleet.provider.calls("refresh"), calls + more);
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_an_error_is_not_shared_and_every_caller_may_try_again() {
    // Long enough for B to come before A has failed.
    let fleet = Fleet::with(2 * SECOND, &[]).await;
    fleet.recorded().await;
    let token = fleet.provider.login("ada");
    fleet.provider.fail_next();
    // B waits for what A has begun, which fails; then it tries itself, and A has its value.
    let (a, token_of_a) = (fleet.a.sessions.clone(), token.clone());
    let failing = tokio::spawn(async move { a.refresh(&token_of_a).await });
    until("A has asked", async || fleet.provider.calls("refresh") == 1).await;
    let mine = fleet.b.sessions.refresh(&token).await.unwrap();
    assert_eq!(mine.outcome, Outcome::Miss);
    let error = failing.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
    assert_eq!(fleet.provider.calls("refresh"), 2);
    assert_eq!(fleet.b.shared("waits", "refreshes", "led"), 1);
    until("B's is stored", async || {
        fleet.b.shared("stores", "refreshes", "stored") == 1
    })
    .await;
    let theirs = fleet.a.sessions.refresh(&token).await.unwrap();
    assert_eq!((theirs.outcome, theirs.value), (Outcome::Tier, mine.value));
    assert_eq!(fleet.provider.calls("refresh"), 2);
    // Nor is it remembered where it happened.
    let token = fleet.provider.login("bob");
    fleet.provider.fail_next();
    assert_eq!(refused(&fleet.a, &token).await, Refusal::Unavailable);
    assert_eq!(
        fleet.a.sessions.refresh(&token).await.unwrap().outcome,
        Outcome::Miss
    );
}

/// Why the provider refused.
async fn refused(gateway: &Gateway, token: &str) -> Refusal {
    let error = gateway.sessions.refresh(token).await.unwrap_err();
    let source = std::error::Error::source(&error).expect("the provider's own error");
    *source.downcast_ref::<Refusal>().expect("as it was")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_caches_have_their_own_sizes_and_ttls_and_are_closed_twice_without_harm() {
    let variables = [
        ("UNSTALE_CACHES__SESSIONS__TTL", "90s"),
        ("UNSTALE_CACHES__KEYS__CAPACITY", "300"),
    ];
    let fleet = Fleet::with(Duration::ZERO, &variables).await;
    let caches = [
        ("refreshes", 10_000, 5),
        ("tokens", 5_000, 300),
        ("blacklist", 20_000, 60),
        ("introspections", 20_000, 30),
        ("sessions", 10_000, 90),
        ("metadata", 50, 3_600),
        ("keys", 300, 3_600),
    ];
    for (name, capacity, ttl) in caches {
        let of = |series: &str| metric(&fleet.a.instance, &format!("{series}{{cache=\"{name}\"}}"));
        let has = (of("unstale_capacity_entries"), of("unstale_ttl_seconds"));
        assert_eq!(has, (capacity, ttl), "{name}");
    }
    // What is too much for one is nothing to the others.
    let sessions = &fleet.a.sessions;
    for n in 0..500 {
        let issuer = format!("https://{n}.example");
        let metadata = sessions.metadata(&issuer).await.unwrap().unwrap();
        assert_eq!(metadata.issuer, issuer);
        assert!(
            sessions
                .genuine(&format!("access-{n}"), "key")
                .await
                .unwrap()
        );
    }
    let entries = |cache| {
        metric(
            &fleet.a.instance,
            &format!("unstale_entries{{cache=\"{cache}\"}}"),
        )
    };
    assert!(entries("metadata") <= 50, "{}", entries("metadata"));
    assert_eq!((entries("tokens"), entries("keys")), (500, 1));

    let ada = Session {
        id: "session-1".to_owned(),
        subject: "ada".to_owned(),
    };
    sessions.begin(ada.clone()).await.unwrap();
    assert_eq!(
        fleet.b.sessions.session("session-1").await.unwrap(),
        Some(ada.clone())
    );
    for _ in 0..2 {
        fleet.a.instance.shutdown().await.unwrap();
        fleet.b.instance.shutdown().await.unwrap();
    }
    // Reads go to the source, and writes say that they were not made.
    assert_eq!(
        sessions.session("session-1").await.unwrap(),
        Some(ada.clone())
    );
    assert!(sessions.begin(ada).await.is_err());
    fleet.a.instance.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_a_hit_costs_no_network_call() {
    const HITS: u64 = 10_000;
    // Longer than any machine needs for them.
    let variables = [
        ("UNSTALE_CACHES__REFRESHES__TTL", "1h"),
        ("UNSTALE_CACHES__BLACKLIST__TTL", "1h"),
    ];
    let fleet = Fleet::with(LATENCY, &variables).await;
    let sessions = &fleet.b.sessions;
    let token = fleet.provider.login("ada");
    let mine = sessions.refresh(&token).await.unwrap();
    assert!(sessions.allowed("token").await.unwrap());
    let instances = [&fleet.a.instance, &fleet.b.instance];
    let own = ["publish", "deliver", "repair", "intent", "shared"];
    until("what was loaded is stored", async || {
        fleet.b.shared("stores", "refreshes", "stored") == 1
    })
    .await;
    let mut admin = Admin::connect(&fleet.server);
    // Everything that clients send is among these; scripts call none of them.
    let commands = [
        "evalsha",
        "eval",
        "script|load",
        "ping",
        "subscribe",
        "publish",
    ];
    let before = (admin.calls(&commands), counted_by_all(instances, &own));
    let began = Instant::now();
    for n in 0..HITS / 2 {
        let hit = sessions.refresh(&token).await.unwrap();
        assert_eq!(hit.outcome, Outcome::Hit);
        assert!(sessions.allowed("token").await.unwrap());
        // Over a second or so: what hits asked for in the background would have been answered.
        if n % 20 == 0 {
            sleep(Duration::from_millis(3)).await;
        }
    }
    let took = began.elapsed();
    let calls = admin.calls(&commands) - before.0;
    let after = counted_by_all(instances, &own);
    assert_eq!(mine.value, sessions.refresh(&token).await.unwrap().value);
    // Each instance verifies twice a second, hits or none, and may ask for a sign of life every 10 s; at
    // either end one may be counted more.
    let times = |interval: u64| took.as_millis() as u64 / interval + 2;
    let idle = 2 * (times(500) + times(10_000));
    println!("{HITS} hits in {took:?}: {calls} commands, idle instances send {idle} at most");
    assert!(calls <= idle, "{calls} commands in {took:?}");
    assert_eq!(after, before.1, "nothing but what idle instances send");
    assert_eq!(
        metric(&fleet.b.instance, "unstale_hits_total{cache=\"refreshes\"}"),
        HITS / 2 + 1
    );
}

#[tokio::test]
async fn scenario_the_oidc_sessions_show_what_they_say() {
    let lines = [
        "50 panels, 1 call upstream, 1 next token",
        "a second later: 1 call upstream, the same token: true",
        "one fails: true; the other tries again: true",
        "the other gateway knows the session of ada",
        "https://login.example/token says it is active: true; genuine: true",
        "allowed: true; revoked, All notified; allowed: false",
        "closed twice",
    ];
    shows("oidc_sessions", &[], &[], &lines).await;
    let server = RedisServer::start();
    let url = server.url();
    shows("oidc_sessions", &[], &[("UNSTALE_REDIS_URL", &url)], &lines).await;
}
