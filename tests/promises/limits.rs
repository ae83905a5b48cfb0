//! What is refused: keys, tags and caches that break a limit.

use std::io;
use std::sync::{Arc, Mutex};

use unstale::{
    CacheBuilder, CacheSettings, ErrorKind, Loaded, LocalBus, Settings, Switch, WriteError,
};
use unstale::{MAX_KEY_BYTES, Outcome, testing};

use crate::store::plain;
use crate::support::nodes::{alone, ms, pair, pass};

#[tokio::test(start_paused = true)]
async fn a_key_over_the_limit_is_refused_everywhere() {
    let (_bus, instance) = alone().await;
    let cache = instance
        .cache::<String, usize>("lengths")
        .loader(|key: String| async move { Ok(key.len()) })
        .build()
        .unwrap();
    let (longest, over) = ("x".repeat(MAX_KEY_BYTES), "x".repeat(MAX_KEY_BYTES + 1));
    assert_eq!(cache.get(&longest).await.unwrap(), Some(MAX_KEY_BYTES));
    let load = async { Ok(1) };
    let commit = async { Ok::<_, std::io::Error>(()) };
    let refused = cache.write(&over, commit).await.unwrap_err();
    let errors = [
        cache.get(&over).await.unwrap_err(),
        cache.lookup(&over).await.unwrap_err(),
        cache.get_with(&over, load).await.unwrap_err(),
        cache.invalidate(&over).await.unwrap_err(),
        cache.invalidate_many([&longest, &over]).await.unwrap_err(),
        instance
            .batch()
            .key(&cache, &over)
            .invalidate()
            .await
            .unwrap_err(),
    ];
    assert!(
        errors.iter().all(|error| error.kind() == ErrorKind::Key),
        "{errors:?}"
    );
    assert!(matches!(refused, WriteError::Refused(why) if why.kind() == ErrorKind::Key));
    assert_eq!(cache.peek(&over), None);
    assert_eq!(
        cache.peek(&longest),
        Some(MAX_KEY_BYTES),
        "refused before any is dropped"
    );
}

#[tokio::test(start_paused = true)]
async fn an_entry_may_have_a_thousand_tags_and_each_counts() {
    let (_bus, instance) = alone().await;
    let cache = instance
        .cache::<u64, u64>("tagged")
        .loader(|key: u64| async move {
            let tags = (0..key).map(|tag| tag.to_string());
            Ok(tags.fold(Loaded::new(key), Loaded::tag))
        })
        .build()
        .unwrap();
    let most = 1_000;
    assert_eq!(cache.get(&most).await.unwrap(), Some(most));
    assert_eq!(cache.lookup(&most).await.unwrap().outcome, Outcome::Hit);
    // Every tag counts, the last as well.
    cache.invalidate_tag(&(most - 1).to_string()).await.unwrap();
    assert_eq!(cache.lookup(&most).await.unwrap().outcome, Outcome::Miss);
}

#[tokio::test(start_paused = true)]
async fn a_cache_is_built_once_and_with_what_its_bounds_need() {
    let (_bus, instance) = alone().await;
    let first = plain(&instance).build().unwrap();
    let kind = |cache: CacheBuilder<u64, u64>| cache.build().unwrap_err().kind();
    assert_eq!(kind(plain(&instance)), ErrorKind::Settings);
    drop(first);
    drop(plain(&instance).build().unwrap());
    for name in ["", "Upper", "a__b", "9", "a-b"] {
        assert_eq!(kind(instance.cache(name)), ErrorKind::Settings, "{name:?}");
    }
    let mut settings = Settings::default();
    let mut plain_settings = CacheSettings::default();
    plain_settings.max_bytes = Some(Switch::On(1_000));
    settings.caches.insert("plain".into(), plain_settings);
    let instance = testing::start_on(&LocalBus::default(), settings)
        .await
        .unwrap();
    assert_eq!(kind(plain(&instance)), ErrorKind::Settings);
}

fn settings(vars: &[(&str, &str)]) -> Settings {
    let owned = vars
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    Settings::from_vars(owned).unwrap()
}

