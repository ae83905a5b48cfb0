//! The table of SECURITY.md, cell by cell: a user of the fleet's Redis who has one right and nothing
//! else, against a fleet without secrets and one that has them.

#[cfg(feature = "shared")]
mod values;

use std::process::{Command, Stdio};

use tokio::task::block_in_place;
use tokio::time::sleep;
use unstale::{InstanceState, Outcome, Settings};

use super::{
    CHANNEL, COUNTER, INTENTS, JOURNAL, OPEN, Pair, dropped, fences, misses, node, one_event,
    renewed, until,
};
use crate::support::nodes::{Node, Source, ms};
use crate::support::over_redis::POLL;
use testkit::redis::RedisServer;
use testkit::resp::{Client, Value};

const SECRET: &str = "a signing key of many bytes";

/// The row that is read, and another one.
const ROW: u64 = 1;
const OTHER: u64 = 42;

/// The publish script, as SOURCES puts it together.
const PUBLISH: &str = concat!(
    include_str!("../../src/bus/redis/lua/lane.lua"),
    include_str!("../../src/bus/redis/lua/publish.lua")
);

const LISTEN: &[&str] = &["&us:{shop:0}e0", "+subscribe"];
const SAY: &[&str] = &["&us:{shop:0}e0", "+publish"];
const LISTEN_AND_SAY: &[&str] = &["&us:{shop:0}e0", "+subscribe", "+publish"];
const RUN_THE_SCRIPT: &[&str] = &[
    "~us:{shop:0}s",
    "~us:{shop:0}j",
    "&us:{shop:0}e0",
    "+evalsha",
    "+hget",
    "+hmget",
    "+hincrby",
    "+xadd",
    "+publish",
];

/// Two instances over a row that is there.
async fn fleet(settings: impl Fn(&str) -> Settings) -> Pair {
    let pair = Pair::with(RedisServer::start(), settings).await;
    pair.source.set(ROW, 1);
    pair
}

fn open(url: &str) -> Settings {
    super::settings(url)
}

fn signed(url: &str) -> Settings {
    signed_with(url, SECRET)
}

fn signed_with(url: &str, secret: &str) -> Settings {
    let mut settings = super::settings(url);
    settings.signing_key = Some(secret.to_owned());
    settings
}

/// A connection of a user who has these rights and no other.
fn attacker(port: u16, rights: &[&str]) -> Client {
    let mut admin = Client::connect(port);
    let nothing = ["reset", "on", ">pw", "-@all"];
    let user = ["ACL", "SETUSER", "attacker"];
    admin.cmd(&[&user[..], &nothing, rights].concat());
    let mut attacker = Client::connect(port);
    attacker.cmd(&["AUTH", "attacker", "pw"]);
    for [command, name] in [["KEYS", "*"], ["FLUSHALL", "ASYNC"], ["HGETALL", COUNTER]] {
        let refused = attacker.try_cmd(&[command, name]).unwrap();
        assert!(matches!(refused, Value::Error(_)), "{command}: {refused:?}");
    }
    attacker
}

fn listener(port: u16, rights: &[&str]) -> Client {
    let mut listener = attacker(port, rights);
    listener.cmd(&["SUBSCRIBE", CHANNEL]);
    listener
}

/// An event as it came: where it stands, and what it says.
struct Event {
    epoch: u64,
    sequence: u64,
    payload: Vec<u8>,
}

/// The next message of the channel.
fn hear(listener: &mut Client) -> Event {
    let push = block_in_place(|| listener.read().expect("a message in time"));
    let [_, _, Value::Text(message)] = push.array() else {
        unreachable!("{push:?}");
    };
    let number = |at: usize| u64::from_be_bytes(message[at..at + 8].try_into().unwrap());
    Event {
        epoch: number(0),
        sequence: number(8),
        payload: message[20..].to_vec(),
    }
}

fn say(attacker: &mut Client, epoch: u64, sequence: u64, payload: &[u8]) {
    let message = one_event(epoch, sequence, payload);
    let heard = attacker.cmd(&[b"PUBLISH", CHANNEL.as_bytes(), &message]);
    assert!(heard.int().is_some(), "{heard:?}");
}

async fn hits(node: &Node) {
    until("it hits", async || {
        node.get(ROW).await == node.get(ROW).await && node.outcome(ROW).await == Outcome::Hit
    })
    .await;
}

/// An event of A for a row, as a listener hears it. A sends again what is acknowledged too late.
async fn event_of(pair: &Pair, row: u64) -> Event {
    let mut tap = listener(pair.server.port(), LISTEN);
    pair.change(row, 1).await;
    hear(&mut tap)
}

