//! The small programs under `examples/` run, end by themselves, and show what they say they show.

use std::collections::BTreeSet;
use std::fs;

use testkit::built::root;
use testkit::example::shows;

#[tokio::test]
async fn quick_start_misses_hits_and_reads_its_write() {
    let lines = [
        "read:  Some(\"Ada\") (Miss)",
        "read:  Some(\"Ada\") (Hit)",
        "wrote: it was Some(\"Ada\")",
        "read:  Some(\"Ada Lovelace\") (Miss)",
    ];
    shows("quick_start", &[], &[], &lines).await;
}

#[tokio::test]
async fn tags_and_batches_drop_what_they_name() {
    let lines = [
        "loaded: users [1, 2, 3, 4], teams [0, 1]",
        "team 1 renamed: users [2, 4], teams [0, 1]",
        "user 2 left team 0: users [4], teams [1]",
    ];
    shows("tags_and_batch", &[], &[], &lines).await;
}

/// With a database: `tests/relay/messages.rs`.
#[tokio::test]
async fn a_transaction_says_what_it_invalidates() {
    let line = r#"SELECT pg_logical_emit_message(true, 'unstale', '["h",[1095501882,1,0,"1217cb28c0ef2191"]]')"#;
    shows("in_transaction", &[], &[], &[line]).await;
}

#[tokio::test]
async fn a_cancelled_write_reaches_the_peer() {
    let lines = [
        "the reader sees Some(100)",
        "the write was cancelled: true",
        "the reader sees Some(120)",
        "the database said no: out of stock",
    ];
    shows("crash_safe_write", &[], &[], &lines).await;
}

#[tokio::test]
async fn threads_peek_and_invalidate() {
    let lines = [
        "peek 3: Some(9)",
        "peek 4: None",
        "invalidated 2: None",
        "invalidated and loaded 3: Some(9)",
    ];
    shows("blocking_code", &[], &[], &lines).await;
}

#[tokio::test]
async fn a_handler_says_how_it_was_answered() {
    let lines = ["Hello, ada! x-cache: miss", "Hello, ada! x-cache: hit"];
    shows("axum_state", &["--once"], &[], &lines).await;
}

#[tokio::test]
async fn the_second_instance_reads_what_the_first_one_saved() {
    let lines = [
        "100 writes at the first instance, each read at the second: true",
        "and with an invalid cookie: Ada the 99th",
    ];
    shows("read_your_writes", &[], &[], &lines).await;
}

#[tokio::test]
async fn a_lost_message_is_found_out_within_the_bound() {
    let lines = [
        "message lost: the second instance has Some(100)",
        "it found out within 2s: true",
    ];
    shows("your_own_tests", &[], &[], &lines).await;
}

/// The exporter's own form: the last load names the writer.
#[tokio::test]
async fn spans_reach_opentelemetry() {
    let output = shows("opentelemetry", &[], &[], &["Spans"]).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    let of = |name: &str| {
        let spans = shown.split("Span #0").skip(1);
        let named = format!("Name         : {name}\n");
        let spans: Vec<&str> = spans.filter(|span| span.contains(&named)).collect();
        spans
    };
    let (_, writer) = shown.split_once("the writer is instance ").unwrap();
    let writer = writer.split_whitespace().next().unwrap();
    let loads = of("load");
    assert_eq!(loads.len(), 2, "{shown}");
    let has = |span: &str, field: &str, value: &str| {
        assert!(
            span.contains(&format!("{field}: String(Owned(\"{value}\"))")),
            "{field} {value}: {span}"
        );
    };
    has(loads[0], "cause", "cold");
    has(loads[1], "cause", "invalidated");
    has(loads[1], "origin", writer);
    assert!(loads[1].contains("sequence: "), "{shown}");
    for name in ["write", "announce", "commit", "publish", "publication"] {
        assert_eq!(of(name).len(), 1, "{name}: {shown}");
    }
}

#[tokio::test]
async fn an_index_is_right_after_a_message_was_lost() {
    let lines = [
        "tea: {1}",
        "indexed again: one article",
        "tea: {1, 2}",
        "indexed again: all, for a message was lost",
        "tea: {1, 2, 3}",
    ];
    shows("search_index", &[], &[], &lines).await;
}

#[tokio::test]
async fn the_whole_api_works_together() {
    let lines = [
        "UNSTALE_CACHES__NAMES__MAX_STALENESS=5s",
        "in stock: Some(70), loaded: true",
        "in stock: Some(70), loaded: true",
        "after the batch: Some(70)",
        "the statement has no key: true",
        "names: 2 in memory, 0 failed",
        "name: Some(\"EAN 4\")",
        "a key that is too long: true",
        "its id is shown everywhere: true",
        "it hears of Redis: false",
        "stock: 3 misses, 0 hits",
        "a tag is reported, and why a key is not held: true",
        "every histogram has buckets: true",
        "some series have a cause: true",
    ];
    shows("whole_api", &[], &[], &lines).await;
}

/// A file without its comments.
fn code(path: &str) -> String {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| [line, "\n"]).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// The names that `pub use` brings into a module, but those that are hidden.
fn public_names(path: &str) -> BTreeSet<String> {
    let code = code(path);
    let uses = code.split("pub use ").skip(1);
    let uses = uses.map(|rest| rest.split_once(';').unwrap().0);
    let names = uses
        .filter(|used| !used.contains(" as __"))
        .flat_map(|used| {
            let names = used.split_once('{').map_or_else(
                || used.rsplit("::").next().unwrap(),
                |(_, names)| names.trim_end_matches('}'),
            );
            words(names).map(str::to_owned)
        });
    names.collect()
}

/// Every public name is used in the example, beside being imported.
#[test]
fn a_public_name_that_the_whole_api_lacks_fails() {
    let example = code("examples/whole_api.rs");
    let mut names = public_names("src/lib.rs");
    names.extend(public_names("src/metrics.rs"));
    for name in [
        "Cache",
        "KeyRef",
        "SharedTier",
        "histogram_buckets",
        "Label",
    ] {
        assert!(names.contains(name), "{name} is public: {names:?}");
    }
    assert!(names.len() > 30, "{names:?}");
    let missing = names.iter().filter(|name| {
        let uses = words(&example).filter(|word| word == name);
        uses.count() < 2
    });
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn the_whole_api_needs_no_turbofish_and_no_expect() {
    let example = code("examples/whole_api.rs");
    for trap in ["::<", ".expect(", ".unwrap("] {
        assert!(!example.contains(trap), "{trap}");
    }
}
