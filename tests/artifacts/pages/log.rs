//! The log lines of docs/production.md are those of a service whose Redis dies and comes back.

use std::time::Instant;

use testkit::redis::RedisServer;
use testkit::service::Service;

use super::{POLL, RECOVERY};

/// Redis is killed under a service, comes back, and the service is asked to stop.
pub(super) fn log([shown]: [Vec<&str>; 1]) {
    let redis = RedisServer::start();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let printed = runtime.block_on(async {
        let url = redis.url();
        let vars = [("UNSTALE_REDIS_URL", &*url), ("UNSTALE_NAMESPACE", "shop")];
        let service = Service::start(&dir.path().join("accounts.db"), &vars).await;
        service.until_healthy(RECOVERY).await;
        redis.kill();
        let says = async |text: &str| {
            let deadline = Instant::now() + RECOVERY;
            while !service.output().contains(text) {
                assert!(Instant::now() < deadline, "{text}: {}", service.output());
                tokio::time::sleep(POLL).await;
            }
        };
        says("lost the connection").await;
        says("degraded").await;
        redis.restart();
        // A lane may be verified before its connection says that it is back.
        says("connected to Redis again").await;
        says("verified again").await;
        assert!(service.terminate().await.success());
        service.output()
    });
    assert!(shown.len() > 4);
    for line in shown {
        let (message, fields) = line.trim().split_once(" instance=").unwrap();
        // Between the two is what went wrong.
        let begins = message.split(": ").next().unwrap();
        let ends = message.rsplit("; ").next().unwrap();
        let (level, begins) = begins.split_once(' ').unwrap();
        let names = fields
            .split('=')
            .rev()
            .skip(1)
            .map(|part| part.rsplit(' ').next().unwrap());
        let names: Vec<_> = names.collect();
        let is_it = |line: &&str| {
            let said = line.contains(level) && line.contains(begins);
            let ended = ends == message || line.contains(ends);
            said && ended && names.iter().all(|name| line.contains(&format!(" {name}=")))
        };
        let found = printed.lines().find(is_it);
        assert!(found.is_some(), "{line}\n{names:?}\n{printed}");
    }
}
