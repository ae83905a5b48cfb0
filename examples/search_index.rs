//! A search index beside a cache, kept right by what the instance invalidates, through lost messages.
//!
//! ```sh
//! cargo run --example search_index --features test-util
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::sleep;
use unstale::{BoxError, Cache, Instance, Invalidations, KeyHash, LocalBus, Scope, Settings};

/// The source of truth: articles by their ids.
#[derive(Clone, Default)]
struct Database(Arc<Mutex<BTreeMap<u64, String>>>);

impl Database {
    fn put(&self, id: u64, text: &str) {
        let mut articles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        articles.insert(id, text.to_owned());
    }

    fn all(&self) -> BTreeMap<u64, String> {
        let articles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        articles.clone()
    }
}

/// Which articles have a word.
#[derive(Default)]
struct Index {
    articles: HashMap<u64, String>,
    /// An invalidation names a key by its hash.
    ids: HashMap<KeyHash, u64>,
}

impl Index {
    fn put(&mut self, id: u64, text: Option<String>) {
        match text {
            Some(text) => drop(self.articles.insert(id, text)),
            None => drop(self.articles.remove(&id)),
        }
        self.ids.extend(KeyHash::of(&id).map(|hash| (hash, id)));
    }

    fn find(&self, word: &str) -> BTreeSet<u64> {
        let has = |text: &str| text.split(' ').any(|it| it == word);
        let found = self.articles.iter().filter(|(_, text)| has(text));
        found.map(|(id, _)| *id).collect()
    }
}

type Shared = Arc<Mutex<Index>>;

/// Follows the invalidations until the instance shuts down.
async fn follow(
    mut reported: Invalidations,
    index: Shared,
    articles: Cache<u64, String>,
    database: Database,
) -> Result<(), BoxError> {
    while let Some(invalidation) = reported.next().await {
        println!("indexed again: {}", kind(&invalidation.scope));
        let lock = || index.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match invalidation.scope {
            Scope::Key(hash) => lock().ids.get(&hash).copied(),
            // A lane, a lag: everything may have changed.
            _ => None,
        };
        // A key that the index does not know is a new article.
        let ids = known.map_or_else(|| database.all().into_keys().collect(), |id| vec![id]);
        for id in ids {
            let text = articles.get(&id).await?;
            lock().put(id, text);
        }
    }
    Ok(())
}

fn kind(scope: &Scope) -> &'static str {
    match scope {
        Scope::Key(_) => "one article",
        Scope::Lane { .. } => "all, for a message was lost",
        _ => "all",
    }
}

fn articles(instance: &Instance, database: &Database) -> Result<Cache<u64, String>, BoxError> {
    let database = database.clone();
    let loader = move |id: u64| {
        let text = database.all().remove(&id);
        async move { Ok(text) }
    };
    Ok(instance.cache("articles").loader(loader).build()?)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), BoxError> {
    let settings = Settings::default();
    let bound = settings.max_staleness.ok_or("it is on by default")?;
    let (bus, database) = (LocalBus::default(), Database::default());
    database.put(1, "green tea");
    database.put(2, "black coffee");
    let writer = unstale::testing::start_on(&bus, settings.clone()).await?;
    let reader = unstale::testing::start_on(&bus, settings).await?;
    let (at_writer, at_reader) = (articles(&writer, &database)?, articles(&reader, &database)?);

    // Listen first, then read: what changes meanwhile is indexed again.
    let (reported, index) = (at_reader.invalidations(), Shared::default());
    for (id, text) in database.all() {
        let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
        index.put(id, Some(text));
    }
    let following = follow(reported, index.clone(), at_reader.clone(), database.clone());
    let following = tokio::spawn(following);
    let find = |word| {
        let index = index.lock().unwrap_or_else(PoisonError::into_inner);
        index.find(word)
    };
    println!("tea: {:?}", find("tea"));

    database.put(2, "black tea");
    at_writer.invalidate(&2).await?;
    sleep(bound).await;
    println!("tea: {:?}", find("tea"));
    assert_eq!(find("tea"), BTreeSet::from([1, 2]));

    // The reader never hears of this change, and nothing can supply it.
    bus.faults(1).lose_next(1);
    database.put(3, "iced tea");
    at_writer.invalidate(&3).await?;
    bus.drop_journal();
    sleep(bound).await;
    println!("tea: {:?}", find("tea"));
    assert_eq!(find("tea"), BTreeSet::from([1, 2, 3]));

    writer.shutdown().await?;
    reader.shutdown().await?;
    following.await?
}