/// The hash of a key, as a fleet of the attacker's own has it: the end of an event without a signature.
async fn hash_of(own: &Pair, key: u64) -> [u8; 8] {
    let event = event_of(own, key).await;
    *event.payload.last_chunk().unwrap()
}

fn has(message: &[u8], hash: [u8; 8]) -> bool {
    message.windows(8).any(|window| window == hash)
}

/// SUBSCRIBE, both columns: keys that can be guessed are no secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_can_test_guesses_of_short_keys() {
    let own = fleet(open).await;
    for settings in [open, signed] {
        let pair = fleet(settings).await;
        let heard = event_of(&pair, OTHER).await;
        assert!(has(&heard.payload, hash_of(&own, OTHER).await));
        assert!(!has(&heard.payload, hash_of(&own, OTHER + 1).await));
    }
}

/// SUBSCRIBE, signed: whether a secret is the one is tried on an instance of the attacker's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_can_test_guesses_of_a_weak_secret() {
    let pair = fleet(|url| signed_with(url, "password-2024-01")).await;
    let heard = event_of(&pair, ROW).await;
    for (guess, right) in [("password-2023-12", false), ("password-2024-01", true)] {
        let own = RedisServer::start();
        let instance = node(signed_with(&own.url(), guess), &Source::default()).await;
        let mut out = Client::connect(own.port());
        let number = |field| out.cmd(&["HGET", COUNTER, field]).text().parse::<u64>();
        let [epoch, sequence] = ["e", "q"].map(number).map(Result::unwrap);
        say(&mut out, epoch, sequence + 1, &heard.payload);
        let believed = || instance.metric("unstale_events_applied_total") == 1;
        let refused = || dropped(&instance, "refused") == 1;
        until("it is judged", async || believed() || refused()).await;
        assert_eq!((believed(), refused()), (right, !right));
    }
}

/// PUBLISH, unsigned: one message of nonsense, and a lane loads again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_makes_an_unsigned_fleet_load_again_as_often_as_it_likes() {
    let pair = fleet(open).await;
    let mut out = attacker(pair.server.port(), SAY);
    for _ in 0..5 {
        hits(&pair.b).await;
        let loads = pair.source.loads();
        out.cmd(&["PUBLISH", CHANNEL, "x"]);
        until("it loads again", async || {
            pair.b.get(ROW).await;
            pair.source.loads() > loads
        })
        .await;
    }
    assert!(fences(&pair.b, "undecodable") > 0);
}

/// PUBLISH, unsigned: it takes an event's place, and no instance hears the event's own message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_hides_an_event_that_no_unsigned_instance_hears_until_the_ttl() {
    // Version 1, `[7, 0, []]`: an event that names nothing.
    const NOTHING: [u8; 5] = [1, 0x93, 7, 0, 0x90];
    let ttl = ms(6_000);
    let (server, source) = (RedisServer::start(), Source::default());
    let proxy = testkit::proxy::Proxy::start(server.port()).await;
    let mut settings = open(&proxy.url());
    settings.ttl = ttl;
    let only = node(settings, &source).await;
    let mut out = attacker(server.port(), LISTEN_AND_SAY);
    let mut admin = Client::connect(server.port());
    let received = || only.metric("unstale_events_received_total");
    let hidden = async || {
        source.set(ROW, 1);
        assert!(drops_the_row(&server));
        until("it has the first", async || only.get(ROW).await == Some(1)).await;
        hits(&only).await;
        let mut number = |field| admin.cmd(&["HGET", COUNTER, field]).text().parse().unwrap();
        let (epoch, sequence): (u64, u64) = (number("e"), number("q"));
        let before = received();
        say(&mut out, epoch, sequence + 1, &NOTHING);
        until("it is heard", async || received() > before).await;
        proxy.drop_next(1);
        source.set(ROW, 2);
        assert!(drops_the_row(&server), "it is acknowledged");
        let verified = only.metric("unstale_verifications_total{outcome=\"ok\"}");
        until("it has verified since", async || {
            only.get(ROW).await;
            only.metric("unstale_verifications_total{outcome=\"ok\"}") > verified + 2
        })
        .await;
        let stale = only.get(ROW).await == Some(1);
        until("the TTL ends it", async || only.get(ROW).await == Some(2)).await;
        // On a busy machine an instance doubts more, and drops more.
        stale
    };
    until("an event is hidden", hidden).await;
}

