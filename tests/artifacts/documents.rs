//! What README.md and ARCHITECTURE.md say is what the code does.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use unstale::Settings;
use unstale::metrics::{SeriesKind, describe};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Every Rust file below a folder.
pub(crate) fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// The part of a document between two of its marks.
pub(crate) fn section<'a>(document: &'a str, name: &str) -> &'a str {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let after = document.split_once(&begin).expect("the mark").1;
    after.split_once(&end).expect("the end mark").0
}

#[test]
fn settings_page_lists_every_setting_with_its_default() {
    let mut table = String::from("| variable | default | scope | |\n|---|---|---|---|\n");
    for setting in Settings::default().describe() {
        writeln!(
            table,
            "| `{}` | `{}` | {} | {} |",
            setting.variable, setting.default, setting.scope, setting.help
        )
        .unwrap();
    }
    let page = read("docs/settings.md");
    assert_eq!(
        section(&page, "settings"),
        table,
        "replace the table in docs/settings.md:\n{table}"
    );
}

#[test]
fn metrics_page_lists_every_metric_with_its_labels() {
    let mut table = String::from("| metric | type | labels | |\n|---|---|---|---|\n");
    for series in describe() {
        let kind = match series.kind() {
            SeriesKind::Counter => "counter",
            SeriesKind::Gauge => "gauge",
            _ => "histogram",
        };
        let labels: Vec<_> = series.labels().map(|label| label.name).collect();
        let (name, help) = (series.name(), series.help());
        writeln!(
            table,
            "| `{name}` | {kind} | {} | {help} |",
            labels.join(", ")
        )
        .unwrap();
    }
    let page = read("docs/metrics.md");
    assert_eq!(
        section(&page, "metrics"),
        table,
        "replace the table in docs/metrics.md:\n{table}"
    );
}

#[test]
fn every_test_that_architecture_names_exists() {
    let architecture = read("ARCHITECTURE.md");
    let tests = sources("tests").into_iter().chain(sources("src"));
    let tests = tests.chain(sources("testkit"));
    let code: Vec<_> = tests.map(|(_, text)| text).collect();
    let quoted = architecture.split('`').skip(1).step_by(2);
    // Names of tests are sentences; nothing else in backquotes has that many words.
    let named: BTreeSet<_> = quoted
        .map(|name| name.rsplit("::").next().unwrap_or(name))
        .filter(|name| name.matches('_').count() >= 3)
        .filter(|name| {
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_numeric())
        })
        .filter(|name| !name.starts_with("unstale_"))
        .collect();
    assert!(named.len() > 30, "only {} tests are named", named.len());
    for name in named {
        let function = format!("fn {name}(");
        assert!(
            code.iter().any(|text| text.contains(&function)),
            "there is no test {name}"
        );
    }
}

/// Words of other caches, which the search of the documentation has to find.
#[test]
fn words_of_other_caches_lead_to_an_item() {
    let code: String = sources("src").into_iter().map(|(_, text)| text).collect();
    for word in [
        "time_to_live",
        "weigher",
        "max_capacity",
        "fail_safe",
        "backplane",
        "stampede",
        "eager_refresh",
        "near_cache",
        "expire_after_write",
        "single_flight",
        "get_or_insert_with",
        "try_get_with",
        "get_or_set",
        "get_all",
        "remove",
        "remove_by_tag",
        "l2",
        "distributed_cache",
    ] {
        let alias = format!("#[doc(alias = \"{word}\")]");
        assert_eq!(code.matches(&alias).count(), 1, "{alias}");
    }
}

/// Who may use what, as ARCHITECTURE.md has it.
#[test]
fn every_outside_thing_has_one_home() {
    let homes: [(&str, &[&str]); 10] = [
        ("fred::", &["src/bus/redis"]),
        ("quick_cache::", &["src/store"]),
        ("metrics_exporter_prometheus::", &["src/metrics"]),
        ("std::env", &["src/settings/env.rs", "src/bin/"]),
        (
            "config::{",
            &["src/settings/env.rs", "src/bus/redis", "src/relay/postgres"],
        ),
        ("postgres_protocol::", &["src/relay/postgres"]),
        ("fallible_iterator::", &["src/relay/postgres"]),
        ("socket2::", &["src/relay/postgres", "src/bus/redis"]),
        ("tokio_rustls::", &["src/relay/postgres"]),
        ("toml::", &["src/relay/rules"]),
    ];
    for (file, text) in sources("src") {
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code: String = code.flat_map(|line| [line, "\n"]).collect();
        for (thing, allowed) in homes {
            let at_home = allowed.iter().any(|home| file.starts_with(home));
            assert!(at_home || !code.contains(thing), "{file} uses {thing}");
        }
        let locks = code
            .lines()
            .filter(|line| line.contains("Mutex") || line.contains("RwLock"));
        for line in locks.filter(|_| {
            file != "src/lock.rs" && !file.contains("/tests") && !file.starts_with("src/bin/")
        }) {
            let theirs = !line.contains("std::sync") && !line.contains("parking_lot");
            assert!(
                theirs,
                "{file} has a lock that is not the crate's own: {line}"
            );
        }
        if file.starts_with("src/store") {
            assert!(
                !code.contains(".await") && !code.contains("async "),
                "{file} awaits"
            );
        }
        let pure = [
            "src/coherence/follower",
            "src/coherence/intents.rs",
            "src/coherence/outbox",
            "src/coherence/pace.rs",
            "src/coherence/passed.rs",
            "src/coherence/upkeep.rs",
            "src/event",
        ];
        if pure.iter().any(|part| file.starts_with(part)) {
            assert!(
                !code.contains(".await") && !code.contains("spawn("),
                "{file} does I/O"
            );
        }
    }
}
