//! Recording and alert rules, their unit tests, and the runbook.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde_yaml_ng::Value;
use unstale::Settings;

use super::expression::Expression;
use super::{boards, folder, items, named, placeholders, read, text as field};
use testkit::prometheus;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let list = value.get(name).and_then(Value::as_sequence);
    list.map_or(&[], Vec::as_slice)
}

/// The rules of `alerts.yml` that have this key: `alert` or `record`.
fn rules(kind: &str) -> Vec<Value> {
    let file: Value = serde_yaml_ng::from_str(&read("alerts.yml")).unwrap();
    let groups = list(&file, "groups").iter();
    let rules = groups.flat_map(|group| list(group, "rules"));
    rules
        .filter(|rule| rule.get(kind).is_some())
        .cloned()
        .collect()
}

fn annotation<'a>(alert: &'a Value, name: &str) -> &'a str {
    alert.get("annotations").map_or("", |all| text(all, name))
}

#[test]
fn every_rule_asks_for_what_exists() {
    let recorded = rules("record");
    let recorded: BTreeSet<_> = recorded.iter().map(|rule| text(rule, "record")).collect();
    assert!(!recorded.is_empty());
    let mut used = 0;
    for (kind, rule) in ["record", "alert"]
        .into_iter()
        .flat_map(|kind| rules(kind).into_iter().map(move |rule| (kind, rule)))
    {
        let (name, expr) = (text(&rule, kind), text(&rule, "expr"));
        let expression = named(name, Expression::parse(expr));
        assert!(!expr.contains('$'), "{name}: no board's variables");
        for series in &expression.recorded {
            assert!(recorded.contains(series.as_str()), "{name}: {series}");
        }
        used += expression.recorded.len();
        let grouped = &expression.grouped;
        if kind == "record" {
            // The first part of its name says by what it is summed.
            let by = name.split_once(':').unwrap().0;
            assert!(
                by.split('_').all(|label| grouped.contains(label)),
                "{name}: {grouped:?}"
            );
            continue;
        }
        for placeholder in placeholders(annotation(&rule, "summary")) {
            let Some(label) = placeholder.strip_prefix("$labels.") else {
                assert!(placeholder.starts_with("$value"), "{name}: {placeholder}");
                continue;
            };
            let of_recorded = |series: &String| series.split([':', '_']).any(|by| by == label);
            let known = grouped.contains(label)
                || expression.recorded.iter().any(of_recorded)
                || grouped.is_empty() && ["job", "instance"].contains(&label);
            assert!(known, "{name}: {label} is not in the result");
        }
    }
    assert!(used > 0, "no rule uses what another records");
}

#[test]
fn every_alert_has_a_place_in_the_runbook() {
    let alerts = rules("alert");
    assert!(alerts.len() >= 8, "{alerts:?}");
    let runbook = read("RUNBOOK.md");
    let sections: Vec<_> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|section| section.starts_with("Unstale"))
        .collect();
    let names: Vec<_> = alerts.iter().map(|alert| text(alert, "alert")).collect();
    assert_eq!(sections, names);
    for alert in &alerts {
        let name = text(alert, "alert");
        let severity = alert.get("labels").map_or("", |all| text(all, "severity"));
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}"
        );
        let summary = annotation(alert, "summary");
        assert!(summary.ends_with('.'), "{name}: {summary}");
        let runbook = format!("RUNBOOK.md#{}", name.to_lowercase());
        assert_eq!(annotation(alert, "runbook"), runbook);
    }
}

/// A rule that was never seen to fire may never do so, and one that was never seen silent is noise.
#[test]
fn every_alert_is_tested_both_ways() {
    let file: Value = serde_yaml_ng::from_str(&read("alerts_test.yml")).unwrap();
    let tests = list(&file, "tests").iter();
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for test in tests.flat_map(|test| list(test, "alert_rule_test")) {
        let expected = list(test, "exp_alerts");
        let set = if expected.is_empty() {
            &mut silent
        } else {
            &mut fires
        };
        set.insert(text(test, "alertname").to_owned());
    }
    let names: BTreeSet<_> = rules("alert")
        .iter()
        .map(|alert| text(alert, "alert").to_owned())
        .collect();
    assert_eq!(fires, names, "each is seen to fire");
    assert_eq!(silent, names, "each is seen to be silent");
    let tested = read("alerts_test.yml");
    for rule in rules("record") {
        let name = text(&rule, "record");
        let by_itself = tested.contains(name);
        assert!(by_itself || name.ends_with("rate5m"), "{name}");
    }
}

#[test]
fn prometheus_accepts_the_rules_and_their_tests_pass() {
    for arguments in [
        ["check", "rules", "--lint-fatal", "alerts.yml"].as_slice(),
        &["test", "rules", "alerts_test.yml"],
    ] {
        let output = Command::new(prometheus::binary("promtool"))
            .args(arguments)
            .current_dir(folder())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "promtool {arguments:?}: {said}");
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
    let mut titles = BTreeSet::new();
    for board in boards() {
        titles.insert(field(&board, "/title").to_owned());
        for panel in items(&board, "/panels") {
            // What follows a colon says what is good or bad.
            let title = field(panel, "/title").split(": ").next();
            titles.insert(title.unwrap_or("").to_owned());
            // A bar or a line may be named as well.
            let targets = items(panel, "/targets").iter();
            titles.extend(targets.map(|target| field(target, "/legendFormat").to_owned()));
        }
    }
    let prose = prose.replace("**", "");
    let named: Vec<_> = prose.split('*').skip(1).step_by(2).collect();
    assert!(named.len() > 5, "{named:?}");
    for panel in named {
        assert!(titles.contains(panel), "{panel}");
    }
    let settings = Settings::default().describe();
    let variables: BTreeSet<_> = settings.iter().map(|s| s.variable.as_str()).collect();
    for name in code.iter().filter(|name| name.starts_with("UNSTALE_")) {
        let general = name.replace("CACHES__<NAME>__", "");
        assert!(variables.contains(general.as_str()), "{name}");
    }
}
