//! The dashboard and the alerts ask for series that exist, with labels that they have.
//!
//! Whether Prometheus accepts them is for `promtool check rules dashboards/alerts.yml`.

mod expression;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use unstale::Settings;
use unstale::metrics::describe;

use expression::Expression;

/// Columns of Grafana's grid.
const COLUMNS: u64 = 24;

fn read(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join("dashboards").join(name)).unwrap()
}

fn overview() -> Value {
    serde_json::from_str(&read("overview.json")).unwrap()
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

/// An expression of the dashboard: right by itself, and narrowed by the variables.
fn check_query(expr: &str) -> Result<Expression, String> {
    let expression = Expression::parse(expr)?;
    for selector in &expression.selectors {
        let per_cache = selector.series.labels().any(|label| label.name == "cache");
        for label in ["job", "instance", "cache"] {
            let narrowed = selector.has(label, "=~", &format!("${label}"));
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

/// Fails with the name of what was wrong.
fn named<T>(name: &str, result: Result<T, String>) -> T {
    result.map_err(|why| format!("{name}: {why}")).unwrap()
}

#[test]
fn every_query_asks_for_what_exists() {
    let overview = overview();
    let mut shown = BTreeSet::new();
    for panel in items(&overview, "/panels") {
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
    for annotation in items(&overview, "/annotations/list") {
        if let Some(expr) = annotation["expr"].as_str() {
            check_query(expr).unwrap();
        }
    }
    let all: BTreeSet<&str> = describe().iter().map(|series| series.name()).collect();
    let missing: Vec<_> = all.difference(&shown).collect();
    assert!(missing.is_empty(), "on no panel: {missing:?}");
}

#[test]
fn every_panel_says_what_it_shows() {
    let overview = overview();
    let panels = items(&overview, "/panels");
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

#[test]
fn no_panel_covers_another() {
    let overview = overview();
    let mut taken = BTreeSet::new();
    for panel in items(&overview, "/panels") {
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

#[test]
fn the_variables_are_filled_from_what_exists() {
    let overview = overview();
    let variables = items(&overview, "/templating/list");
    let names: Vec<_> = variables
        .iter()
        .map(|variable| text(variable, "/name"))
        .collect();
    assert_eq!(names, ["datasource", "job", "instance", "cache"]);
    assert_eq!(text(&variables[0], "/query"), "prometheus");
    for variable in &variables[1..] {
        let query = text(variable, "/query/query");
        let expression = Expression::parse(query).unwrap();
        let label = query.rsplit_once(", ").unwrap().1;
        assert_eq!(label, format!("{})", text(variable, "/name")));
        let series = expression.selectors[0].series;
        let of_cache = series.labels().any(|known| known.name == "cache");
        assert_eq!(of_cache, label == "cache)", "{query}");
    }
    // Imports as it is: nothing to fill in, no identity of another Grafana.
    assert!(overview["id"].is_null() && overview.get("__inputs").is_none());
    assert_eq!(text(&overview, "/uid"), "unstale-overview");
}

/// One rule of `alerts.yml`.
#[derive(Debug, Default)]
struct Alert {
    name: String,
    expr: String,
    severity: String,
    summary: String,
    runbook: String,
}

/// Reads as much of YAML as the file uses: one key a line, `|` for an expression of several.
fn alerts() -> Vec<Alert> {
    let file = read("alerts.yml");
    let mut alerts: Vec<Alert> = Vec::new();
    let mut block = None;
    for line in file.lines() {
        let (indent, line) = (line.len() - line.trim_start().len(), line.trim());
        if block.is_some_and(|block| indent > block) {
            let alert = alerts.last_mut().unwrap();
            alert.expr.push_str(line);
            alert.expr.push(' ');
            continue;
        }
        block = None;
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim().trim_matches('\'').to_owned();
        if key == "- alert" {
            let name = value;
            alerts.push(Alert {
                name,
                ..Alert::default()
            });
            continue;
        }
        let Some(alert) = alerts.last_mut() else {
            continue;
        };
        match key {
            "expr" if value == "|" => block = Some(indent),
            "expr" => alert.expr = value,
            "severity" => alert.severity = value,
            "summary" => alert.summary = value,
            "runbook" => alert.runbook = value,
            _ => {}
        }
    }
    alerts
}

#[test]
fn every_alert_asks_for_what_exists() {
    for alert in alerts() {
        let name = &alert.name;
        let expression = named(name, Expression::parse(&alert.expr));
        assert!(
            !alert.expr.contains('$'),
            "{name}: no dashboard's variables"
        );
        for placeholder in placeholders(&alert.summary) {
            let Some(label) = placeholder.strip_prefix("$labels.") else {
                assert!(placeholder.starts_with("$value"), "{name}: {placeholder}");
                continue;
            };
            let grouped = &expression.grouped;
            let known = if grouped.is_empty() {
                ["job", "instance"].contains(&label)
            } else {
                grouped.contains(label)
            };
            assert!(known, "{name}: {label} is not in the result");
        }
    }
}

#[test]
fn every_alert_has_a_place_in_the_runbook() {
    let alerts = alerts();
    assert!(alerts.len() >= 8, "{alerts:?}");
    let runbook = read("RUNBOOK.md");
    let sections: Vec<_> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    let names: Vec<_> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(sections, names);
    for alert in &alerts {
        let name = &alert.name;
        assert!(
            ["critical", "warning"].contains(&alert.severity.as_str()),
            "{name}"
        );
        assert!(alert.summary.ends_with('.'), "{name}: {}", alert.summary);
        assert_eq!(alert.runbook, format!("RUNBOOK.md#{}", name.to_lowercase()));
    }
}

#[test]
fn the_runbook_names_panels_and_settings_that_exist() {
    let runbook = read("RUNBOOK.md");
    let (mut code, mut prose) = (Vec::new(), String::new());
    for (index, part) in runbook.split('`').enumerate() {
        if index % 2 == 1 {
            code.push(part);
        } else {
            prose.push_str(part);
        }
    }
    let overview = overview();
    let panels = items(&overview, "/panels").iter();
    let titles: BTreeSet<_> = panels.map(|panel| text(panel, "/title")).collect();
    let prose = prose.replace("**", "");
    let named: Vec<_> = prose.split('*').skip(1).step_by(2).collect();
    assert!(named.len() > 5, "{named:?}");
    for panel in named {
        assert!(titles.contains(panel), "{panel}");
    }
    let settings = Settings::default().describe();
    let variables: BTreeSet<_> = settings.iter().map(|s| s.variable.as_str()).collect();
    for name in code.iter().filter(|name| name.starts_with("UNSTALE_")) {
        assert!(variables.contains(name), "{name}");
    }
}
