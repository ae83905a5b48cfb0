//! The audit finds what is stale because its change was not published, and nothing else.

use std::time::Duration;

use tokio::time::sleep;

use unstale::{Cache, Instance, LocalBus, Settings, Switch, testing};

use crate::support::nodes::Source;

const BOUND: Duration = Duration::from_secs(2);

async fn audited(source: &Source) -> (Instance, Cache<u64, u64>) {
    let mut settings = Settings::default();
    settings.audit = Some(1.0);
    settings.max_staleness = Some(BOUND);
    settings.ttl = Duration::from_secs(300);
    let instance = testing::start_on(&LocalBus::default(), settings)
        .await
        .unwrap();
    let source = source.clone();
    let cache = instance
        .cache::<u64, u64>("rows")
        .loader(move |key| {
            let source = source.clone();
            async move { Ok(source.load(key).await?) }
        })
        .audit(|served, source| served == source)
        .build()
        .unwrap();
    (instance, cache)
}

/// Samples of the audit's two series, by the label that matters.
fn counted(instance: &Instance, label: &str) -> u64 {
    let text = instance.metrics_text();
    let line = text.lines().find(|line| {
        line.starts_with("unstale_audit") && line.contains(label) && !line.starts_with('#')
    });
    line.map_or(0, |line| {
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64
    })
}

fn stale(instance: &Instance) -> [u64; 3] {
    ["age=\"1s\"", "age=\"10s\"", "age=\"60s\""].map(|age| counted(instance, age))
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_does_not_invalidate_is_found_by_the_audit() {
    let source = Source::default();
    source.set(1, 10);
    let (instance, cache) = audited(&source).await;
    assert_eq!(cache.get(&1).await.unwrap(), Some(10));
    source.set(1, 11);
    assert_eq!(
        cache.get(&1).await.unwrap(),
        Some(10),
        "nothing was published"
    );
    sleep(BOUND + Duration::from_millis(900)).await;
    assert_eq!(counted(&instance, "outcome=\"differs\""), 1);
    assert_eq!(stale(&instance), [0, 0, 0], "not that long yet");
    sleep(Duration::from_millis(200)).await;
    assert_eq!(stale(&instance), [1, 0, 0]);
    sleep(Duration::from_secs(9)).await;
    assert_eq!(stale(&instance), [1, 1, 0]);
    sleep(Duration::from_secs(50)).await;
    assert_eq!(stale(&instance), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_absence_that_is_served_though_the_row_exists_is_found_by_the_audit() {
    let source = Source::default();
    let (instance, cache) = audited(&source).await;
    assert_eq!(cache.get(&1).await.unwrap(), None);
    source.set(1, 11);
    assert_eq!(cache.get(&1).await.unwrap(), None, "nothing was published");
    sleep(BOUND + Duration::from_millis(1_100)).await;
    assert_eq!(stale(&instance), [1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_invalidated_in_time_is_no_finding_of_the_audit() {
    let source = Source::default();
    source.set(1, 10);
    let (instance, cache) = audited(&source).await;
    assert_eq!(cache.get(&1).await.unwrap(), Some(10));
    source.set(1, 11);
    // Committed, and its event is on its way.
    assert_eq!(cache.get(&1).await.unwrap(), Some(10));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(counted(&instance, "outcome=\"differs\""), 1);
    cache.invalidate(&1).await.unwrap();
    assert_eq!(cache.get(&1).await.unwrap(), Some(11));
    assert_eq!(cache.get(&1).await.unwrap(), Some(11));
    sleep(Duration::from_secs(100)).await;
    assert_eq!(stale(&instance), [0, 0, 0]);
    assert_eq!(counted(&instance, "outcome=\"same\""), 1);
}

#[tokio::test(start_paused = true)]
async fn audits_are_bounded_and_a_source_that_is_down_is_no_finding() {
    let source = Source::default();
    (0..40).for_each(|key| source.set(key, key));
    let (instance, cache) = audited(&source).await;
    for key in 0..40 {
        cache.get(&key).await.unwrap();
    }
    source.slow(Duration::from_millis(100));
    source.fail(true);
    let before = source.loads();
    for key in 0..40 {
        assert_eq!(cache.get(&key).await.unwrap(), Some(key), "a hit");
    }
    sleep(Duration::from_secs(100)).await;
    assert_eq!(source.loads(), before + 16);
    assert_eq!(counted(&instance, "outcome=\"failed\""), 16);
    assert_eq!(counted(&instance, "outcome=\"skipped\""), 24);
    assert_eq!(stale(&instance), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_variable_that_asks_for_the_audit_of_a_cache_that_cannot_compare_is_refused() {
    let mut settings = Settings::default();
    settings.caches.entry("rows".into()).or_default().audit = Some(Switch::On(0.5));
    let instance = testing::start_on(&LocalBus::default(), settings)
        .await
        .unwrap();
    let error = instance.cache::<u64, u64>("rows").build().unwrap_err();
    assert!(error.to_string().contains(".audit("), "{error}");
}
