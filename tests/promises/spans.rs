//! Spans: what each says, that they agree with the metrics, and that a hit makes none.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use tokio::time::{advance, sleep, timeout};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, set_default, set_global_default};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use unstale::{Cache, Instance, Loaded, LocalBus, Outcome, Settings, SharedTier, testing};

use crate::support::nodes::{Source, ms, pass};
use crate::support::sharing::Node;

/// One span, with the name of the span that it is in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    name: &'static str,
    parent: Option<&'static str>,
    fields: BTreeMap<&'static str, String>,
    closed: bool,
}

impl Seen {
    pub(crate) fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}").trim_matches('"').to_owned();
        self.fields.insert(field.name(), text);
    }
}

/// Everything of the target `unstale`, in the order in which it was made.
#[derive(Clone, Default)]
pub(crate) struct Spans(Arc<Mutex<Vec<(Id, Seen)>>>);

impl Spans {
    /// Watches the spans of this thread until the guard is dropped.
    pub(crate) fn watch() -> (Self, DefaultGuard) {
        // In all threads: where the first one that meets a span has no subscriber, no other thread is asked.
        static EVERYWHERE: Once = Once::new();
        EVERYWHERE.call_once(|| {
            let _ = set_global_default(tracing_subscriber::registry());
        });
        let spans = Self::default();
        let guard = set_default(tracing_subscriber::registry().with(spans.clone()));
        (spans, guard)
    }

    fn all(&self) -> Vec<Seen> {
        let seen = self.0.lock().unwrap();
        seen.iter().map(|(_, seen)| seen.clone()).collect()
    }

    pub(crate) fn of(&self, name: &str) -> Vec<Seen> {
        let mut all = self.all();
        all.retain(|seen| seen.name == name);
        all
    }

