//! A token is revoked while Redis is away.

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use super::sessions::Notified;
use super::{Fleet, LATENCY, SECOND};
use crate::support::fleet::until;

/// How soon B hears of it when Redis is back: a second, the rest is for a slow machine. It is much less
/// than what is left of the long bound.
const HEARD: Duration = Duration::from_secs(25);

/// Redis is away for so long, and a token is revoked on A meanwhile; B is asked all the time.
async fn revoked_while_redis_is_away(outage: Duration, max_staleness: Duration) {
    let bound = humantime::format_duration(max_staleness).to_string();
    let ttl = ("UNSTALE_CACHES__BLACKLIST__TTL", "300s");
    let variable = ("UNSTALE_CACHES__BLACKLIST__MAX_STALENESS", &*bound);
    let fleet = Fleet::with(LATENCY, &[ttl, variable]).await;
    let (a, b) = (fleet.a.sessions.clone(), fleet.b.sessions.clone());
    assert!(b.allowed("token").await.unwrap());
    // When the last request began that passed.
    let asking = {
        let b = b.clone();
        tokio::spawn(async move {
            let mut last = Instant::now();
            loop {
                let began = Instant::now();
                if b.allowed("token").await.unwrap() {
                    last = began;
                } else if began.duration_since(last) > 6 * SECOND {
                    return last;
                }
                sleep(Duration::from_millis(2)).await;
            }
        })
    };
    sleep(SECOND).await;
    block_in_place(|| fleet.server.kill());
    // No verification is begun after this that succeeds.
    let verified = Instant::now();
    // Within every bound: what is revoked later is loaded again anyway.
    sleep(SECOND / 2).await;
    let revoked = Instant::now();
    let notified = a.revoke("token").await.unwrap();
    assert_eq!(notified, Notified::Later);
    assert!(
        !a.allowed("token").await.unwrap(),
        "at once where it was revoked"
    );
    sleep((verified + outage).saturating_duration_since(Instant::now())).await;
    block_in_place(|| fleet.server.restart());
    let back = Instant::now();
    let last = asking.await.unwrap();
    let (by_redis, by_promise) = (back + HEARD, verified + max_staleness);
    println!(
        "Redis away for {:?}: B refused {:?} after it was back, {:?} after the last verification",
        back - verified,
        last.saturating_duration_since(back),
        last.saturating_duration_since(verified),
    );
    assert!(last < by_redis.min(by_promise), "refused too late");
    // The bound was tried: B cannot have heard of it before.
    if by_promise > back {
        assert!(last > revoked, "B should not have known yet");
    }
    until("both are in touch again", async || {
        fleet.a.instance.health().connected && fleet.b.instance.health().connected
    })
    .await;
    assert!(!b.allowed("token").await.unwrap());
}

/// The default bound ends before Redis is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_a_token_revoked_while_redis_is_away_is_refused_within_max_staleness() {
    revoked_while_redis_is_away(5 * SECOND, 2 * SECOND).await;
}

/// The bound does not end before Redis is back: what counts is how soon B hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_a_token_revoked_while_redis_is_away_is_refused_soon_after_it_is_back() {
    revoked_while_redis_is_away(5 * SECOND, 60 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute: make soak"]
async fn scenario_soak_with_redis_away_for_thirty_seconds_the_default_bound_holds() {
    revoked_while_redis_is_away(30 * SECOND, 2 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute: make soak"]
async fn scenario_soak_with_redis_away_for_thirty_seconds_a_long_bound_holds() {
    revoked_while_redis_is_away(30 * SECOND, 120 * SECOND).await;
}
