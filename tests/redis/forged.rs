//! A tenant of the same Redis who may read and write the values of the shared tier, and has no secret.

use std::ops::Range;
use std::time::Duration;

use tokio::time::sleep;
use unstale::{Instance, SharedTier};

use crate::support::nodes::Source;
use crate::support::over_redis::{POLL, settings, until};
use crate::support::sharing::Node;
use testkit::redis::RedisServer;
use testkit::resp::{Client, Value};

/// What a value's head says, and where: see `bus/tier.rs`.
const EPOCH: Range<usize> = 1..9;
const SEQUENCE: Range<usize> = 9..17;
const BORN: Range<usize> = 17..25;
const EXPIRES: Range<usize> = 25..33;

const A_YEAR: u64 = 365 * 86_400_000;

async fn node(server: &RedisServer, source: &Source, secrets: [Option<&str>; 2]) -> Node {
    let mut settings = settings(&server.url());
    settings.tier_timeout = Duration::from_secs(2);
    let [secret, accepted] = secrets.map(|secret| secret.map(str::to_owned));
    (settings.tier_secret, settings.tier_secret_accepted) = (secret, accepted);
    let instance = Instance::start(settings).await.unwrap();
    Node::of(instance, source, SharedTier::new())
}

/// Writes the one value there is with that right alone; `0` looks around.
struct Tenant(Client, Client);

impl Tenant {
    fn of(server: &RedisServer) -> Self {
        let connect = || Client::connect(server.port());
        let (mut admin, mut tenant) = (connect(), connect());
        let rights = [
            "resetkeys",
            "resetchannels",
            "~us:{shop:*}v*",
            "-@all",
            "+set",
        ];
        let user = ["ACL", "SETUSER", "tenant", "on", ">pw"];
        admin.cmd(&user.into_iter().chain(rights).collect::<Vec<_>>());
        tenant.cmd(&["AUTH", "tenant", "pw"]);
        let refused = tenant.try_cmd(&["HGET", "us:{shop:0}s", "q"]).unwrap();
        assert!(matches!(refused, Value::Error(_)), "{refused:?}");
        Self(admin, tenant)
    }

    async fn waits_for_the_record(&mut self) {
        until("the record", async || {
            self.0.cmd(&["EXISTS", "us:{shop:0}r"]).text() == "1"
        })
        .await;
    }

    fn names(&mut self) -> Vec<String> {
        let names = self.0.cmd(&["KEYS", "us:{shop:0}v*"]);
        names.array().iter().map(Value::text).collect()
    }

    fn value(&mut self) -> Vec<u8> {
        let name = self.names().pop().expect("a value");
        let Value::Text(value) = self.0.cmd(&["GET", &name]) else {
            unreachable!("a value is text");
        };
        value
    }

    fn set(&mut self, value: &[u8]) {
        let name = self.names().pop().expect("a value");
        self.1.cmd(&[b"SET", name.as_bytes(), value, b"XX"]);
    }

    fn number(&mut self, field: &str) -> u64 {
        self.0
            .cmd(&["HGET", "us:{shop:0}s", field])
            .text()
            .parse()
            .unwrap()
    }

    /// Has an old value say that it was loaded just now and lives for a year.
    fn renew(&mut self, old: &[u8]) -> Vec<u8> {
        let mut value = old.to_vec();
        let now = self.0.cmd(&["TIME"]).array()[0]
            .text()
            .parse::<u64>()
            .unwrap()
            * 1_000;
        let fields = [
            (EPOCH, self.number("e")),
            (SEQUENCE, self.number("q")),
            (BORN, now),
            (EXPIRES, now + A_YEAR),
        ];
        for (place, number) in fields {
            value[place].copy_from_slice(&number.to_be_bytes());
        }
        value
    }
}

/// Row 1 is loaded by `node`, and its value is in Redis.
async fn stored(node: &Node) {
    let has = || node.stores("stored") + node.stores("unchanged");
    until("it is stored", async || {
        let before = has();
        if node.cache.invalidate(&1).await.is_err() {
            return false;
        }
        node.get(1).await;
        for _ in 0..100 {
            if has() > before {
                return true;
            }
            sleep(POLL).await;
        }
        false
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_value_can_claim_neither_a_newer_place_nor_a_longer_life() {
    let (server, source) = (RedisServer::start(), Source::default());
    let secret = [Some("a secret of sixteen bytes"), None];
    source.set(1, 10);
    let a = node(&server, &source, secret).await;
    let mut tenant = Tenant::of(&server);
    tenant.waits_for_the_record().await;
    stored(&a).await;
    let old = tenant.value();
    let b = node(&server, &source, secret).await;
    source.set(1, 11);
    // Its place; then only its end, which is a token that outlives itself.
    for round in 0..2 {
        let foreign = b.reads("foreign");
        until("B has looked at what was written", async || {
            stored(&a).await;
            let forged = match round {
                0 => tenant.renew(&old),
                _ => {
                    let mut value = tenant.value();
                    let end = u64::from_be_bytes(value[EXPIRES].try_into().unwrap());
                    value[EXPIRES].copy_from_slice(&(end + A_YEAR).to_be_bytes());
                    value
                }
            };
            tenant.set(&forged);
            assert_eq!(b.get(1).await, Some(11));
            b.reads("foreign") > foreign
        })
        .await;
    }
}

/// In each round an instance finds what one of the other round has stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_is_changed_without_a_second_tier() {
    let (old, new) = (
        Some("the old secret, of sixteen"),
        Some("the new secret, of sixteen"),
    );
    let rounds = [
        ([old, None], [old, new]),
        ([old, new], [new, old]),
        ([new, old], [old, new]),
        ([new, old], [new, None]),
    ];
    for (one, other) in rounds {
        let (server, source) = (RedisServer::start(), Source::default());
        source.set(1, 10);
        let a = node(&server, &source, one).await;
        let b = node(&server, &source, other).await;
        Tenant::of(&server).waits_for_the_record().await;
        until("B finds what A has loaded", async || {
            stored(&a).await;
            let found = b.reads("found");
            assert_eq!(b.get(1).await, Some(10));
            b.reads("found") > found
        })
        .await;
    }
    let (server, source) = (RedisServer::start(), Source::default());
    source.set(1, 10);
    let a = node(&server, &source, [old, None]).await;
    let b = node(&server, &source, [new, None]).await;
    Tenant::of(&server).waits_for_the_record().await;
    stored(&a).await;
    assert_eq!(b.get(1).await, Some(10));
    assert_eq!(b.reads("found"), 0, "in one step there are two tiers");
}
