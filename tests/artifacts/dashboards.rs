//! What operators see is true: the boards and the rules ask for series that exist and say what they
//! show, and a real Prometheus answers every one of their queries.
//!
//! - `boards`: what Grafana is given, and that every metric is on a panel;
//! - `rules`: alerts, their unit tests by promtool, and the runbook's names;
//! - `runbook`: what the runbook has operators run;
//! - `live`: every query, by a real Prometheus that scrapes a real fleet in trouble;
//! - `expression`: as much of PromQL as it takes to check names, labels and their use.

mod boards;
mod expression;
mod live;
mod rules;
mod runbook;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Both boards, by file.
const BOARDS: [&str; 2] = ["overview.json", "incident.json"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

fn board(name: &str) -> Value {
    serde_json::from_str(&read(name)).unwrap()
}

fn boards() -> impl Iterator<Item = Value> {
    BOARDS.into_iter().map(board)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let items = value.pointer(pointer).and_then(Value::as_array);
    items.map_or(&[], Vec::as_slice)
}

fn is_row(panel: &Value) -> bool {
    text(panel, "/type") == "row"
}

/// The names in `{{name}}`.
fn placeholders(text: &str) -> Vec<&str> {
    let parts = text.split("{{").skip(1);
    parts
        .filter_map(|part| Some(part.split_once("}}")?.0.trim()))
        .collect()
}

/// Fails with the name of what was wrong.
fn named<T>(name: &str, result: Result<T, String>) -> T {
    result.map_err(|why| format!("{name}: {why}")).unwrap()
}
