//! Where the API is called from: threads that block, other executors, a runtime that is gone, thousands of caches
//! that come and go, a port that is taken.

use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use unstale::{ErrorKind, Instance, InstanceState, LocalBus, Settings};

use crate::support::nodes::ms;
use crate::support::over_redis::until;

/// Wakes a thread that waits for a future.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An executor that knows nothing of tokio.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Parked(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn started(settings: Settings) -> (Runtime, Instance) {
    let runtime = Runtime::new().unwrap();
    let instance = runtime.block_on(Instance::start_on(&LocalBus::default(), settings));
    (runtime, instance.unwrap())
}

#[test]
fn a_thread_that_blocks_reads_writes_and_invalidates() {
    let mut settings = Settings::default();
    settings.max_staleness = Some(ms(1_000));
    let (_runtime, instance) = started(settings);
    let cache = instance
        .cache::<u64, u64>("rows")
        .loader(|key: u64| async move { Ok(key) })
        .build()
        .unwrap();
    for _ in 0..2 {
        assert_eq!(block_on(cache.get(&1)).unwrap(), Some(1));
        assert_eq!(
            block_on(cache.get_many([1, 2])).unwrap(),
            [Some(1), Some(2)]
        );
        assert_eq!(block_on(cache.get_latest(&3)).unwrap(), Some(3));
        assert_eq!(block_on(cache.lookup(&1)).unwrap().value, Some(1));
        block_on(cache.invalidate(&1)).unwrap();
        block_on(cache.invalidate_many(0..50_000)).unwrap();
        let commit = async { Ok::<_, std::io::Error>(7) };
        assert_eq!(block_on(cache.write(&2, commit)).unwrap(), 7);
        let batch = instance.batch().key(&cache, &1);
        block_on(batch.invalidate()).unwrap();
        assert_eq!(block_on(cache.preload(0..100)).held, 100);
        // Now no verification is young enough, and the next read waits for one.
        std::thread::sleep(ms(3_000));
    }
    block_on(instance.shutdown()).unwrap();
}

#[test]
fn after_its_runtime_ended_an_instance_is_degraded_and_no_call_waits() {
    let (runtime, instance) = started(Settings::default());
    let cache = instance.cache::<u64, u64>("rows").build().unwrap();
    assert_eq!(instance.health().state, InstanceState::Coherent);
    drop(runtime);
    let health = instance.health();
    assert_eq!(health.state, InstanceState::Degraded);
    assert!(!health.ended_tasks.is_empty());
    let other = Runtime::new().unwrap();
    let mut published = pin!(cache.invalidate(&1));
    let _inside = other.enter();
    let Poll::Ready(published) = published
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    else {
        unreachable!("it waits");
    };
    let error = published.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bus);
    assert!(error.to_string().contains("runtime"), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_keeps_no_service_from_its_start() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let mut settings = Settings::default();
    settings.metrics_addr = Some(address);
    let instance = Instance::start_on(&LocalBus::default(), settings)
        .await
        .unwrap();
    drop(taken);
    // Another program may take it meanwhile; then this waits for that one.
    until("metrics are served", async || {
        let url = format!("http://{address}/metrics");
        let page = reqwest::get(url).await;
        match page {
            Ok(page) => page
                .text()
                .await
                .is_ok_and(|text| text.contains("unstale_")),
            Err(_) => false,
        }
    })
    .await;
    instance.shutdown().await.unwrap();
}

/// Resident, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

#[tokio::test]
async fn ten_thousand_caches_that_come_and_go_leave_nothing_behind() {
    let instance = Instance::start_on(&LocalBus::default(), Settings::default())
        .await
        .unwrap();
    let stays = instance
        .cache::<u64, u64>("stays")
        .loader(|key: u64| async move { Ok(key) });
    let stays = stays.build().unwrap();
    let tenant = async |number: u32| {
        let name = format!("tenant_{number}");
        let cache = instance.cache::<u64, u64>(&name).capacity(100);
        let cache = cache
            .loader(|key: u64| async move { Ok(key) })
            .build()
            .unwrap();
        cache.get(&1).await.unwrap();
        stays.get(&u64::from(number)).await.unwrap();
        (cache, name)
    };
    let one = async |number: u32| {
        let (cache, name) = tenant(number).await;
        if number.is_multiple_of(100) {
            assert!(instance.metrics_text().contains(&name));
        }
        drop(cache);
        if number.is_multiple_of(100) {
            let text = instance.metrics_text();
            assert!(!text.contains("tenant_"), "{name}");
            assert!(text.contains("cache=\"stays\""));
        }
        // The once-a-second fold.
        tokio::task::yield_now().await;
    };
    let before = memory();
    let mut alive = Vec::new();
    for number in 0..1_000 {
        alive.push(tenant(number).await);
    }
    let thousand = memory().saturating_sub(before);
    drop(alive);
    for number in 1_000..2_000 {
        one(number).await;
    }
    let before = memory();
    for number in 2_000..12_000 {
        one(number).await;
    }
    // Ten thousand that stayed would take ten times as much; what the allocator keeps varies.
    let grown = memory().saturating_sub(before);
    assert!(
        grown < 2 * thousand,
        "{grown} KiB, a thousand that live take {thousand} KiB"
    );
    let misses = r#"unstale_misses_total{cache="stays",cause="cold"} 12000"#;
    assert!(instance.metrics_text().contains(misses));
    tokio::time::sleep(Duration::from_millis(1)).await;
}