/// `unstale invalidate` of the row. Whether it is acknowledged.
fn drops_the_row(server: &RedisServer) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unstale"));
    command.env_clear().args(["invalidate", "rows", "1"]);
    command.env("UNSTALE_REDIS_URL", server.url());
    command.env("UNSTALE_NAMESPACE", "shop");
    let output = block_in_place(|| command.stdin(Stdio::null()).output().unwrap());
    output.status.success()
}

/// PUBLISH, signed: nothing that it can make is believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_is_ignored_and_counted_by_a_signed_fleet() {
    let pair = fleet(signed).await;
    let place = event_of(&pair, OTHER).await;
    let unsigned = event_of(&fleet(open).await, ROW).await;
    let mut out = attacker(pair.server.port(), SAY);
    hits(&pair.b).await;
    let fenced = fences(&pair.b, "undecodable");
    let invalidated = misses(&pair.b, "invalidated");
    out.cmd(&["PUBLISH", CHANNEL, "x"]);
    say(&mut out, place.epoch, place.sequence + 1, b"nonsense");
    say(&mut out, place.epoch, place.sequence + 1, &unsigned.payload);
    until("all are refused", async || dropped(&pair.b, "refused") >= 2).await;
    hits(&pair.b).await;
    assert_eq!(fences(&pair.b, "undecodable"), fenced);
    assert_eq!(misses(&pair.b, "invalidated"), invalidated);
}

/// SUBSCRIBE and PUBLISH, unsigned: an event that was heard once is replayed, and each time it drops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_publishes_replays_events_to_an_unsigned_fleet() {
    let pair = fleet(open).await;
    let event = event_of(&pair, ROW).await;
    let mut out = attacker(pair.server.port(), LISTEN_AND_SAY);
    for _ in 0..5 {
        hits(&pair.b).await;
        let (loads, mut ahead) = (pair.source.loads(), 0);
        // Its row is dropped, or its whole lane where the place is believed less than the event.
        until("it loads again", async || {
            ahead += 1;
            let number = |field| pair.admin(&["HGET", COUNTER, field]).parse::<u64>();
            let [epoch, sequence] = ["e", "q"].map(number).map(Result::unwrap);
            say(&mut out, epoch, sequence + ahead, &event.payload);
            pair.b.get(ROW).await;
            pair.source.loads() > loads
        })
        .await;
    }
}

/// Plays an event once, so many places ahead. Returns whether it has dropped the row that the instance hits.
async fn plays(pair: &Pair, node: &Node, out: &mut Client, event: &Event, ahead: u64) -> bool {
    hits(node).await;
    let invalidated = misses(node, "invalidated");
    // By now the lane may have another life, in which the old place means nothing.
    let number = |field| pair.admin(&["HGET", COUNTER, field]).parse::<u64>();
    let [epoch, sequence] = ["e", "q"].map(number).map(Result::unwrap);
    say(out, epoch, sequence + ahead, &event.payload);
    for _ in 0..200 {
        node.get(ROW).await;
        if misses(node, "invalidated") > invalidated {
            return true;
        }
        sleep(POLL).await;
    }
    false
}

/// Plays an event until it has dropped the row: again where the machine was busy, further ahead where the
/// place was taken by the time before.
async fn played(pair: &Pair, node: &Node, out: &mut Client, event: &Event) {
    let mut ahead = 0;
    until("the row is dropped", async || {
        ahead += 1;
        plays(pair, node, out, event, ahead).await
    })
    .await;
}

/// SUBSCRIBE and PUBLISH, signed: once for each event from before an instance's start, then never.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_publishes_replays_an_event_once_to_an_instance_that_is_younger() {
    let pair = fleet(signed).await;
    let event = event_of(&pair, ROW).await;
    let mut out = attacker(pair.server.port(), LISTEN_AND_SAY);
    until("a younger instance believes it once", async || {
        let younger = node(signed(&pair.server.url()), &pair.source).await;
        if !plays(&pair, &younger, &mut out, &event, 1).await {
            return false;
        }
        let replayed = dropped(&younger, "replayed");
        for ahead in 2..7 {
            assert!(!plays(&pair, &younger, &mut out, &event, ahead).await);
        }
        dropped(&younger, "replayed") > replayed
    })
    .await;
}