#[tokio::test(start_paused = true)]
async fn bytes_for_all_caches_bound_caches_with_a_weigher_and_stop_no_other() {
    let vars = [("UNSTALE_MAX_BYTES", "1MiB")];
    let instance = testing::start_on(&LocalBus::default(), settings(&vars))
        .await
        .unwrap();
    let unbounded = plain(&instance).build().unwrap();
    assert_eq!(unbounded.get(&7).await.unwrap(), Some(7));
    let hidden = instance.health().hidden_settings;
    assert_eq!(hidden.len(), 1, "{hidden:?}");
    assert_eq!(hidden[0].cache, "plain");
    assert_eq!(hidden[0].setting, "UNSTALE_MAX_BYTES");
    assert_eq!(hidden[0].value, "1MiB");
    drop(unbounded);
    assert_eq!(instance.health().hidden_settings, []);

    let bounded = plain(&instance).weigher(|_, _| 2 << 20).build().unwrap();
    bounded.get(&7).await.unwrap();
    assert_eq!(bounded.peek(&7), None, "heavier than all that fits");
    assert_eq!(instance.health().hidden_settings, []);
}

#[tokio::test(start_paused = true)]
async fn weigher_without_a_bound_bounds_nothing_and_a_bound_without_a_weigher_is_refused() {
    let (_bus, instance) = alone().await;
    let weighed = plain(&instance).weigher(|_, _| u64::MAX).build().unwrap();
    weighed.get(&7).await.unwrap();
    assert_eq!(weighed.peek(&7), Some(7));
    drop(weighed);
    let error = plain(&instance).max_bytes(1_000).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    assert!(error.to_string().contains("needs `.weigher("), "{error}");
}

#[tokio::test(start_paused = true)]
async fn variable_that_code_hides_is_listed_in_health_with_what_overrides_code() {
    let vars = [("UNSTALE_TTL", "30s"), ("UNSTALE_LOAD_TIMEOUT", "1s")];
    let instance = testing::start_on(&LocalBus::default(), settings(&vars))
        .await
        .unwrap();
    let cache = plain(&instance).ttl(ms(10_000)).build().unwrap();
    let hidden = instance.health().hidden_settings;
    assert_eq!(hidden.len(), 1, "{hidden:?}");
    assert_eq!(
        (&*hidden[0].setting, &*hidden[0].value),
        ("UNSTALE_TTL", "30s")
    );
    assert!(hidden[0].reason.contains("code sets 10s"), "{hidden:?}");
    assert!(
        hidden[0].reason.contains("UNSTALE_CACHES__PLAIN__TTL"),
        "{hidden:?}"
    );
    drop(cache);
}

/// What is logged on this thread from `info` on, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn defaults_that_have_no_effect_are_logged_once_when_the_cache_is_built() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("info")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let vars = [("UNSTALE_TTL", "30s"), ("UNSTALE_MAX_BYTES", "1MiB")];
    let instance = testing::start_on(&LocalBus::default(), settings(&vars))
        .await
        .unwrap();
    let cache = plain(&instance).ttl(ms(10_000)).build().unwrap();
    for key in 0..10 {
        cache.get(&key).await.unwrap();
    }
    let _ = instance.health();
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let hidden = |line: &&str| line.contains("a default for all caches has no effect");
    let lines: Vec<&str> = text.lines().filter(hidden).collect();
    assert_eq!(lines.len(), 2, "{text}");
    for (setting, reason) in [
        ("UNSTALE_TTL", "code sets 10s"),
        ("UNSTALE_MAX_BYTES", "the cache has no weigher"),
    ] {
        let said = |line: &&&str| line.contains(setting) && line.contains(reason);
        assert_eq!(lines.iter().filter(said).count(), 1, "{setting}: {lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn caches_of_one_name_and_other_keys_drop_everything_of_each_other() {
    let (_bus, _source, a, b) = pair().await;
    let by_number = plain(&a.instance).build().unwrap();
    let by_pair = b
        .instance
        .cache::<(u64, String), u64>("plain")
        .loader(|key: (u64, String)| async move { Ok(key.0) })
        .build()
        .unwrap();
    let key = (7, "seven".to_owned());
    by_pair.get(&key).await.unwrap();
    by_number.invalidate(&1).await.unwrap();
    pass(ms(1)).await;
    assert_eq!(by_pair.peek(&key), None);
}
