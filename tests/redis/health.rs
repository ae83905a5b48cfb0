//! `health()` over Redis: the connections have tasks of their own.

use unstale::internals;
use unstale::{Instance, InstanceState};

use super::{settings, until};
use testkit::redis::RedisServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_has_lost_a_task_of_its_connections_is_not_coherent() {
    let server = RedisServer::start();
    for name in ["commands", "subscription", "routing"] {
        let instance = Instance::start(settings(&server.url())).await.unwrap();
        assert_eq!(instance.health().state, InstanceState::Coherent);
        assert!(internals::tasks(&instance).contains(&name), "{name}");
        internals::end_task(&instance, name);
        until("it is degraded", async || {
            instance.health().state == InstanceState::Degraded
        })
        .await;
        let ended = instance.health().ended_tasks;
        assert!(ended.contains(&name), "{ended:?}");
    }
}