/// SUBSCRIBE and PUBLISH, signed: what a peer publishes for a writer that has gone carries no number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_publishes_replays_the_event_of_a_finished_write_as_often_as_it_likes() {
    let pair = fleet(signed).await;
    let writer = node(signed(&pair.server.url()), &pair.source).await;
    let write = writer.clone();
    tokio::spawn(async move {
        let commit = std::future::pending::<Result<(), std::io::Error>>();
        let _ = write.cache.write(&ROW, commit).await;
    });
    until("it has begun", async || {
        pair.admin(&["EVAL", OPEN, "1", INTENTS]) == "1"
    })
    .await;
    let mut tap = listener(pair.server.port(), LISTEN_AND_SAY);
    writer.instance.shutdown().await.unwrap();
    let event = hear(&mut tap);
    let mut out = attacker(pair.server.port(), LISTEN_AND_SAY);
    for _ in 0..5 {
        played(&pair, &pair.b, &mut out, &event).await;
    }
}

/// Runs the publish script as it is, with a payload of the attacker's own.
fn run(attacker: &mut Client, sha: &str, payload: &[u8]) {
    let args: [&[u8]; 8] = [
        b"EVALSHA",
        sha.as_bytes(),
        b"2",
        COUNTER.as_bytes(),
        JOURNAL.as_bytes(),
        b"e0",
        b"10000",
        payload,
    ];
    let answer = attacker.cmd(&args);
    assert_eq!(answer.array().len(), 5, "{answer:?}");
}

/// The publish script, unsigned: what it says is an event like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_runs_the_script_drops_anything_of_an_unsigned_fleet() {
    let pair = fleet(open).await;
    let event = event_of(&pair, ROW).await;
    let sha = pair.admin(&["SCRIPT", "LOAD", PUBLISH]);
    let mut out = attacker(pair.server.port(), RUN_THE_SCRIPT);
    for _ in 0..5 {
        hits(&pair.b).await;
        let invalidated = misses(&pair.b, "invalidated");
        run(&mut out, &sha, &event.payload);
        until("the row is dropped", async || {
            pair.b.get(ROW).await;
            misses(&pair.b, "invalidated") > invalidated
        })
        .await;
    }
}

/// The publish script, signed: the lane is dropped whole, nothing stale is served, and the
/// subscription is left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_runs_the_script_drops_whole_lanes_of_a_signed_fleet() {
    let pair = fleet(signed).await;
    let sha = pair.admin(&["SCRIPT", "LOAD", PUBLISH]);
    let mut out = attacker(pair.server.port(), RUN_THE_SCRIPT);
    pair.change(ROW, 1).await;
    until("B has it", async || pair.b.get(ROW).await == Some(1)).await;
    for round in 0..3 {
        let fenced = fences(&pair.b, "undecodable");
        run(&mut out, &sha, b"\x01an event of a writer without the key");
        until("the lane is dropped", async || {
            pair.b.get(OTHER).await;
            fences(&pair.b, "undecodable") > fenced
        })
        .await;
        pair.change(ROW, 2 + round).await;
        until("B follows", async || {
            pair.b.get(ROW).await == Some(2 + round)
        })
        .await;
    }
    assert_eq!(renewed(&pair.b, "reconnect"), 0);
}

/// Rights in another namespace, both columns: scripts that do not end stop the one thread for all. No
/// instance serves what it cannot prove fresh, and all go on once an operator has ended the script.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_loads_scripts_in_another_namespace_stops_every_fleet() {
    for settings in [open, signed] {
        let server = RedisServer::start_with(&["--busy-reply-threshold", "50"]);
        let pair = Pair::with(server, settings).await;
        pair.source.set(ROW, 1);
        let rights = fleet_rights("other");
        let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
        let mut tenant = attacker(pair.server.port(), &rights);
        let sha = tenant.cmd(&["SCRIPT", "LOAD", "while true do end"]).text();
        tenant.send(&["EVALSHA", &sha, "0"]).unwrap();
        pair.degraded().await;
        pair.source.set(ROW, 7);
        assert_eq!(pair.b.get(ROW).await, Some(7), "nothing stale is served");
        assert!(pair.b.cache.invalidate(&ROW).await.is_err());
        assert_eq!(pair.admin(&["SCRIPT", "KILL"]), "OK");
        pair.coherent().await;
        assert_eq!(pair.b.instance.health().state, InstanceState::Coherent);
    }
}

/// What deploy/redis/users.acl gives a fleet, for another namespace.
fn fleet_rights(namespace: &str) -> Vec<String> {
    let users = include_str!("../../deploy/redis/users.acl");
    let line = users.lines().find(|line| line.starts_with("user unstale "));
    let rights = line.unwrap().split(' ').skip(4).map(str::to_owned);
    let named = |right: String| right.replace("{default:", &format!("{{{namespace}:"));
    rights.map(named).collect()
}
