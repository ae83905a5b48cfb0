//! The byte counters against the server's own.

use super::*;
use crate::bus::Intent;

#[tokio::test]
async fn counted_bytes_are_the_servers() {
    let server = RedisServer::start();
    let config = bus_config(1);
    let traffic = Arc::clone(&config.traffic);
    let mut admin = admin(&server);
    let net = |admin: &mut Client, field: &str| -> u64 { admin.info(field).parse().unwrap() };
    // What the administrator's own questions cost: one before and one between the two readings.
    let first = (
        net(&mut admin, "total_net_input_bytes"),
        net(&mut admin, "total_net_output_bytes"),
    );
    let second = (
        net(&mut admin, "total_net_input_bytes"),
        net(&mut admin, "total_net_output_bytes"),
    );
    let own = (second.0 - first.0, second.1 - first.1);

    let (bus, mut events) = join(&server.url(), config).await;
    for n in 0..200 {
        let intent = Intent {
            id: intent_id(1, n),
            deadline: Duration::from_secs(60),
            payload: Bytes::from(vec![b'p'; 100]),
        };
        bus.announce(0, vec![intent]).await.unwrap();
        let payload = Bytes::from(vec![b'x'; (n * 5) as usize]);
        let position = bus
            .publish(0, payload, vec![intent_id(1, n)])
            .await
            .unwrap();
        message(&mut events).await;
        bus.verify(0).await.unwrap();
        bus.journal(0, position.sequence.saturating_sub(2))
            .await
            .unwrap();
    }
    let after = (
        net(&mut admin, "total_net_input_bytes"),
        net(&mut admin, "total_net_output_bytes"),
    );
    let server_side = (after.0 - second.0 - own.0, after.1 - second.1 - own.1);
    let (sent, received) = traffic.totals();
    let close = |ours: u64, theirs: u64| ours.abs_diff(theirs) * 100 <= theirs * 5;
    assert!(
        close(sent, server_side.0),
        "sent {sent}, the server read {}",
        server_side.0
    );
    assert!(
        close(received, server_side.1),
        "received {received}, the server wrote {}",
        server_side.1
    );
}
