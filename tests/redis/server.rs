//! A Redis that dies, stands still, or loses what it knew.

use std::time::Instant;

use tokio::task::block_in_place;
use unstale::{InstanceState, Outcome};

use super::watch::endure;
use super::{COUNTER, INTENTS, JOURNAL, MEMBERS, Node, Pair, fences, gaps, repairs, until};
use crate::support::nodes::ms;
use testkit::proxy::{Cut, Door};
use testkit::redis::RedisServer;

/// Both instances noticed that the lane began another life.
async fn new_epoch(pair: &Pair, fenced: [u64; 2]) {
    until("both adopt the new epoch", async || {
        fences(&pair.a, "epoch") > fenced[0] && fences(&pair.b, "epoch") > fenced[1]
    })
    .await;
}

fn epochs(pair: &Pair) -> [u64; 2] {
    [fences(&pair.a, "epoch"), fences(&pair.b, "epoch")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_empty_begins_another_epoch() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        let fenced = epochs(pair);
        pair.server.kill();
        pair.degraded().await;
        block_in_place(|| pair.server.restart());
        new_epoch(pair, fenced).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_at_once_begins_another_epoch() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        let fenced = epochs(pair);
        block_in_place(|| pair.server.restart());
        new_epoch(pair, fenced).await;
    })
    .await;
    assert!(gaps(&pair.b, "disconnected") > 0);
}

/// What the table of faults says of it: everything is loaded once more, and no more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_with_its_data_costs_the_source_every_entry_once() {
    const ROWS: u64 = 50;
    let saves = ["--appendonly", "yes", "--appendfsync", "always"];
    let pair = Pair::on(RedisServer::start_with(&saves)).await;
    // Some journal, for the counter to go on.
    for row in 0..ROWS {
        pair.change(row, 1).await;
    }
    let warm = async |node: &Node| {
        for row in 0..ROWS {
            until("it is read", async || node.cache.get(&row).await.is_ok()).await;
        }
    };
    let before = async |node: &Node| {
        warm(node).await;
        until("all is held", async || {
            (0..ROWS).all(|row| node.cache.peek(&row).is_some())
        })
        .await;
        all_fences(node)
    };
    let fenced = [before(&pair.a).await, before(&pair.b).await];
    let known = epochs(&pair);
    block_in_place(|| pair.server.restart());
    new_epoch(&pair, known).await;
    pair.pushed().await;
    until("both are coherent", async || {
        [&pair.a, &pair.b]
            .iter()
            .all(|node| node.instance.health().state == InstanceState::Coherent)
    })
    .await;
    let loads = pair.source.loads();
    warm(&pair.a).await;
    warm(&pair.b).await;
    let loaded = pair.source.loads() - loads;
    assert_eq!(epochs(&pair), known.map(|epochs| epochs + 1), "one each");
    // A machine that stands still for long has its clock drop everything, too.
    let others =
        [&pair.a, &pair.b].map(all_fences).iter().sum::<u64>() - fenced.iter().sum::<u64>() - 2;
    assert!(
        loaded <= (2 + others) * ROWS,
        "{loaded} loads of {ROWS} rows at two instances, which were fenced {others} times more"
    );
}

