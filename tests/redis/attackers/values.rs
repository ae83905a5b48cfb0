//! A user who may read or write the shared tier, or all that the namespace has in Redis.

use std::time::Duration;

use unstale::{Instance, SharedTier};

use super::{SECRET, attacker};
use crate::support::nodes::Source;
use crate::support::over_redis::{settings, until};
use crate::support::sharing::Node;
use testkit::redis::RedisServer;
use testkit::resp::{Client, Value};

const READ: &[&str] = &["~us:{shop:0}v*", "+get"];
const WRITE: &[&str] = &["~us:{shop:0}v*", "+set"];
const ALL_KEYS: &[&str] = &["~us:{shop:0}*", "+dump", "+restore"];

const STATE: &str = "us:{shop:0}s";

const ROW: u64 = 1;
const OTHER: u64 = 42;

/// Eight bytes that nothing has by chance.
const VALUE: u64 = 0xdead_beef_0bad_cafe;

async fn node(server: &RedisServer, source: &Source, secret: Option<&str>) -> Node {
    let mut settings = settings(&server.url());
    settings.tier_timeout = Duration::from_secs(2);
    settings.ttl = Duration::from_secs(3_600);
    settings.signing_key = secret.map(str::to_owned);
    settings.tier_secret = secret.map(|_| "another secret of many bytes".to_owned());
    let instance = Instance::start(settings).await.unwrap();
    let node = Node::of(instance, source, SharedTier::new());
    let mut admin = Client::connect(server.port());
    until("the record", async || {
        admin.cmd(&["EXISTS", "us:{shop:0}r"]).text() == "1"
    })
    .await;
    node
}

/// The name of the one value that a load has stored.
async fn stored(server: &RedisServer, node: &Node) -> String {
    let mut admin = Client::connect(server.port());
    let mut names = Vec::new();
    until("it is stored", async || {
        // A store that took too long is given up: load again.
        if node.cache.invalidate(&ROW).await.is_err() {
            return false;
        }
        node.get(ROW).await;
        for _ in 0..100 {
            names = admin.cmd(&["KEYS", "us:{shop:0}v*"]).array().to_vec();
            if !names.is_empty() {
                return true;
            }
            tokio::time::sleep(super::ms(3)).await;
        }
        false
    })
    .await;
    names.pop().unwrap().text()
}

fn bytes(client: &mut Client, command: &[&str]) -> Vec<u8> {
    match client.cmd(command) {
        Value::Text(bytes) => bytes,
        other => unreachable!("{other:?}"),
    }
}

/// Reads keys, both columns: values are authenticated, not encrypted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_reads_keys_reads_values() {
    for secret in [None, Some(SECRET)] {
        let (server, source) = (RedisServer::start(), Source::default());
        source.set(ROW, VALUE);
        let node = node(&server, &source, secret).await;
        let name = stored(&server, &node).await;
        let mut reader = attacker(server.port(), READ);
        let value = bytes(&mut reader, &["GET", &name]);
        let clear = VALUE.to_be_bytes();
        assert!(value.windows(8).any(|window| window == clear), "{value:?}");
    }
}

/// Where a lane stands: its epoch and its sequence.
fn place(admin: &mut Client) -> [String; 2] {
    ["e", "q"].map(|field| admin.cmd(&["HGET", STATE, field]).text())
}

/// A value of the attacker's own making, as a fleet of its own stores it, whose Redis says that it is where
/// the other one is.
async fn made_up(target: &mut Client) -> (String, Vec<u8>, u64) {
    let own = RedisServer::start();
    let mut admin = Client::connect(own.port());
    let [epoch, sequence] = place(target);
    let life = admin.info("run_id") + &admin.info("master_replid");
    let state = ["e", &epoch, "q", &sequence, "r", &life];
    admin.cmd(&[&["HSET", STATE][..], &state].concat());
    let source = Source::default();
    source.set(ROW, VALUE);
    let node = node(&own, &source, None).await;
    let name = stored(&own, &node).await;
    let [same, sequence] = place(&mut admin);
    assert_eq!(same, epoch);
    let value = bytes(&mut admin, &["GET", &name]);
    (name, value, sequence.parse().unwrap())
}

/// Writes `v*`, unsigned: a reader takes it for a value that the source has given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_writes_values_forges_them_without_a_secret() {
    let (server, source) = (RedisServer::start(), Source::default());
    source.set(ROW, 10);
    let fleet = node(&server, &source, None).await;
    let mut admin = Client::connect(server.port());
    until("it is served", async || {
        let (name, value, at) = made_up(&mut admin).await;
        until("the lane is there", async || {
            let _ = fleet.cache.invalidate(&OTHER).await;
            place(&mut admin)[1].parse::<u64>().unwrap() >= at
        })
        .await;
        let mut writer = attacker(server.port(), WRITE);
        writer.cmd(&[b"SET", name.as_bytes(), &value]);
        // A question that takes too long is not waited for.
        let reader = node(&server, &source, None).await;
        reader.get(ROW).await == Some(VALUE)
    })
    .await;
}

/// Writes `v*`, signed: what is not the fleet's is no value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_values_are_missed_with_a_secret() {
    let (server, source) = (RedisServer::start(), Source::default());
    source.set(ROW, 10);
    let fleet = node(&server, &source, Some(SECRET)).await;
    let mut admin = Client::connect(server.port());
    let (_, value, _) = made_up(&mut admin).await;
    let reader = node(&server, &source, Some(SECRET)).await;
    until("it is looked at", async || {
        let name = stored(&server, &fleet).await;
        // All but the place of its load, which is the fleet's.
        let genuine = bytes(&mut admin, &["GET", &name]);
        let forged = [&genuine[..33], &value[33..]].concat();
        let mut writer = attacker(server.port(), WRITE);
        writer.cmd(&[b"SET", name.as_bytes(), &forged]);
        assert_eq!(reader.get(ROW).await, Some(10));
        reader.reads("foreign") > 0
    })
    .await;
}

/// Writes all of the namespace's keys, both columns: it puts back what they were, and an instance that was
/// not there meanwhile takes it for the truth.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_writes_every_key_gets_old_values_served() {
    for secret in [None, Some(SECRET)] {
        let (server, source) = (RedisServer::start(), Source::default());
        let mut admin = Client::connect(server.port());
        until("it is served", async || {
            source.set(ROW, 10);
            let first = node(&server, &source, secret).await;
            stored(&server, &first).await;
            let mut writer = attacker(server.port(), ALL_KEYS);
            let names = admin.cmd(&["KEYS", "us:{shop:0}*"]);
            let names: Vec<String> = names.array().iter().map(Value::text).collect();
            let mut dump = |name: &String| bytes(&mut writer, &["DUMP", name]);
            let then: Vec<Vec<u8>> = names.iter().map(&mut dump).collect();
            source.set(ROW, 11);
            let published = first.cache.invalidate(&ROW).await.is_ok();
            first.instance.shutdown().await.unwrap();
            for (name, value) in names.iter().zip(&then) {
                writer.cmd(&[b"RESTORE", name.as_bytes(), b"0", value, b"REPLACE"]);
            }
            let second = node(&server, &source, secret).await;
            let served = second.get(ROW).await;
            second.instance.shutdown().await.unwrap();
            published && served == Some(10)
        })
        .await;
    }
}