    fn last(&self, name: &str) -> Seen {
        self.of(name).pop().expect(name)
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().target() != "unstale" {
            return;
        }
        let parent = context.span(id).and_then(|span| span.parent());
        let mut seen = Seen {
            name: attributes.metadata().name(),
            parent: parent.map(|parent| parent.name()),
            ..Seen::default()
        };
        attributes.record(&mut seen);
        self.0.lock().unwrap().push((id.clone(), seen));
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, _: Context<'_, S>) {
        let mut all = self.0.lock().unwrap();
        if let Some((_, seen)) = all.iter_mut().rev().find(|(of, _)| of == id) {
            record.record(seen);
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let mut all = self.0.lock().unwrap();
        if let Some((_, seen)) = all.iter_mut().rev().find(|(of, _)| *of == id) {
            seen.closed = true;
        }
    }
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.lanes = 1;
    settings.max_staleness = Some(Duration::from_secs(2));
    settings
}

async fn started(bus: &LocalBus) -> (Instance, Cache<u64, u64>) {
    let instance = testing::start_on(bus, settings()).await.unwrap();
    let cache = instance.cache("rows").ttl(Duration::from_secs(30));
    let cache = cache.loader(async |key: u64| {
        sleep(Duration::from_millis(10)).await;
        match key {
            0..100 => Ok(Loaded::new(key).tag(format!("tag-{}", key % 10))),
            100..200 => Ok(Loaded::new(None)),
            _ => Err("no such row".into()),
        }
    });
    (instance.clone(), cache.build().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_load_says_why_and_how_it_ended_and_a_hit_says_nothing() {
    let (_instance, cache) = started(&LocalBus::default()).await;
    let (spans, _watching) = Spans::watch();
    cache.get(&1).await.unwrap();
    let load = spans.last("load");
    let of = |field| load.get(field).to_owned();
    assert_eq!(
        (of("cache"), of("cause"), of("outcome")),
        ("rows".into(), "cold".into(), "ok".into())
    );
    assert_eq!(
        (of("lane"), of("coalesced"), of("key").len()),
        ("0".into(), "0".into(), 16)
    );
    assert!(load.closed && load.get("origin").is_empty(), "{load:?}");

    let before = spans.all().len();
    for _ in 0..100 {
        assert_eq!(cache.lookup(&1).await.unwrap().outcome, Outcome::Hit);
    }
    assert_eq!(spans.all().len(), before, "a hit makes no span");

    cache.get(&100).await.unwrap();
    assert_eq!(spans.last("load").get("outcome"), "absent");
    cache.get(&200).await.unwrap_err();
    assert_eq!(spans.last("load").get("outcome"), "error");
    advance(Duration::from_secs(31)).await;
    cache.get(&1).await.unwrap();
    assert_eq!(spans.last("load").get("cause"), "expired");
}

#[tokio::test(start_paused = true)]
async fn a_load_names_the_instance_and_the_event_that_made_it_necessary() {
    let bus = LocalBus::default();
    let (_reader, read) = started(&bus).await;
    let (writer, written) = started(&bus).await;
    read.get(&1).await.unwrap();
    let (spans, _watching) = Spans::watch();
    written.invalidate(&1).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(read.lookup(&1).await.unwrap().outcome, Outcome::Miss);
    let (load, event) = (spans.last("load"), spans.last("publication"));
    assert_eq!(load.get("cause"), "invalidated");
    assert_eq!(load.get("origin"), writer.id().to_string());
    for place in ["epoch", "sequence"] {
        assert!(!load.get(place).is_empty(), "{load:?}");
        assert_eq!(load.get(place), event.get(place));
    }
    assert_eq!((event.get("outcome"), event.get("operations")), ("ok", "1"));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_waits_for_another_ones_load_says_so_and_the_load_counts_it() {
    let (_instance, cache) = started(&LocalBus::default()).await;
    let (spans, _watching) = Spans::watch();
    let reads = (0..5).map(|_| cache.get(&1));
    for read in futures(reads).await {
        assert_eq!(read.unwrap(), Some(1));
    }
    assert_eq!(spans.of("load").len(), 1);
    assert_eq!(spans.last("load").get("coalesced"), "4");
    assert_eq!(spans.of("load_wait").len(), 4);
}

/// All at once, on this thread, where the spans are watched.
async fn futures<F: Future>(each: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut each: Vec<_> = each.map(|it| (Box::pin(it), None)).collect();
    std::future::poll_fn(|cx| {
        for (it, done) in &mut each {
            if done.is_none()
                && let std::task::Poll::Ready(output) = it.as_mut().poll(cx)
            {
                *done = Some(output);
            }
        }
        if each.iter().all(|(_, done)| done.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    each.into_iter().map(|(_, done)| done.unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_write_has_its_announcement_its_commit_and_its_publication_in_it() {
    let (_instance, cache) = started(&LocalBus::default()).await;
    let (spans, _watching) = Spans::watch();
    let commit = async { Ok::<_, std::io::Error>(()) };
    cache.write(&1, commit).await.unwrap();
    let write = spans.last("write");
    assert_eq!((write.get("operations"), write.get("outcome")), ("1", "ok"));
    for part in ["announce", "commit", "publish"] {
        assert_eq!(spans.last(part).parent, Some("write"), "{part}");
    }
    let failed = async { Err::<(), _>(std::io::Error::other("no")) };
    cache.write(&1, failed).await.unwrap_err();
    assert_eq!(spans.last("write").get("outcome"), "failed");
    let never = std::future::pending::<Result<(), std::io::Error>>();
    let dropped = timeout(Duration::from_millis(100), cache.write(&1, never));
    dropped.await.unwrap_err();
    assert_eq!(spans.last("write").get("outcome"), "abandoned");
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_shows_as_a_repair() {
    let bus = LocalBus::default();
    let (_reader, read) = started(&bus).await;
    let (_writer, written) = started(&bus).await;
    let lossy = bus.faults(0);
    let (spans, _watching) = Spans::watch();
    read.get(&1).await.unwrap();
    lossy.lose_next(1);
    written.invalidate(&1).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    let repair = spans.last("repair");
    assert_eq!(
        (repair.get("lane"), repair.get("outcome")),
        ("0", "repaired")
    );
    assert_eq!(read.lookup(&1).await.unwrap().outcome, Outcome::Miss);
    assert_eq!(spans.last("load").get("cause"), "invalidated");
}

#[tokio::test(start_paused = true)]
async fn the_shared_tier_is_asked_and_given_the_value_within_the_load() {
    let (bus, source) = (LocalBus::default(), Source::default());
    source.set(1, 10);
    let one = Node::start(&bus, &source, SharedTier::new()).await;
    let other = Node::start(&bus, &source, SharedTier::new()).await;
    let (spans, _watching) = Spans::watch();
    assert_eq!(one.outcome(1).await, Outcome::Miss);
    pass(ms(1)).await;
    let (fetch, store) = (spans.last("tier_fetch"), spans.last("tier_store"));
    assert_eq!(
        (fetch.get("outcome"), fetch.parent),
        ("missing", Some("load"))
    );
    assert_eq!(
        (store.get("outcome"), store.parent),
        ("stored", Some("load"))
    );
    assert_eq!(other.outcome(1).await, Outcome::Tier);
    assert_eq!(spans.last("tier_fetch").get("outcome"), "found");
    assert_eq!(spans.last("load").get("outcome"), "");
}
