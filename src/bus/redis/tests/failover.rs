//! Numbers that two servers hand out in turn.

use super::*;

/// Until the replica has what the primary has.
async fn in_step(replica: &RedisServer) {
    until(async || {
        let info = admin(replica).cmd(&["INFO", "replication"]).text();
        info.contains("master_link_status:up")
    })
    .await;
}

fn follow(replica: &RedisServer, primary: &RedisServer) {
    let port = primary.port().to_string();
    admin(replica).cmd(&["REPLICAOF", "127.0.0.1", &port]);
}

/// 1: the first server loses its place to the second, which hands numbers out; 2: it gets it back,
/// with the second one's counter. No verification came in between, so the epoch in it is still its own.
#[tokio::test]
async fn a_server_that_is_promoted_again_begins_a_new_epoch() {
    let args = ["--repl-diskless-sync-delay", "0"];
    let (first, second) = (
        RedisServer::start_with(&args),
        RedisServer::start_with(&args),
    );
    let (bus, _events) = join(&first.url(), bus_config(1)).await;
    follow(&second, &first);
    in_step(&second).await;
    let before = bus.verify(0).await.unwrap().head.epoch;
    assert_eq!(bus.verify(0).await.unwrap().head.epoch, before);
    admin(&second).cmd(&["REPLICAOF", "NO", "ONE"]);
    follow(&first, &second);
    in_step(&first).await;
    admin(&first).cmd(&["REPLICAOF", "NO", "ONE"]);
    let mut after = before;
    until(async || match bus.verify(0).await {
        Ok(verified) => {
            after = verified.head.epoch;
            true
        }
        Err(_) => false,
    })
    .await;
    assert_ne!(after, before);
}
