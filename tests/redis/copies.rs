//! Processes that were cloned while they ran, by a fork or from a snapshot: whatever they share, each
//! hears what the other one invalidates.

use std::thread;

use unstale::internals::{self, Mechanism, Without};
use unstale::testing;
use unstale::{Instance, LocalBus, Settings};

use crate::support::nodes::{Node, Source, ms, pass};
use crate::support::over_redis::{settings, until};
use testkit::redis::RedisServer;

const OWN: &str = r#"unstale_events_dropped_total{reason="own"}"#;
const STRANGER: &str = r#"unstale_events_dropped_total{reason="stranger"}"#;

/// Two instances with one id. Returns whether the second reads what the first one has changed.
async fn a_copy_hears(settings: Settings) -> bool {
    let (bus, source) = (LocalBus::default(), Source::default());
    let start = async || {
        let instance = internals::start_with_id(&bus, settings.clone(), 77).await;
        Node::of(instance.unwrap(), &source)
    };
    let (a, b) = (start().await, start().await);
    for n in 10..20 {
        source.set(1, n);
        a.cache.invalidate(&1).await.unwrap();
        pass(ms(50)).await;
        a.get(1).await;
        if b.get(1).await != Some(n) {
            return false;
        }
    }
    // Each event is the first one's own, and for the second one a stranger's.
    assert_eq!((a.metric(OWN), a.metric(STRANGER)), (10, 0));
    assert_eq!((b.metric(OWN), b.metric(STRANGER)), (0, 10));
    true
}

fn with_a_key() -> Settings {
    let mut settings = Settings::default();
    settings.signing_key = Some("0123456789abcdef0123456789abcdef".to_owned());
    settings
}

#[tokio::test(start_paused = true)]
async fn two_instances_with_one_id_hear_each_other() {
    assert!(a_copy_hears(Settings::default()).await);
    assert!(a_copy_hears(with_a_key()).await);
}

#[tokio::test(start_paused = true)]
async fn without_foreign_echoes_a_copy_serves_what_the_other_has_changed() {
    let _without = Without::new(Mechanism::ForeignEchoes);
    assert!(!a_copy_hears(Settings::default()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_redis_two_instances_with_one_id_hear_each_other() {
    let (server, source) = (RedisServer::start(), Source::default());
    let start = async || {
        let (settings, url) = (settings(&server.url()), server.url());
        let instance = internals::start_on_redis_with_id(settings, url, 77).await;
        Node::of(instance.unwrap(), &source)
    };
    let (a, b) = (start().await, start().await);
    for n in 10..20 {
        source.set(1, n);
        b.get(1).await;
        a.cache.invalidate(&1).await.unwrap();
        until("the copy drops it", async || b.get(1).await == Some(n)).await;
    }
    until("ten strangers", async || b.metric(STRANGER) == 10).await;
    assert_eq!((a.metric(STRANGER), b.metric(OWN)), (0, 0));
}

#[test]
fn generators_in_the_same_state_give_no_two_instances_one_id() {
    let start = || {
        let thread = thread::spawn(|| {
            fastrand::seed(7);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let instance = runtime.block_on(Instance::start(Settings::default()));
            internals::id(&instance.unwrap())
        });
        thread.join().unwrap()
    };
    assert_ne!(start(), start());
}

#[tokio::test(start_paused = true)]
async fn simulated_instances_have_ids_that_the_seed_decides() {
    let ids = async || {
        internals::seed(7);
        let bus = LocalBus::default();
        let start = async || testing::start_on(&bus, Settings::default()).await.unwrap();
        [internals::id(&start().await), internals::id(&start().await)]
    };
    let first = ids().await;
    assert_ne!(first[0], first[1]);
    assert_eq!(first, ids().await);
}
