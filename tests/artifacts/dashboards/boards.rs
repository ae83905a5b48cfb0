//! What Grafana is given.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use unstale::metrics::describe;

use super::expression::Expression;
use super::{BOARDS, board, boards, folder, is_row, items, named, placeholders, text};
use testkit::python::{run, venv};

/// Columns of Grafana's grid.
const COLUMNS: u64 = 24;

/// Metrics on no panel, and why.
const ON_NO_PANEL: [(&str, &str); 0] = [];

/// An expression of a board: right by itself, and narrowed by the variables.
fn check_query(expr: &str) -> Result<Expression, String> {
    let expression = Expression::parse(expr)?;
    if let Some(recorded) = expression.recorded.first() {
        return Err(format!("{recorded}: a board works without the rules"));
    }
    for selector in &expression.selectors {
        let per_cache = selector.series.labels().any(|label| label.name == "cache");
        for label in ["job", "instance", "cache"] {
            let chosen = format!("${label}");
            // Peers are all instances but the chosen one.
            let narrowed = selector.has(label, "=~", &chosen)
                || label == "instance" && selector.has(label, "!~", &chosen);
            if narrowed != (label != "cache" || per_cache) {
                return Err(format!("{}: ${label}", selector.series.name()));
            }
        }
        let ranges = ["$__rate_interval", "$__range"];
        if let Some(range) = &selector.range
            && !ranges.contains(&range.as_str())
        {
            return Err(format!("a range of {range}"));
        }
    }
    Ok(expression)
}

#[test]
fn every_query_asks_for_what_exists() {
    let mut shown = BTreeSet::new();
    for board in boards() {
        for panel in items(&board, "/panels") {
            for target in items(panel, "/targets") {
                let (title, expr) = (text(panel, "/title"), text(target, "/expr"));
                let expression = named(title, check_query(expr));
                for label in placeholders(text(target, "/legendFormat")) {
                    let grouped = expression.grouped.contains(label);
                    assert!(grouped, "{title}: {label} is not in the result");
                }
                let names = expression.selectors.iter().map(|used| used.series.name());
                shown.extend(names);
            }
        }
        for annotation in items(&board, "/annotations/list") {
            if let Some(expr) = annotation["expr"].as_str() {
                check_query(expr).unwrap();
            }
        }
    }
    for (name, reason) in ON_NO_PANEL {
        assert!(!reason.is_empty() && shown.insert(name), "{name} is shown");
    }
    let all: BTreeSet<&str> = describe().iter().map(|series| series.name()).collect();
    let missing: Vec<_> = all.difference(&shown).collect();
    assert!(missing.is_empty(), "on no panel: {missing:?}");
}

#[test]
fn every_panel_says_what_it_shows() {
    for board in boards() {
        let panels = items(&board, "/panels");
        assert!(panels.len() > 20);
        let mut titles = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in panels {
            let title = text(panel, "/title");
            assert!(!title.is_empty() && titles.insert(title), "title {title:?}");
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: id");
            if is_row(panel) {
                continue;
            }
            assert!(text(panel, "/description").len() > 20, "{title}");
            let unit = text(panel, "/fieldConfig/defaults/unit");
            assert!(!unit.is_empty(), "{title}: unit");
            let targets = items(panel, "/targets");
            let letters: BTreeSet<_> = targets
                .iter()
                .map(|target| text(target, "/refId"))
                .collect();
            assert!(
                !targets.is_empty() && letters.len() == targets.len(),
                "{title}"
            );
            for source in targets.iter().chain([panel]) {
                assert_eq!(text(source, "/datasource/uid"), "${datasource}", "{title}");
            }
        }
    }
}

#[test]
fn no_panel_covers_another() {
    for board in boards() {
        let mut taken = BTreeSet::new();
        for panel in items(&board, "/panels") {
            let title = text(panel, "/title");
            let at = |name: &str| panel["gridPos"][name].as_u64().expect(title);
            let (x, y, w, h) = (at("x"), at("y"), at("w"), at("h"));
            assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{title}");
            let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
            for cell in cells {
                assert!(taken.insert(cell), "{title} covers another panel");
            }
        }
    }
}

#[test]
fn the_variables_are_filled_from_what_exists() {
    let names_of = |board: &Value| -> Vec<String> {
        let variables = items(board, "/templating/list").iter();
        variables.map(|v| text(v, "/name").to_owned()).collect()
    };
    let expected: [&[&str]; 2] = [
        &["datasource", "job", "instance", "cache"],
        &["datasource", "job", "instance", "lane", "cache"],
    ];
    for (file, expected) in BOARDS.into_iter().zip(expected) {
        let board = board(file);
        assert_eq!(names_of(&board), expected);
        let variables = items(&board, "/templating/list");
        assert_eq!(text(&variables[0], "/query"), "prometheus");
        for variable in &variables[1..] {
            let query = text(variable, "/query/query");
            let expression = Expression::parse(query).unwrap();
            let label = query.rsplit_once(", ").unwrap().1;
            assert_eq!(label, format!("{})", text(variable, "/name")));
            let label = label.trim_end_matches(')');
            let series = expression.selectors[0].series;
            let own = series.labels().any(|known| known.name == label);
            assert!(own || ["job", "instance"].contains(&label), "{query}");
        }
        // Imports as it is: nothing to fill in, no identity of another Grafana.
        assert!(board["id"].is_null() && board.get("__inputs").is_none());
        let uid = format!("unstale-{}", file.trim_end_matches(".json"));
        assert_eq!(text(&board, "/uid"), uid);
    }
}

/// Every `$variable` and `${variable}` of a board is one of its own or one of Grafana's.
#[test]
fn every_variable_that_is_used_is_defined() {
    let of_grafana = [
        "__all",
        "__rate_interval",
        "__range",
        "__field.labels.instance",
        "__url_time_range",
    ];
    for board in boards() {
        let variables = items(&board, "/templating/list").iter();
        let own: BTreeSet<_> = variables.map(|v| text(v, "/name")).collect();
        let file = board.to_string();
        for part in file.split('$').skip(1) {
            let part = part.strip_prefix('{').unwrap_or(part);
            let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            let end = part.find(|c| !name(c)).unwrap_or(part.len());
            let name = &part[..end];
            assert!(own.contains(name) || of_grafana.contains(&name), "${name}");
        }
    }
}

#[test]
fn grafana_knows_every_field() {
    let python = venv("deploy/requirements.txt").join("python");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in BOARDS {
        let mut check = Command::new(&python);
        check.arg(root.join("tests/artifacts/dashboards/schema.py"));
        run(check.arg(folder().join(file)), "the board has a fault");
    }
}

/// A board that is edited by hand is lost the next time the script runs.
#[test]
fn the_boards_are_what_the_script_writes() {
    let output = Command::new("python3")
        .arg(folder().join("generate.py"))
        .arg("--check")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output();
    let output = output.expect("these tests need python3: `scripts/install.sh python`");
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{why}");
}
