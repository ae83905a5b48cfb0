//! Rights that are taken away from a running instance, and given back.

use unstale::InstanceState;

use super::watch::endure;
use super::{Pair, fences, gaps, node, repairs, settings, until};
use crate::support::nodes::Source;
use testkit::proxy::Proxy;
use testkit::redis::RedisServer;

/// B is a user whose rights can change; A is another one.
async fn start() -> Pair {
    let server = RedisServer::start();
    let (source, proxy) = (Source::default(), Proxy::start(server.port()).await);
    let a = node(settings(&server.url()), &source).await;
    let mut admin = testkit::resp::Client::connect(server.port());
    admin.cmd(&[
        "ACL", "SETUSER", "app", "on", ">secret", "~us:*", "&us:*", "+@all",
    ]);
    let url = format!("redis://app:secret@127.0.0.1:{}", proxy.port());
    let b = node(settings(&url), &source).await;
    Pair {
        server,
        source,
        a,
        b,
        proxy,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_channel_an_instance_follows_the_journal() {
    let pair = start().await;
    endure(&pair, async |pair| {
        // Redis cuts the subscriber off by itself, and refuses it from now on.
        pair.admin(&["ACL", "SETUSER", "app", "resetchannels"]);
        until("the gap is noticed", async || {
            gaps(&pair.b, "disconnected") > 0
        })
        .await;
        let repaired = repairs(&pair.b, "repaired");
        until("the journal is read instead", async || {
            repairs(&pair.b, "repaired") > repaired + 5
        })
        .await;
        pair.admin(&["ACL", "SETUSER", "app", "&us:*"]);
    })
    .await;
    assert_eq!(fences(&pair.b, "gap"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_refused_altogether_is_degraded_until_it_is_let_in() {
    let pair = start().await;
    for (take, give) in [("resetchannels", "&us:*"), ("off", "on")] {
        endure(&pair, async |pair| {
            pair.admin(&["ACL", "SETUSER", "app", take]);
            pair.admin(&["CLIENT", "KILL", "USER", "app"]);
            pair.degraded().await;
            assert_eq!(pair.a.instance.health().state, InstanceState::Coherent);
            pair.admin(&["ACL", "SETUSER", "app", give]);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_verify_an_instance_is_degraded() {
    let pair = start().await;
    endure(&pair, async |pair| {
        pair.admin(&["ACL", "SETUSER", "app", "-zadd"]);
        pair.degraded().await;
        pair.admin(&["ACL", "SETUSER", "app", "+zadd"]);
    })
    .await;
}
