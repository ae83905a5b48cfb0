//! Which relay works: one at a time, and the next at once where it ends in order.

use super::*;
use crate::bus::Mark;

const LONG: Duration = Duration::from_secs(30);

/// Whether this relay is refused the lease for so long.
async fn refused(bus: &RedisBus, relay: u64, lease: Duration) -> bool {
    let mark = Mark {
        source: "orders".to_owned(),
        at: None,
        lease: Some((relay, lease)),
    };
    bus.mark(0, mark).await.unwrap().refused
}

#[tokio::test]
async fn a_lease_that_is_given_up_is_free_and_only_its_relay_can_do_that() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    assert!(!refused(&bus, 0xA, LONG).await);
    assert!(refused(&bus, 0xB, LONG).await);
    assert!(
        !refused(&bus, 0xB, Duration::ZERO).await,
        "it asks for none"
    );
    assert!(refused(&bus, 0xB, LONG).await, "it was not its own");
    assert!(!refused(&bus, 0xA, LONG).await);
    assert!(!refused(&bus, 0xA, Duration::ZERO).await);
    assert!(!refused(&bus, 0xB, LONG).await);
    assert!(refused(&bus, 0xA, LONG).await);
    // Of a relay that has none, too.
    assert!(!refused(&bus, 0xA, Duration::ZERO).await);
    assert!(refused(&bus, 0xA, LONG).await);
}
