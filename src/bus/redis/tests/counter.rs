//! What becomes of a lane whose counter goes back, and where its epochs come from.

use super::*;

const S: &str = "us:{shop:0}s";

#[tokio::test]
async fn a_counter_that_goes_back_within_its_epoch_begins_another_with_the_next_event() {
    let server = RedisServer::start();
    let (bus, mut events) = join(&server.url(), bus_config(1)).await;
    let begun = bus.verify(0).await.unwrap().head;
    for _ in 0..8 {
        bus.publish(0, Bytes::from_static(b"x"), vec![])
            .await
            .unwrap();
        message(&mut events).await;
    }
    admin(&server).cmd(&["HINCRBY", S, "q", "-5"]);
    let position = bus
        .publish(0, Bytes::from_static(b"late"), vec![])
        .await
        .unwrap();
    assert_ne!(position.epoch, begun.epoch, "taken for a duplicate by all");
    assert_eq!(message(&mut events).await.0, position);
    let journal = bus.journal(0, 0).await.unwrap();
    assert_eq!(journal.head, position);
    assert_eq!(journal.events, [(position.sequence, "late".into())]);
    // Provisional: a verification begins one that comes from this life of the server.
    let verified = bus.verify(0).await.unwrap().head;
    assert_ne!(verified.epoch, position.epoch);
    assert_eq!(verified.sequence, position.sequence);
    assert_eq!(bus.verify(0).await.unwrap().head, verified);
}
