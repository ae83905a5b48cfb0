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
        // The end of "routing" ends its servers' tasks, which may come first.
        until("it is degraded and says which", async || {
            let health = instance.health();
            health.state == InstanceState::Degraded && health.ended_tasks.contains(&name)
        })
        .await;
    }
}
