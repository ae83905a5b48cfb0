//! What an operator reads in the log: which instance joined what at the start, on which bus, and in one vocabulary what
//! state the instance is in.

use unstale::testing::start_on;
use unstale::{BusKind, CacheSettings, Instance, InstanceState, LocalBus, Settings, internals};

use crate::support::logged::Logged;
use crate::support::nodes::{Node, Source, ms, pair, pass};

/// What must not be in a log: the text of Rust's `Debug`, and a count of nothing.
const LEAKS: [&str; 5] = ["Some(", "None", "suppressed=0", "Custom {", "Error {"];

fn only_words(logged: &Logged) {
    for line in logged.lines() {
        for leak in LEAKS {
            assert!(!line.contains(leak), "{leak}: {line}");
        }
    }
}

#[tokio::test]
async fn without_a_url_an_instance_warns_that_it_hears_of_no_other() {
    let logged = Logged::start();
    let instance = Instance::start(Settings::default()).await.unwrap();
    let line = logged.one("WARN");
    assert!(line.contains("UNSTALE_REDIS_URL is not set"), "{line}");
    assert!(line.contains(&instance.id().to_string()), "{line}");
    assert_eq!(instance.health().bus, BusKind::Local);
    let metrics = instance.metrics_text();
    assert!(
        metrics.contains(r#"bus="local",redis="unset""#),
        "{metrics}"
    );
    only_words(&logged);
}

#[tokio::test]
async fn a_fleet_in_one_process_that_is_asked_for_warns_of_nothing() {
    let logged = Logged::start();
    for none in ["none", "None"] {
        let mut settings = Settings::default();
        settings.redis_url = Some(none.to_owned());
        settings.validate().unwrap();
        let asked = Instance::start(settings).await.unwrap();
        assert_eq!(asked.health().bus, BusKind::Local);
        let metrics = asked.metrics_text();
        let label = format!(r#"bus="local",redis="{none}""#);
        assert!(metrics.contains(&label), "{metrics}");
    }
    let bus = LocalBus::default();
    let on = Instance::start_on(&bus, Settings::default()).await.unwrap();
    assert!(on.metrics_text().contains(r#"redis="none""#));
    assert_eq!(logged.with("WARN"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_start_and_an_end_have_one_line_each_that_say_who_joined_what() {
    let logged = Logged::start();
    let bus = LocalBus::default();
    let mut settings = Settings::default();
    settings.namespace = "shop".to_owned();
    settings.lanes = 2;
    let mut ids = Vec::new();
    for others in 0..3 {
        let instance = start_on(&bus, settings.clone()).await.unwrap();
        let id = instance.id().to_string();
        let line = logged.one(&format!("joined the fleet instance={id}"));
        for said in [
            " INFO ",
            "namespace=\"shop\"",
            "bus=local",
            &format!("others={others}"),
            "lanes=2",
            "policy=\"strict\"",
            &format!("version=\"{}\"", env!("CARGO_PKG_VERSION")),
        ] {
            assert!(line.contains(said), "{said}: {line}");
        }
        ids.push((id, instance));
    }
    assert_eq!(logged.lines().len(), 3, "{:#?}", logged.lines());
    for (id, instance) in ids {
        assert_eq!(ids_in(&instance.metrics_text()), [id.as_str()]);
        assert_eq!(instance.health().id.to_string(), id);
        instance.shutdown().await.unwrap();
        instance.shutdown().await.unwrap();
        let line = logged.one(&format!("left the fleet instance={id}"));
        assert!(line.contains(" INFO ") && line.contains("closed"), "{line}");
    }
    let dropped = start_on(&bus, settings).await.unwrap();
    let id = dropped.id().to_string();
    drop(dropped);
    logged.one(&format!("left the fleet instance={id}"));
    only_words(&logged);
}

/// The labels `id` of the metrics.
fn ids_in(metrics: &str) -> Vec<String> {
    let parts = metrics.split("unstale_settings_info{id=\"").skip(1);
    let ids = parts.filter_map(|part| part.split('"').next());
    ids.map(str::to_owned).collect()
}

/// However Redis is lost, the log has the two words of `health()`, each once.
#[tokio::test(start_paused = true)]
async fn degraded_and_coherent_are_logged_once_each_whatever_the_cause() {
    type Fault = fn(&LocalBus);
    let causes: [(&str, Fault); 4] = [
        ("killed", |bus| bus.faults(0).cut()),
        ("hangs", |bus| bus.faults(0).silence()),
        ("refuses", |bus| bus.faults(0).refuse()),
        ("slow", |bus| bus.faults(0).slow(ms(9_000), ms(9_000))),
    ];
    for (cause, fault) in causes {
        let logged = Logged::start();
        let (bus, source, a, _b) = pair().await;
        source.set(1, 10);
        a.get(1).await;
        let id = a.instance.id();
        assert_eq!(logged.with("degraded"), Vec::<String>::new(), "{cause}");
        fault(&bus);
        for _ in 0..200 {
            pass(ms(100)).await;
            a.get(1).await;
        }
        assert_eq!(
            a.instance.health().state,
            InstanceState::Degraded,
            "{cause}"
        );
        let line = logged.one("WARN unstale::coherence::state: degraded");
        assert!(line.contains(&format!("instance={id}")), "{line}");
        assert!(
            line.contains("for 2s after the last verification"),
            "{line}"
        );
        bus.faults(0).end_all();
        pass(ms(10_000)).await;
        let line = logged.one("coherent: every lane is verified again");
        assert!(line.contains(&format!("instance={id}")), "{cause}: {line}");
        only_words(&logged);
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_that_changes_all_the_time_is_logged_every_ten_seconds_at_most() {
    let logged = Logged::start();
    let (bus, source, a, _b) = pair().await;
    source.set(1, 10);
    for _ in 0..100 {
        bus.faults(0).cut();
        pass(ms(150)).await;
        a.get(1).await;
        bus.faults(0).heal();
        pass(ms(350)).await;
    }
    // 50 seconds of it.
    let degraded = logged.with("degraded").len();
    assert!((3..=6).contains(&degraded), "{degraded}");
    assert!(logged.with("verified again").len() <= degraded);
    // The last line is the present state.
    pass(ms(20_000)).await;
    let last = logged.lines().pop().unwrap();
    assert!(last.contains("verified again"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_has_ended_is_why_an_instance_is_degraded() {
    let logged = Logged::start();
    let (_bus, _source, a, _b) = pair().await;
    internals::end_task(&a.instance, "publisher");
    pass(ms(1_000)).await;
    let line = logged.one("degraded: these tasks have ended: publisher");
    assert!(line.contains(&a.instance.id().to_string()), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_setting_for_a_cache_that_no_code_builds_is_logged_with_the_nearest_name() {
    let logged = Logged::start();
    let (bus, source) = (LocalBus::default(), Source::default());
    let mut settings = Settings::default();
    let mut few = CacheSettings::default();
    few.ttl = Some(ms(3_000));
    few.capacity = Some(7);
    settings.caches.insert("row".to_owned(), few.clone());
    settings.caches.insert("rows".to_owned(), few);
    let node = Node::start(&bus, &source, settings).await;
    assert_eq!(node.instance.health().unused_overrides, ["row"]);
    pass(ms(10_000)).await;
    let line = logged.one("WARN");
    for said in [
        "UNSTALE_CACHES__ROW__TTL, UNSTALE_CACHES__ROW__CAPACITY",
        "no cache `row` is built",
        "the nearest that is built is `rows`",
    ] {
        assert!(line.contains(said), "{said}: {line}");
    }
    pass(ms(600_000)).await;
    assert_eq!(logged.with("WARN").len(), 1);
}

/// A typo of an operator, or another service in the namespace.
#[tokio::test(start_paused = true)]
async fn an_event_of_a_cache_that_is_not_built_is_logged_once() {
    let logged = Logged::start();
    let (_bus, _source, a, b) = pair().await;
    let others: Vec<_> = ["acounts", "prices"]
        .map(|name| a.instance.cache::<u64, u64>(name).build().unwrap())
        .into();
    // While caches may still be built.
    for cache in &others {
        cache.invalidate(&1).await.unwrap();
    }
    pass(ms(1_000)).await;
    assert_eq!(logged.with("not built here"), Vec::<String>::new());
    pass(ms(10_000)).await;
    for _ in 0..1_000 {
        for cache in &others {
            cache.invalidate(&1).await.unwrap();
        }
        pass(ms(100)).await;
    }
    let lines = logged.with("not built here");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for line in &lines {
        assert!(line.contains(&b.instance.id().to_string()), "{line}");
    }
    assert_ne!(lines[0], lines[1]);
    only_words(&logged);
}
