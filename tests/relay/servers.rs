//! What happens to Redis, to PostgreSQL and to whole tables: each under load, judged from the commit.

use std::time::Duration;

use testkit::resp::Client;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use super::judge::{ACCOUNTS, MOVED, UNTOUCHED, rows};
use super::report::Phase;
use super::rig::Way;
use super::trial::{LONG, Reads, Scene, trial};
use crate::support::nodes::ms;

/// More rows than the relay keeps names of (262,144): the transaction drops the whole cache.
const MANY: i64 = 300_000;

async fn answered(name: &str, fault: impl AsyncFnOnce(&mut Scene)) -> Phase {
    trial(name, Way::Straight, Reads::Answered, fault).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_holds_while_redis_is_killed_and_restarted() {
    answered("Redis killed", async |scene| {
        scene.rig.redis.kill();
        sleep(LONG).await;
        block_in_place(|| scene.rig.redis.restart());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_holds_while_redis_is_flushed() {
    answered("Redis flushed", async |scene| {
        for _ in 0..3 {
            block_in_place(|| Client::connect(scene.rig.redis.port()).cmd(&["FLUSHALL"]));
            sleep(ms(1_000)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_holds_while_postgres_crashes_and_comes_back() {
    let crash = async |scene: &mut Scene| {
        scene.rig.postgres.kill();
        sleep(LONG / 2).await;
        scene.rig.postgres.restart().await;
        scene.relay.until_says("is opened again").await;
    };
    // Only what is served is judged while there is no database.
    trial("PostgreSQL crashed", Way::Straight, Reads::MayFail, crash).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_holds_while_postgres_is_restarted_in_order() {
    let restart = async |scene: &mut Scene| {
        scene.rig.postgres.restart().await;
        scene.relay.until_says("is opened again").await;
    };
    trial(
        "PostgreSQL restarted",
        Way::Straight,
        Reads::MayFail,
        restart,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_holds_while_a_transaction_changes_very_many_rows() {
    answered("very many rows", async |scene| {
        let judge = &scene.judge.shared;
        let more = format!(
            "INSERT INTO accounts SELECT n, 'many', 1, 1 FROM generate_series({ACCOUNTS}, {MANY}) n"
        );
        judge.change(&more, |_| {}).await;
        let before = Instant::now();
        let version = judge.versions(1);
        let all = format!("UPDATE accounts SET balance = {version} WHERE id < {UNTOUCHED}");
        judge
            .change(&all, |all| {
                all.values_mut()
                    .flatten()
                    .for_each(|state| *state = version);
            })
            .await;
        eprintln!("{MANY} rows were changed in {:.1?}", before.elapsed());
        sleep(LONG).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_holds_while_a_table_is_truncated_and_filled_again() {
    answered("truncated", async |scene| {
        let judge = &scene.judge.shared;
        for _ in 0..2 {
            judge
                .change("TRUNCATE accounts", |all| {
                    all.values_mut().for_each(|state| *state = None);
                })
                .await;
            sleep(LONG / 2).await;
            let version = judge.versions(1);
            let filled = |(id, state): (&i64, &mut Option<i64>)| {
                *state = (*id < ACCOUNTS).then_some(version);
            };
            judge
                .change(&rows(version), |all| all.iter_mut().for_each(filled))
                .await;
            sleep(LONG / 2).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_holds_while_keys_change_and_change_back() {
    answered("keys changed", async |scene| {
        let judge = &scene.judge.shared;
        let there = format!("UPDATE accounts SET id = id + {MOVED} WHERE id < {ACCOUNTS}");
        let back = format!("UPDATE accounts SET id = id - {MOVED} WHERE id >= {MOVED}");
        for _ in 0..3 {
            for (sql, from, to) in [(&there, 0, MOVED), (&back, MOVED, 0)] {
                judge
                    .change(sql, |all| {
                        for id in 0..ACCOUNTS {
                            let moved = all.insert(from + id, None).flatten();
                            all.insert(to + id, moved);
                        }
                    })
                    .await;
                sleep(Duration::from_secs(1)).await;
            }
        }
    })
    .await;
}

/// No row of the log says it: the event trigger does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_holds_while_columns_with_a_default_are_added() {
    answered("a column added", async |scene| {
        let judge = &scene.judge.shared;
        for _ in 0..2 {
            let version = judge.versions(1);
            let add = format!(
                "ALTER TABLE accounts DROP COLUMN balance, ADD COLUMN balance bigint NOT NULL DEFAULT {version}"
            );
            judge
                .change(&add, |all| {
                    all.values_mut()
                        .flatten()
                        .for_each(|state| *state = version);
                })
                .await;
            sleep(LONG).await;
        }
    })
    .await;
}
