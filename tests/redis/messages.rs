//! Messages that do not arrive, or not as they were sent, on connections that stay healthy.

use unstale::Outcome;

use super::watch::endure;
use super::{
    CHANNEL, MAX_STALENESS, Pair, VERIFY_INTERVAL, dropped, fences, gaps, renewed, repairs, until,
};
use crate::support::nodes::ms;
use testkit::proxy::{Direction, Fate, Mode};

/// B has a value of row 1 in memory.
async fn warm() -> Pair {
    let pair = Pair::start().await;
    pair.change(1, 1).await;
    until("B hits", async || {
        // What happens to messages from now on must not happen to this one.
        pair.b.metric("unstale_events_received_total") == 1
            && pair.b.get(1).await == Some(1)
            && pair.b.outcome(1).await == Outcome::Hit
    })
    .await;
    pair
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_message_is_repaired_from_the_journal_by_the_next_one() {
    let pair = warm().await;
    let fenced = fences(&pair.b, "gap");
    pair.proxy.drop_next(1);
    pair.change(1, 2).await;
    pair.change(2, 2).await;
    until("B follows", async || pair.b.get(1).await == Some(2)).await;
    assert_eq!(pair.proxy.counts().dropped, 1);
    until("a repair", async || repairs(&pair.b, "repaired") > 0).await;
    assert!(gaps(&pair.b, "sequence") + gaps(&pair.b, "silent") > 0);
    assert_eq!(fences(&pair.b, "gap"), fenced);
    assert_eq!(pair.b.get(1).await, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_message_lost_is_repaired_by_a_verification() {
    let pair = warm().await;
    pair.proxy.drop_next(1);
    pair.change(1, 2).await;
    let published = std::time::Instant::now();
    loop {
        let began = published.elapsed();
        if pair.b.get(1).await == Some(2) {
            break;
        }
        assert!(began <= MAX_STALENESS + ms(10), "stale after {began:?}");
        tokio::time::sleep(super::POLL).await;
    }
    until("a silent gap", async || gaps(&pair.b, "silent") > 0).await;
    until("a repair", async || repairs(&pair.b, "repaired") > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doubled_messages_are_applied_once() {
    let pair = warm().await;
    let applied = pair.b.metric("unstale_events_applied_total");
    pair.proxy.next_fates([Fate::Duplicate]);
    pair.change(1, 2).await;
    until("the double", async || dropped(&pair.b, "duplicate") == 1).await;
    assert_eq!(pair.b.metric("unstale_events_applied_total"), applied + 1);
    assert_eq!(gaps(&pair.b, "sequence"), 0);
    assert_eq!(pair.b.get(1).await, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_doubled_and_swapped_messages_are_repaired_under_traffic() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        pair.proxy.filter(|_| match fastrand::u8(..5) {
            0 => Fate::Drop,
            1 => Fate::Duplicate,
            2 => Fate::Swap,
            _ => Fate::Pass,
        });
        until("all kinds of damage", async || {
            let counts = pair.proxy.counts();
            counts.dropped.min(counts.duplicated).min(counts.swapped) > 10
        })
        .await;
        pair.proxy.next_fates([]);
    })
    .await;
    assert!(gaps(&pair.b, "sequence") > 0);
    assert!(repairs(&pair.b, "repaired") > 0);
    assert_eq!(fences(&pair.b, "gap"), 0, "the journal had them all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deaf_subscription_is_repaired_and_the_journal_is_read_meanwhile() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        pair.proxy.filter(|_| Fate::Drop);
        until("both kinds of renewal", async || {
            renewed(&pair.b, "resubscribe") > 0 && renewed(&pair.b, "reconnect") > 0
        })
        .await;
        pair.proxy.next_fates([]);
    })
    .await;
    assert!(gaps(&pair.b, "silent") > 0);
    assert!(repairs(&pair.b, "repaired") > 0);
    assert_eq!(fences(&pair.b, "gap"), 0, "the journal had them all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deaf_subscription_is_renewed_first_and_its_connection_then() {
    let pair = warm().await;
    let subscribed = || {
        pair.admin(&["INFO", "commandstats"])
            .contains(THREE_SUBSCRIBED)
    };
    let connections = pair.proxy.accepted();
    pair.proxy.filter(|_| Fate::Drop);
    pair.change(1, 2).await;
    until("B subscribes again", async || {
        pair.b.get(1).await;
        subscribed()
    })
    .await;
    assert_eq!(pair.proxy.accepted(), connections);
    // Nothing tells B whether that has helped before further events are missing.
    until("B connects again", async || {
        pair.change(1, 3).await;
        tokio::time::sleep(VERIFY_INTERVAL).await;
        pair.proxy.accepted() > connections
    })
    .await;
    pair.proxy.next_fates([]);
    pair.pushed().await;
}

/// A, B, and B once more.
const THREE_SUBSCRIBED: &str = "cmdstat_subscribe:calls=3,";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_cut_off_for_its_output_buffer_comes_back() {
    let pair = Pair::start().await;
    let limit = "pubsub 32768 0 0";
    pair.admin(&["CONFIG", "SET", "client-output-buffer-limit", limit]);
    let keys: Vec<u64> = (1_000..2_000).collect();
    endure(&pair, async |pair| {
        pair.proxy.set(Direction::ToClient, Mode::Stall);
        // Until the kernel's buffers are full, and then Redis's own.
        let subscribers = || pair.admin(&["EVAL", SUBSCRIBERS, "0", CHANNEL]);
        let flood = async || {
            for _ in 0..50 {
                let _ = pair.a.cache.invalidate_many(&keys).await;
            }
            subscribers() == "1"
        };
        until("Redis cuts B off", flood).await;
        pair.proxy.set(Direction::ToClient, Mode::Pass);
    })
    .await;
    assert!(gaps(&pair.b, "disconnected") > 0);
}

const SUBSCRIBERS: &str = "return redis.call('PUBSUB', 'NUMSUB', ARGV[1])[2]";
