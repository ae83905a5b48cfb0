//! A stranger publishes on the lane's channel: nothing worse happens than loads too many.

use std::time::Instant;

use unstale::Outcome;

use super::watch::endure;
use super::{CHANNEL, COUNTER, MAX_STALENESS, POLL, Pair, dropped, gaps, until};
use crate::support::nodes::{Node, ms};

/// Publishes ARGV: an epoch's and a sequence's distance from the present ones, and a payload in hex.
const FORGE: &str = "local head = redis.call('HMGET', KEYS[1], 'e', 'q') \
    local raw = string.gsub(ARGV[3], '..', function(hex) return string.char(tonumber(hex, 16)) end) \
    return redis.call('PUBLISH', ARGV[4], \
        struct.pack('>I8I8I4', head[1] + ARGV[1], head[2] + ARGV[2], #raw) .. raw)";

/// Publishes the payload, in hex, of ARGV without any header, so many times over.
const RAW: &str = "local raw = string.gsub(ARGV[1], '..', function(hex) \
    return string.char(tonumber(hex, 16)) end) \
    return redis.call('PUBLISH', ARGV[2], string.rep(raw, ARGV[3]))";

/// Publishes a part of the journal's last event in the place of the next one.
const TRUNCATE: &str = "local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1][2][2] \
    local head = redis.call('HMGET', KEYS[1], 'e', 'q') \
    local part = string.sub(last, 1, #last * ARGV[1]) \
    return redis.call('PUBLISH', ARGV[2], struct.pack('>I8I8I4', head[1], head[2] + 1, #part) .. part)";

/// The journal's last event once more, as a writer published it before a message was a list of events.
const OLD: &str = "local payload = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1][2][2] \
    local epoch, sequence = redis.call('HGET', KEYS[1], 'e'), redis.call('HINCRBY', KEYS[1], 'q', 1) \
    redis.call('XADD', KEYS[2], string.format('%.0f-0', sequence), 'e', payload) \
    return redis.call('PUBLISH', ARGV[1], struct.pack('>I8I8', epoch, sequence) .. payload)";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn noise(longest: usize) -> Vec<u8> {
    (0..fastrand::usize(..longest))
        .map(|_| fastrand::u8(..))
        .collect()
}

fn forge(pair: &Pair, epoch: i64, sequence: i64, payload: &[u8]) {
    let (epoch, sequence) = (epoch.to_string(), sequence.to_string());
    let heard = pair.admin(&[
        "EVAL",
        FORGE,
        "1",
        COUNTER,
        &epoch,
        &sequence,
        &hex(payload),
        CHANNEL,
    ]);
    assert_eq!(heard, "2", "both instances listen");
}

fn raw(pair: &Pair, payload: &[u8], times: u32) {
    let times = times.to_string();
    pair.admin(&["EVAL", RAW, "0", &hex(payload), CHANNEL, &times]);
}

/// How often this instance did not take a message as it came.
fn counted(node: &Node) -> u64 {
    let reasons = [
        "duplicate",
        "other_epoch",
        "not_adopted",
        "undecodable",
        "refused",
        "replayed",
    ];
    let causes = ["sequence", "epoch", "garbled"];
    reasons
        .map(|reason| dropped(node, reason))
        .iter()
        .sum::<u64>()
        + causes.map(|cause| gaps(node, cause)).iter().sum::<u64>()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_of_all_kinds_while_events_flow_hides_no_event() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        let before = counted(&pair.b);
        for round in 0..200 {
            match round % 5 {
                0 => raw(pair, &noise(400), 1),
                1 => forge(pair, 0, fastrand::i64(-1_000..1_000), &noise(100)),
                2 => forge(
                    pair,
                    fastrand::i64(-9..9),
                    fastrand::i64(-9..9),
                    &noise(100),
                ),
                3 => {
                    let part = fastrand::f64().to_string();
                    pair.admin(&[
                        "EVAL",
                        TRUNCATE,
                        "2",
                        COUNTER,
                        super::JOURNAL,
                        &part,
                        CHANNEL,
                    ]);
                }
                // Well formed, of an epoch that never was.
                _ => forge(pair, 1, 1, &NOTHING),
            }
        }
        raw(pair, &[0xdb], 1_024 * 1_024);
        until("it was noticed", async || counted(&pair.b) >= before + 200).await;
    })
    .await;
}

/// A well-formed event of a stranger that names nothing: version 1, `[7, 0, []]`.
const NOTHING: [u8; 5] = [1, 0x93, 7, 0, 0x90];

/// Nonsense in the place of an event that is yet to come must not make that one look old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_with_the_next_sequence_hides_no_event() {
    let pair = Pair::start().await;
    for ahead in [1, 2, 50] {
        pair.change(1, 1).await;
        until("B has the first", async || pair.b.get(1).await == Some(1)).await;
        let before = counted(&pair.b);
        forge(&pair, 0, ahead, b"\xc1nonsense");
        until("it is noticed", async || counted(&pair.b) > before).await;
        // The old value is in memory again if it was dropped.
        until("B hits", async || pair.b.outcome(1).await == Outcome::Hit).await;
        pair.change(1, 2).await;
        let published = Instant::now();
        loop {
            let began = published.elapsed();
            if pair.b.get(1).await == Some(2) {
                break;
            }
            assert!(
                began <= MAX_STALENESS + ms(10),
                "{ahead}: stale after {began:?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }
    pair.pushed().await;
}

/// A message of an earlier version beside those of this one: it is refused, its lane is dropped, and the
/// journal has its event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_of_an_earlier_version_drops_the_lane_and_no_event_is_lost() {
    let pair = Pair::start().await;
    pair.change(7, 0).await;
    for round in 1..4 {
        until("B has what was before", async || {
            pair.b.get(7).await == Some(2 * round - 2)
        })
        .await;
        let before = gaps(&pair.b, "garbled");
        pair.source.set(7, 2 * round - 1);
        pair.admin(&["EVAL", OLD, "2", COUNTER, super::JOURNAL, CHANNEL]);
        until("it is noticed", async || gaps(&pair.b, "garbled") > before).await;
        until("B has what the old writer wrote", async || {
            pair.b.get(7).await == Some(2 * round - 1)
        })
        .await;
        pair.change(7, 2 * round).await;
    }
    pair.pushed().await;
}
