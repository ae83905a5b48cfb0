//! docs/observability.md has every span with its fields, and no other.

use std::collections::BTreeMap;
use std::fs;

use testkit::built::root;

type Spans = BTreeMap<String, Vec<String>>;

/// The spans of `src/spans.rs`: the name, and what stands before each `=` or comma after it.
fn built() -> Spans {
    let code = fs::read_to_string(root().join("src/spans.rs")).unwrap();
    let calls = code.split("span!(").skip(2);
    let span = |call: &str| {
        let (inside, _) = call.split_once(")\n}").unwrap();
        let mut parts = inside.split(',').map(str::trim);
        let name = parts.next().unwrap().trim_matches('"').to_owned();
        let fields = parts.map(|part| part.split('=').next().unwrap().trim().to_owned());
        (name, fields.filter(|field| !field.is_empty()).collect())
    };
    calls.map(span).collect()
}

fn documented() -> Spans {
    let text = fs::read_to_string(root().join("docs/observability.md")).unwrap();
    let (_, section) = text.split_once("\n## Spans\n").unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let cells: Vec<&str> = row.split('|').collect();
        let fields = cells[2]
            .split(',')
            .map(|field| field.trim().trim_matches('`'));
        let fields = fields.filter(|field| !field.is_empty()).map(str::to_owned);
        (
            cells[0].trim().trim_matches('`').to_owned(),
            fields.collect(),
        )
    };
    rows.map(row).collect()
}

#[test]
fn table_of_spans_has_each_of_them_with_its_fields() {
    let built = built();
    assert!(built.len() > 10, "{built:?}");
    assert_eq!(built, documented());
}
