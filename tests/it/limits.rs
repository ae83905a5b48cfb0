//! What is refused: keys, tags and caches that break a limit.

use std::io;

use unstale::{CacheBuilder, CacheSettings, ErrorKind, Loaded, LocalBus, Settings, WriteError};
use unstale::{MAX_KEY_BYTES, MAX_TAGS, Outcome, testing};

use crate::store::plain;
use crate::support::nodes::{alone, ms, pair, pass};

#[tokio::test(start_paused = true)]
async fn a_key_over_the_limit_is_refused_everywhere() {
    let (_bus, instance) = alone().await;
    let cache = instance
        .cache::<String, usize>("lengths")
        .loader(|key: String| async move { Ok::<_, io::Error>(key.len()) })
        .build()
        .unwrap();
    let (longest, over) = ("x".repeat(MAX_KEY_BYTES), "x".repeat(MAX_KEY_BYTES + 1));
    assert_eq!(cache.get(&longest).await.unwrap(), Some(MAX_KEY_BYTES));
    let load = async { Ok::<_, io::Error>(1) };
    let commit = async { Ok::<_, io::Error>(()) };
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
async fn too_many_tags_fail_the_load() {
    let (_bus, instance) = alone().await;
    let cache = instance
        .cache::<u64, u64>("tagged")
        .loader(|key: u64| async move {
            let tags = (0..key).map(|tag| tag.to_string());
            Ok::<_, io::Error>(tags.fold(Loaded::new(key), Loaded::tag))
        })
        .build()
        .unwrap();
    let most = MAX_TAGS as u64;
    assert_eq!(cache.get(&most).await.unwrap(), Some(most));
    assert_eq!(
        cache.get(&(most + 1)).await.unwrap_err().kind(),
        ErrorKind::Load
    );
    assert_eq!(cache.stats().entries, 1);
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
    plain_settings.max_bytes = Some(Some(1_000));
    settings.caches.insert("plain".into(), plain_settings);
    let instance = testing::start_on(&LocalBus::default(), settings)
        .await
        .unwrap();
    assert_eq!(kind(plain(&instance)), ErrorKind::Settings);
}

#[tokio::test(start_paused = true)]
async fn caches_of_one_name_and_other_keys_drop_everything_of_each_other() {
    let (_bus, _source, a, b) = pair().await;
    let by_number = plain(&a.instance).build().unwrap();
    let by_pair = b
        .instance
        .cache::<(u64, String), u64>("plain")
        .loader(|key: (u64, String)| async move { Ok::<_, io::Error>(key.0) })
        .build()
        .unwrap();
    let key = (7, "seven".to_owned());
    by_pair.get(&key).await.unwrap();
    by_number.invalidate(&1).await.unwrap();
    pass(ms(1)).await;
    assert_eq!(by_pair.peek(&key), None);
}
