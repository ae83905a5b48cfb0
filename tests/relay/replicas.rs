//! Loaders that read from a replica of the database, which stands still for a while.

use std::sync::Arc;

use tokio::time::sleep;
use unstale::{BoxError, Cache, Instance, Loaded, Lookup, Settings};

use super::database::Database;
use super::rig::{Rig, Way};
use super::setup::BOUND;
use super::{MEMBER_TIMEOUT, VERIFY_INTERVAL};
use crate::support::nodes::ms;
use crate::support::over_redis::until;

/// First how far the replica is, then the row.
async fn load(replica: Arc<Database>, id: i64) -> Result<Loaded<i64>, BoxError> {
    let replayed = "SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint";
    let replayed = replica.number(replayed, &[]).await?;
    let version = "SELECT version FROM accounts WHERE id = $1";
    let version = replica.number(version, &[&id]).await?;
    Ok(Loaded::new(version).as_of(replayed.ok_or("no place")?.cast_unsigned()))
}

async fn accounts(rig: &Rig, replica: Arc<Database>) -> (Instance, Cache<i64, i64>) {
    let mut settings = Settings::default();
    settings.redis_url = Some(rig.redis.url());
    settings.namespace = "shop".to_owned();
    settings.verify_interval = VERIFY_INTERVAL;
    settings.member_timeout = MEMBER_TIMEOUT;
    settings.max_staleness = Some(BOUND);
    let instance = Instance::start(settings).await.unwrap();
    let cache = instance.cache("accounts").source("shop").ttl(60 * BOUND);
    let cache = cache.loader(move |id: i64| load(replica.clone(), id));
    let cache = cache.build().unwrap();
    (instance, cache)
}

async fn read(cache: &Cache<i64, i64>) -> Lookup<i64> {
    cache.lookup(&42).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_a_replica_lacks_is_not_kept_and_one_that_it_has_is() {
    let rig = Rig::bare(&[]).await;
    rig.prepare().await;
    rig.sql("INSERT INTO accounts VALUES (42, 1)").await;
    let replica = rig.postgres.replica().await;
    let (folder, port) = (replica.folder().display(), replica.port());
    let of = Database::new(format!(
        "host={folder} port={port} user=app password=app dbname=shop"
    ));
    let (_instance, cache) = accounts(&rig, of).await;
    let _relay = rig.relay(Way::Straight).await;
    let held = async |version| {
        until("it is a hit", async || {
            let read = read(&cache).await;
            read.is_hit() && read.value == Some(version)
        })
        .await;
    };
    held(1).await;
    replica.sql("SELECT pg_wal_replay_pause()").await;
    until("it stands still", async || {
        replica.sql("SELECT pg_get_wal_replay_pause_state()").await == "paused"
    })
    .await;
    rig.sql("UPDATE accounts SET version = 2 WHERE id = 42")
        .await;
    until("it is dropped", async || !read(&cache).await.is_hit()).await;
    for _ in 0..50 {
        let read = read(&cache).await;
        assert!(!read.is_hit() && read.value == Some(1), "{read:?}");
        sleep(ms(20)).await;
    }
    replica.sql("SELECT pg_wal_replay_resume()").await;
    held(2).await;
}
