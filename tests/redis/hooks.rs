//! A program hears of invalidations over a real Redis, and learns why a key is loaded again.

use tokio::time::timeout;
use unstale::{MissCause, Outcome, Refusal, Scope};

use super::{Pair, until};
use crate::support::over_redis::PATIENCE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_of_a_peer_is_reported_and_explained() {
    let pair = Pair::start().await;
    let mut reported = pair.b.cache.invalidations();
    until("a hit", async || {
        pair.b.outcome(7).await == Outcome::Negative
    })
    .await;
    pair.change(7, 70).await;
    let key = loop {
        let next = timeout(PATIENCE, reported.next())
            .await
            .expect("it is reported");
        let next = next.expect("the instance runs");
        if matches!(next.scope, Scope::Key(_)) {
            break next;
        }
    };
    assert!(key.concerns(&7_u64, &[]), "{key}");
    assert_eq!(key.origin, Some(pair.a.instance.id()));
    assert!(key.sequence.is_some(), "{key}");

    let said = pair.b.cache.explain(&7);
    assert_eq!(said.refusal, Some(Refusal::NotHeld), "{said}");
    assert_eq!(said.cause, Some(MissCause::Invalidated), "{said}");
    assert_eq!(said.last_invalidation, Some(key));
    assert_eq!(pair.b.get(7).await, Some(70));
    assert!(
        pair.b
            .cache
            .explain(&7)
            .held
            .is_some_and(|held| held.exists)
    );

    pair.b.instance.shutdown().await.unwrap();
    let end = async { while reported.next().await.is_some() {} };
    timeout(PATIENCE, end).await.expect("it ends");
}