/// Fences of all causes.
fn all_fences(node: &Node) -> u64 {
    let text = node.instance.metrics_text();
    let fences = text
        .lines()
        .filter(|line| line.starts_with("unstale_fences_total{"));
    let count = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
    fences.filter_map(count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_that_goes_on_serves_nothing_stale() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        block_in_place(|| pair.server.stop());
        pair.degraded().await;
        pair.server.cont();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_asleep_for_longer_than_the_bound_serves_nothing_stale() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        pair.admin(&["DEBUG", "SLEEP", "0.7"]);
    })
    .await;
    pair.coherent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_server_begins_another_epoch() {
    let pair = Pair::start().await;
    for flush in ["FLUSHALL", "FLUSHDB"] {
        endure(&pair, async |pair| {
            let fenced = epochs(pair);
            pair.admin(&[flush]);
            new_epoch(pair, fenced).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_counter_begins_another_epoch() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        let fenced = epochs(pair);
        pair.admin(&["DEL", COUNTER]);
        new_epoch(pair, fenced).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_that_is_set_back_begins_another_epoch() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        // Within its epoch, as a snapshot of a machine that is reverted does: the next event finds its
        // place taken in the journal.
        let fenced = epochs(pair);
        pair.admin(&["HINCRBY", COUNTER, "q", "-5"]);
        new_epoch(pair, fenced).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_lost_with_messages_fences_the_lane() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        until("a gap that nothing fills", async || {
            pair.proxy.drop_next(2);
            pair.admin(&["DEL", JOURNAL]);
            fences(&pair.b, "gap") > 0
        })
        .await;
        pair.proxy.next_fates([]);
    })
    .await;
}

/// B has a row in memory, is cut off, and comes back when it was changed and Redis has lost
/// something. Nothing reads on B meanwhile, so only what B does on its way back can drop the row.
async fn away(lose: impl AsyncFnOnce(&Pair)) -> Pair {
    let pair = Pair::start().await;
    pair.change(1, 1).await;
    until("B hits", async || {
        pair.b.get(1).await == Some(1) && pair.b.outcome(1).await == Outcome::Hit
    })
    .await;
    pair.proxy.set_door(Door::Refuse).await;
    pair.proxy.cut(Cut::Rst);
    until("B is degraded", async || {
        pair.b.instance.health().state == InstanceState::Degraded
    })
    .await;
    pair.change(1, 2).await;
    lose(&pair).await;
    pair.proxy.set_door(Door::Open).await;
    let back = Instant::now();
    until("B has verified its lane again", async || {
        let age = pair.b.instance.health().verified_age[0];
        // A coarse clock lags by 10 ms at most.
        age.is_some_and(|age| age + ms(10) < back.elapsed())
    })
    .await;
    assert_eq!(pair.b.get(1).await, Some(2));
    pair.pushed().await;
    pair
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missed_events_come_from_the_journal() {
    let pair = away(async |_| {}).await;
    assert!(repairs(&pair.b, "repaired") > 0);
    assert_eq!(fences(&pair.b, "gap") + fences(&pair.b, "epoch"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missed_events_that_the_journal_no_longer_has_are_fenced() {
    let whole = away(async |pair| {
        pair.admin(&["DEL", JOURNAL]);
    });
    assert!(fences(&whole.await.b, "gap") > 0);
    // The older half is gone.
    let part = away(async |pair| {
        pair.change(2, 2).await;
        pair.admin(&["XTRIM", JOURNAL, "MAXLEN", "1"]);
    });
    assert!(fences(&part.await.b, "gap") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_life_of_the_counter_is_fenced() {
    let lost = away(async |pair| {
        pair.admin(&["DEL", COUNTER]);
        pair.change(2, 2).await;
    });
    assert!(fences(&lost.await.b, "epoch") > 0);
    let restarted = away(async |pair| {
        block_in_place(|| pair.server.restart());
        until("A is back", async || {
            pair.a.instance.health().state == InstanceState::Coherent
        })
        .await;
        pair.change(2, 2).await;
    });
    assert!(fences(&restarted.await.b, "epoch") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_members_and_intents_are_made_again() {
    let pair = Pair::start().await;
    for key in [MEMBERS, INTENTS] {
        endure(&pair, async |pair| {
            pair.admin(&["DEL", key]);
            until("it is made again", async || {
                pair.admin(&["EXISTS", key]) == "1"
            })
            .await;
        })
        .await;
    }
    assert_eq!(epochs(&pair), [0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_scripts_fail_no_publish() {
    let pair = Pair::start().await;
    endure(&pair, async |pair| {
        for _ in 0..5 {
            pair.admin(&["SCRIPT", "FLUSH"]);
            let published = pair.a.metric("unstale_events_published_total");
            until("events flow", async || {
                pair.a.metric("unstale_events_published_total") > published + 2
            })
            .await;
        }
    })
    .await;
    assert_eq!(pair.a.metric("unstale_publish_failures_total"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_evicted_for_memory_begin_another_epoch() {
    let pair = Pair::on(RedisServer::start_with(&[
        "--maxmemory-policy",
        "allkeys-random",
    ]))
    .await;
    endure(&pair, async |pair| {
        let fenced = epochs(pair);
        pair.admin(&["CONFIG", "SET", "maxmemory", "4mb"]);
        let junk = "for i = 1, 200 do redis.call('SET', ARGV[1] .. i, string.rep('x', 10000)) end";
        let mut round = 0;
        until("the counter is evicted", async || {
            round += 1;
            pair.admin(&["EVAL", junk, "0", &round.to_string()]);
            tokio::time::sleep(ms(10)).await;
            fences(&pair.a, "epoch") > fenced[0] && fences(&pair.b, "epoch") > fenced[1]
        })
        .await;
        pair.admin(&["CONFIG", "SET", "maxmemory", "0"]);
    })
    .await;
}
