//! A database that fails: a client with a good key gets 200 or 503, never 401.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use unstale::{CacheSettings, ErrorKind};

use super::fleet::Fleet;
use crate::support::fleet::until;

/// An operator's TTL, so that every key expires while the database fails.
const TTL: Duration = Duration::from_millis(300);

/// How long an event may take; some milliseconds, the rest is for a slow machine.
const HEARD: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_a_failing_source_never_turns_good_keys_into_401() {
    let mut cache = CacheSettings::default();
    cache.ttl = Some(TTL);
    let fleet = Fleet::start_with(super::INSTANCES, 100, cache).await;
    let (a, b) = (&fleet.keys[0], &fleet.keys[1]);
    let at_b = fleet.serve(1).await;
    // It is made while the database works, and B has not loaded it before that fails.
    let cold = a.create("ada").await.unwrap();

    let database = rusqlite::Connection::open(fleet.file()).unwrap();
    database.busy_timeout(Duration::from_secs(2)).unwrap();
    database
        .execute_batch("ALTER TABLE keys RENAME TO gone")
        .unwrap();
    let failed_at = Instant::now();
    let mut answered = 0;
    while failed_at.elapsed() < TTL * 5 || answered < 500 {
        for key in &fleet.good {
            let found = b.authenticate(key).await.expect("within its bounds");
            assert!(found.is_some(), "401 for a good key");
            answered += 1;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let stood_in = fleet.metric(1, r#"stale_if_error_total{cache="api_keys"}"#);
    assert!(stood_in > 0, "nothing had expired");
    let (status, _) = at_b.whoami(&fleet.good[0]).await;
    assert_eq!(status, 200);

    // Beyond its bounds the answer is an error: of a key that was never loaded, one that was
    // changed meanwhile (here by the very write that fails), and one that does not exist.
    let changed = &fleet.good[1];
    a.revoke(changed).await.unwrap_err();
    let revoked_at = Instant::now();
    while b.authenticate(changed).await.is_ok() {
        assert!(revoked_at.elapsed() < HEARD, "B has not heard of it");
        sleep(Duration::from_millis(5)).await;
    }
    for key in [&cold, changed, "sk-made-up"] {
        let error = b.authenticate(key).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Load | ErrorKind::Limited),
            "{error}"
        );
        let response = at_b.ask(key).await;
        assert_eq!(response.status().as_u16(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
    }

    database
        .execute_batch("ALTER TABLE gone RENAME TO keys")
        .unwrap();
    for key in [&cold, changed, &fleet.good[2]] {
        // The last error is kept for a second.
        until("it is asked again", async || {
            let found = b.authenticate(key).await;
            found.is_ok_and(|found| found.is_some())
        })
        .await;
    }
    until("what does not exist is asked for again, too", async || {
        at_b.whoami("sk-made-up").await.0 == 401
    })
    .await;
    fleet.stop().await;
}
