//! Entries that are no longer asked for are freed, and closing twice does no harm.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use unstale::Instance;

use super::database::User;
use super::{Fleet, Options};

fn short_lived(reap: Option<Duration>) -> Options {
    Options {
        ttl: Duration::from_millis(5),
        reap,
        ..Options::default()
    }
}

/// Loads a hundred users and keeps none of them.
async fn load(fleet: &Fleet) -> Vec<Weak<User>> {
    let mut loaded = Vec::new();
    for id in 0..100 {
        fleet.users[0].set_role(id, "guest").await.unwrap();
    }
    for id in 0..100 {
        let user = fleet.users[0].get(id).await.unwrap().unwrap();
        loaded.push(Arc::downgrade(&user));
    }
    loaded
}

fn alive(users: &[Weak<User>]) -> usize {
    users.iter().filter(|user| user.strong_count() > 0).count()
}

/// How long what has ended may stay; some milliseconds, the rest is for a slow machine.
const FREED: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_an_entry_whose_life_has_ended_is_gone_from_memory_though_it_is_not_read() {
    let reap = Some(Duration::from_millis(20));
    let fleet = Fleet::start(1, short_lived(reap)).await;
    let loaded = load(&fleet).await;
    let ended = Instant::now();
    while alive(&loaded) > 0 || fleet.metric(0, r#"unstale_entries{cache="users"}"#) > 0 {
        assert!(ended.elapsed() < FREED, "{} are alive", alive(&loaded));
        sleep(Duration::from_millis(5)).await;
    }
    let reaped = fleet.metric(0, r#"unstale_reaped_total{cache="users"}"#);
    assert!(reaped >= 100, "{reaped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_without_the_reaper_entries_stay_until_room_is_needed() {
    let fleet = Fleet::start(1, short_lived(None)).await;
    let loaded = load(&fleet).await;
    sleep(Duration::from_millis(400)).await;
    assert_eq!(alive(&loaded), 100);
    assert_eq!(fleet.metric(0, r#"unstale_reaped_total{cache="users"}"#), 0);
    // But they are served no longer.
    let queries = fleet.database.queries();
    fleet.users[0].get(1).await.unwrap();
    assert_eq!(fleet.database.queries(), queries + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_closing_is_idempotent_and_the_memory_is_freed() {
    let fleet = Fleet::start(2, Options::default()).await;
    let loaded = load(&fleet).await;
    assert_eq!(alive(&loaded), 100);
    let instance: &Instance = &fleet.instances[0];
    let (first, second) = tokio::join!(instance.shutdown(), instance.shutdown());
    first.unwrap();
    second.unwrap();
    instance.shutdown().await.unwrap();
    let refused = fleet.users[0].set_role(7, "guest").await.unwrap_err();
    assert!(refused.to_string().contains("shut down"), "{refused}");
    // The other instance goes on.
    fleet.users[1].set_role(7, "guest").await.unwrap();
    let Fleet {
        users, instances, ..
    } = fleet;
    drop((users, instances));
    let dropped = Instant::now();
    while alive(&loaded) > 0 {
        assert!(dropped.elapsed() < FREED, "{} are alive", alive(&loaded));
        sleep(Duration::from_millis(5)).await;
    }
}
