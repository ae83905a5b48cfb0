//! What loaders return: values, tags and errors.

use std::error::Error as _;
use std::io;

use unstale::{BoxError, Cache, CacheBuilder, ErrorKind, Loaded, Outcome};

use crate::support::nodes::alone;

/// A query with an error of its own.
async fn find(id: u64) -> io::Result<Option<String>> {
    match id {
        0..10 => Ok(Some(format!("row {id}"))),
        10..20 => Ok(None),
        _ => Err(io::Error::other("no such table: rows")),
    }
}

async fn rows(name: &str) -> CacheBuilder<u64, String> {
    alone().await.1.cache(name)
}

#[tokio::test(start_paused = true)]
async fn a_closure_that_uses_the_question_mark_needs_no_type_of_its_error() {
    let row = || Some("row 1".to_owned());
    let options = rows("options").await;
    let options = options.loader(|id| async move { Ok(find(id).await?) });
    assert_eq!(options.build().unwrap().get(&1).await.unwrap(), row());

    let values = rows("values").await.loader(|id| async move {
        let found = find(id).await?;
        Ok(found.unwrap_or_default())
    });
    assert_eq!(values.build().unwrap().get(&1).await.unwrap(), row());

    let tagged = rows("tagged").await.loader(|id| async move {
        let found = find(id).await?;
        Ok(Loaded::new(found).tag("rows"))
    });
    assert_eq!(tagged.build().unwrap().get(&1).await.unwrap(), row());

    let batches = rows("batches").await.batch_loader(|ids| async move {
        let mut found = Vec::new();
        for id in ids {
            found.push((id, find(id).await?));
        }
        Ok(found)
    });
    let batches = batches.build().unwrap();
    assert_eq!(batches.get_many(&[1, 11]).await.unwrap(), [row(), None]);

    let none = rows("none").await.build().unwrap();
    let own = async { Ok(find(1).await?) };
    assert_eq!(none.get_with(&1, own).await.unwrap(), row());
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_loader_names_its_cache_and_keeps_its_cause() {
    let rows = rows("rows").await;
    let rows = rows.loader(|id| async move { Ok(find(id).await?) });
    let error = rows.build().unwrap().get(&99).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
    assert_eq!(error.to_string(), "the loader of cache \"rows\" failed");
    // What a program prints that returns it from `main`.
    let from_main: BoxError = error.clone().into();
    assert_eq!(
        format!("{from_main:?}"),
        "the loader of cache \"rows\" failed: no such table: rows"
    );
    let source = error.source().unwrap();
    assert!(source.downcast_ref::<io::Error>().is_some());
}

async fn tagged(tags: fn(u64) -> Vec<String>) -> Cache<u64, u64> {
    let cache = alone().await.1.cache::<u64, u64>("tagged");
    let cache = cache.loader(move |id| async move {
        let even = id.is_multiple_of(2).then_some("even");
        Ok(Loaded::new(id).tags(tags(id)).tags(even))
    });
    cache.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn tags_come_from_a_list_and_from_what_only_some_rows_have() {
    let cache = tagged(|id| vec![format!("id-{id}"), "all".to_owned()]).await;
    let outcome = async |id: u64| cache.lookup(&id).await.unwrap().outcome;
    for (tag, dropped) in [("id-1", [1].as_slice()), ("even", &[2]), ("all", &[1, 2])] {
        for id in [1, 2] {
            outcome(id).await;
            assert_eq!(outcome(id).await, Outcome::Hit);
        }
        cache.invalidate_tag(tag).await.unwrap();
        for id in [1, 2] {
            let hit = outcome(id).await == Outcome::Hit;
            assert_eq!(hit, !dropped.contains(&id), "{id} after {tag}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_tag_fails_the_load_and_says_so() {
    let cache = tagged(|_| vec!["all".to_owned(), String::new()]).await;
    let error = cache.get(&1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
    let text = error.to_string();
    assert!(text.contains("\"tagged\" returned an empty tag"), "{text}");
    assert_eq!(cache.stats().entries, 0);
}
