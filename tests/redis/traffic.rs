//! What instances send: the byte counters say what Redis says, and idle instances hardly speak.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use unstale::{InstanceState, Settings};

use super::{Pair, node, settings, until};
use crate::support::nodes::{Node, Source};
use testkit::redis::RedisServer;
use testkit::resp::Client;

/// Sent and received, all kinds together.
fn counted(node: &Node) -> [u64; 2] {
    ["sent", "received"].map(|way| {
        [
            "publish", "deliver", "verify", "repair", "intent", "shared", "connect",
        ]
        .iter()
        .map(|kind| node.metric(&format!("unstale_bus_{way}_bytes_total{{kind=\"{kind}\"}}")))
        .sum()
    })
}

/// What Redis has read and written, the question included in the next answer only.
fn redis(admin: &mut Client) -> [u64; 2] {
    let text = admin.cmd(&["INFO", "stats"]).text();
    ["total_net_input_bytes:", "total_net_output_bytes:"].map(|field| {
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        line.expect("INFO stats has it").parse().unwrap()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_byte_counters_agree_with_redis() {
    let pair = Pair::start().await;
    let third = node(settings(&pair.server.url()), &pair.source).await;
    let nodes = [&pair.a, &pair.b, &third];
    let mut admin = Client::connect(pair.server.port());
    let (first, second) = (redis(&mut admin), redis(&mut admin));
    let question = [second[0] - first[0], second[1] - first[1]];
    let before = nodes.map(counted);
    for n in 0..1_000_u64 {
        let keys: Vec<u64> = (0..n % 50).collect();
        let many = pair.a.cache.invalidate_many(&keys);
        let one = pair.b.cache.invalidate(&n);
        let (many, one) = tokio::join!(many, one);
        many.unwrap();
        one.unwrap();
        if n % 10 == 0 {
            let commit = async { Ok::<_, std::io::Error>(()) };
            third.cache.write(&n, commit).await.unwrap();
        }
    }
    until("everything is delivered", async || {
        let published = "unstale_events_published_total";
        let sum: u64 = nodes.iter().map(|node| node.metric(published)).sum();
        let received = |node: &&Node| node.metric("unstale_events_received_total");
        nodes.iter().all(|node| received(node) == sum)
    })
    .await;
    let after = nodes.map(counted);
    let theirs = redis(&mut admin);
    assert!(pair.a.metric("unstale_events_received_total") > 2_000);
    for way in 0..2 {
        let ours: u64 = (0..3)
            .map(|node| after[node][way] - before[node][way])
            .sum();
        let theirs = theirs[way] - second[way] - question[way];
        assert!(
            ours.abs_diff(theirs) * 20 <= theirs,
            "{way}: counted {ours}, Redis {theirs}"
        );
    }
}

/// How often clients have sent these commands; scripts call none of them.
fn calls(admin: &mut Client, commands: &[&str]) -> u64 {
    let text = admin.cmd(&["INFO", "commandstats"]).text();
    let count = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let calls = rest.split(',').next()?.parse::<u64>().ok()?;
        commands.contains(&name).then_some(calls)
    };
    text.lines().filter_map(count).sum()
}

#[tokio::test]
async fn an_idle_instance_sends_its_verifications_and_seldom_a_ping() {
    let server = RedisServer::start();
    let mut settings = Settings::default();
    settings.redis_url = Some(server.url());
    let (half, keepalive) = (settings.member_timeout / 2, settings.keepalive);
    let idle = node(settings, &Source::default()).await;
    assert_eq!(idle.instance.health().state, InstanceState::Coherent);
    let mut admin = Client::connect(server.port());
    // At first it verifies at the full rate.
    until("it is idle", async || {
        let before = calls(&mut admin, &["evalsha"]);
        sleep(half * 3 / 5).await;
        calls(&mut admin, &["evalsha"]) == before
    })
    .await;
    let other = ["subscribe", "script|load"];
    let count = |admin: &mut Client| {
        let kinds: [&[&str]; 3] = [&["evalsha"], &["ping"], &other];
        kinds.map(|kind| calls(admin, kind))
    };
    let began = Instant::now();
    let before = count(&mut admin);
    // Longer than any pause after which a connection might be checked.
    sleep(half * 5 / 2).await;
    let after = count(&mut admin);
    let [beats, pings, others] = [0, 1, 2].map(|kind| after[kind] - before[kind]);
    let most = |interval: Duration| (began.elapsed().as_millis() / interval.as_millis() + 1) as u64;
    let beats_in = 1..=most(half);
    assert!(
        beats_in.contains(&beats),
        "{beats} verifications of {beats_in:?}"
    );
    // The pings of the subscription, which is silent otherwise.
    assert!(pings <= most(keepalive), "{pings} pings");
    assert_eq!(others, 0, "other commands");
}
