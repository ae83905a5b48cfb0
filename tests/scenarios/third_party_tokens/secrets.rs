//! Two secrets under one corporation, and where neither may be seen.

use std::error::Error as _;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;
use unstale::{Instance, Outcome};

use super::third_party::{Client, ThirdParty};
use super::tokens::{Credentials, Shares, Tokens};
use super::{application, instance, recorded, third_party, until};
use testkit::leaks::{Seen, contents, monitor};
use testkit::redis::RedisServer;
use testkit::resp::Client as Admin;

const CORP: &str = "rawcorp-4711";
const BILLING: &str = "rawsecret-of-billing";
const SUPPORT: &str = "rawsecret-of-support";
const GUESSED: &str = "rawsecret-that-is-wrong";

/// Keeps every log line of one thread, which runs everything here.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Fleet {
    third_party: ThirdParty,
    a: (Instance, Tokens),
    b: (Instance, Tokens),
}

impl Fleet {
    async fn start(server: &RedisServer, dir: &std::path::Path) -> Self {
        let third_party = third_party(dir).await;
        let start = async || {
            let instance = instance(server).await;
            let client = Arc::new(Client::new(third_party.url()).unwrap());
            let tokens = Tokens::build(&instance, client, Shares::Fleet).unwrap();
            (instance, tokens)
        };
        let (a, b) = (start().await, start().await);
        recorded(server).await;
        Self { third_party, a, b }
    }

    async fn lookup(of: &(Instance, Tokens), credentials: &Credentials) -> (String, Outcome) {
        let found = of.1.cache().lookup(credentials).await.unwrap();
        (found.value.unwrap().reveal().to_owned(), found.outcome)
    }
}

/// Everything logged by the runtime of the test, which has this thread only.
#[tokio::test]
async fn scenario_tokens_of_two_secrets_are_two_and_neither_secret_is_seen() {
    let log = Sink::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("trace")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let (server, dir) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let commands = monitor(Admin::connect(server.port()));
    let fleet = Fleet::start(&server, dir.path()).await;
    let mut seen = Seen::default();
    two_entries(&fleet, &server, &mut seen).await;
    errors(&fleet, &server, &mut seen).await;
    for (instance, tokens) in [&fleet.a, &fleet.b] {
        seen.add("metrics", instance.metrics_text());
        let health = instance.health();
        let cache = tokens.cache();
        seen.add("debug", format!("{instance:?} {health:?} {cache:?}"));
    }
    seen.add("debug", format!("{:?}", application(CORP, BILLING)));
    seen.add("redis", contents(Admin::connect(server.port())));
    drop((fleet, server));
    seen.add("monitor", commands.join().unwrap());
    seen.add("log", log.0.lock().unwrap().clone());

    // It looked where something is.
    for (place, text) in [
        ("monitor", "us:{shop:0}v"),
        ("monitor", "token-1"),
        ("log", "unstale"),
        ("log", "lost the connection to Redis"),
        ("metrics", "unstale_hits_total{cache=\"tokens\"}"),
        ("redis", "us:{shop:0}j"),
        ("redis", "us:{shop:0}v"),
        ("errors", "503"),
        ("debug", CORP),
    ] {
        assert!(seen.count(place, text.as_bytes()) > 0, "{text} in {place}");
    }
    seen.assert_clean(&[BILLING, SUPPORT, GUESSED]);
    // And who the corporation is shows only where its own program prints it.
    for place in ["monitor", "log", "metrics", "redis", "errors"] {
        assert_eq!(seen.count(place, CORP.as_bytes()), 0, "{CORP} in {place}");
    }
}

/// Both applications of one corporation, on both instances: in memory, and in Redis.
async fn two_entries(fleet: &Fleet, server: &RedisServer, seen: &mut Seen) {
    let Fleet { third_party, a, b } = fleet;
    let (billing, support) = (application(CORP, BILLING), application(CORP, SUPPORT));
    third_party.register(&billing, r#""7200""#).unwrap();
    third_party.register(&support, "7200").unwrap();
    let mut tokens = Vec::new();
    for credentials in [&billing, &support] {
        let (token, outcome) = Fleet::lookup(a, credentials).await;
        assert_eq!(outcome, Outcome::Miss);
        let stored = tokens.len() + 1;
        until("it is in Redis", async || {
            let names = Admin::connect(server.port()).cmd(&["KEYS", "us:{shop:0}v*"]);
            names.array().len() == stored
        })
        .await;
        assert_eq!(
            Fleet::lookup(a, credentials).await,
            (token.clone(), Outcome::Hit)
        );
        let shared = Fleet::lookup(b, credentials).await;
        assert_eq!(shared, (token.clone(), Outcome::Tier));
        tokens.push(token);
    }
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(
        (a.1.cache().stats().entries, third_party.issued().unwrap()),
        (2, 2)
    );
    // One is rejected, the other stays.
    a.1.reject(&billing).await.unwrap();
    until("B hears of it", async || {
        Fleet::lookup(b, &billing).await.0 != tokens[0]
    })
    .await;
    assert_eq!(
        Fleet::lookup(b, &support).await,
        (tokens[1].clone(), Outcome::Hit)
    );
    let unknown = b.1.get(&application(CORP, GUESSED)).await.unwrap();
    assert!(unknown.is_none());
    seen.add("redis", contents(Admin::connect(server.port())));
}

/// The third party fails, and so does Redis.
async fn errors(fleet: &Fleet, server: &RedisServer, seen: &mut Seen) {
    let Fleet { third_party, a, .. } = fleet;
    let billing = application(CORP, BILLING);
    third_party.set_down(true);
    a.1.reject(&billing).await.unwrap();
    let error = a.1.get(&billing).await.unwrap_err();
    let source = error.source().unwrap();
    seen.add("errors", format!("{error} {error:?} {source} {source:?}"));
    third_party.set_down(false);
    server.kill();
    let error = a.1.reject(&billing).await.unwrap_err();
    seen.add("errors", format!("{error} {error:?}"));
    assert!(a.1.get(&billing).await.unwrap().is_some());
    sleep(Duration::from_millis(300)).await;
    server.restart();
    until("it is back", async || a.1.reject(&billing).await.is_ok()).await;
    assert!(a.1.get(&billing).await.unwrap().is_some());
}
