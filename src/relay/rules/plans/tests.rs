//! Tests of rules against the log's relations.

mod altered;

use super::*;
use crate::key::cache_id;
use crate::relay::change::{Cell, Identity, Old};
use crate::relay::rules::catalog::{Kind, Table};
use crate::relay::rules::tests::{INT8, TEXT, catalog, column, relation, rules, table};
use Cell::Text;

/// No table of these has partitions.
const ACCOUNTS: &str = "[[rule]]\ntable = \"accounts\"\ncache = \"accounts\"\nkey = [\"id\"]";

const RULES: &str = r#"
[[rule]]
table = "accounts"
cache = "accounts"
key = ["id"]
[[rule]]
table = "accounts"
cache = "reports"
all = true
[[rule]]
table = "events"
cache = "events"
key = ["id"]
"#;

/// `accounts`, a table; `events`, with the partition `events_1`; `other`, of no rule.
fn tables() -> Vec<Table> {
    let columns = || vec![column("id", INT8, true), column("name", TEXT, false)];
    let mut events = table(20, "events", columns());
    events.kind = Kind::Partitioned;
    let mut part = table(21, "events_1", columns());
    part.ancestors = vec![20];
    vec![
        table(10, "accounts", columns()),
        events,
        part,
        table(30, "other", Vec::new()),
    ]
}

fn plans() -> Plans {
    Plans::new(rules(RULES), &catalog(tables()))
}

fn apply(plans: &mut Plans, change: &Change<'_>) -> (Seen, Vec<Name>) {
    let mut out = Vec::new();
    let seen = plans.names(change, &mut out).unwrap();
    (seen, out)
}

fn all(cache: &str) -> Name {
    Name::All {
        cache: cache_id(cache),
        format: 1,
    }
}

fn key(cache: &str, key: &str) -> Name {
    Name::Key {
        cache: cache_id(cache),
        format: 1,
        hash: crate::key::tag_hash(key),
    }
}

fn insert(relation: u32) -> Change<'static> {
    Change::Insert {
        relation,
        new: vec![Text(b"42"), Text(b"ada")],
    }
}

fn described(of: &Table) -> Change<'static> {
    Change::Relation(relation(of))
}

#[test]
fn a_row_concerns_every_rule_of_its_table() {
    let mut plans = plans();
    assert_eq!(
        apply(&mut plans, &described(&tables()[0])),
        (Seen::Same, Vec::new())
    );
    let both = vec![key("accounts", "42"), all("reports")];
    assert_eq!(apply(&mut plans, &insert(10)), (Seen::Same, both.clone()));
    let delete = Change::Delete {
        relation: 10,
        old: Old::Key(vec![Text(b"42"), Cell::Null]),
    };
    assert_eq!(apply(&mut plans, &delete).1, both);
    let update = Change::Update {
        relation: 10,
        old: None,
        new: vec![Text(b"42"), Cell::Unchanged],
    };
    assert_eq!(apply(&mut plans, &update).1, both);
}

#[test]
fn partitions_have_the_rules_of_their_root_and_other_tables_none() {
    let mut plans = plans();
    apply(&mut plans, &described(&tables()[2]));
    assert_eq!(apply(&mut plans, &insert(21)).1, [key("events", "42")]);
    assert_eq!(
        apply(&mut plans, &described(&tables()[3])),
        (Seen::Same, Vec::new())
    );
    assert_eq!(apply(&mut plans, &insert(30)).1, []);
}

#[test]
fn truncate_and_what_is_too_large_drop_whole_caches() {
    let mut plans = plans();
    for table in tables() {
        apply(&mut plans, &described(&table));
    }
    let truncate = Change::Truncate {
        relations: vec![10, 21, 30],
    };
    let caches = [all("accounts"), all("reports"), all("events")];
    assert_eq!(apply(&mut plans, &truncate).1, caches);
    let large = Change::TooLarge { relation: 21 };
    assert_eq!(apply(&mut plans, &large).1, [all("events")]);
    let expected = Counts {
        rows: 1,
        truncated: 2,
        large: 1,
        ..Counts::default()
    };
    assert_eq!(plans.counts(), expected);
    assert_eq!(plans.counts(), Counts::default(), "once");
}

#[test]
fn rows_are_counted_with_those_of_tables_that_no_rule_maps() {
    let mut plans = plans();
    for table in tables() {
        apply(&mut plans, &described(&table));
    }
    let without_key = Change::Update {
        relation: 10,
        old: None,
        new: vec![Cell::Unchanged, Text(b"ada")],
    };
    let commit = Change::Commit {
        end: 1,
        committed_at_micros: 0,
    };
    for change in [
        insert(10),
        insert(30),
        insert(30),
        insert(21),
        without_key,
        commit,
    ] {
        apply(&mut plans, &change);
    }
    let expected = Counts {
        commits: 1,
        rows: 5,
        unmapped: 2,
        missing: 1,
        ..Counts::default()
    };
    assert_eq!(plans.counts(), expected);
}

#[test]
fn tables_that_are_altered_and_messages_that_are_none_are_counted() {
    let mut plans = plans();
    let columns = vec![column("id", INT8, true), column("nick", TEXT, false)];
    for (id, name) in [(10, "accounts"), (30, "other")] {
        apply(&mut plans, &described(&table(id, name, columns.clone())));
    }
    let _ = message(&mut plans, "unstale", "[\"d\", \"public\", \"accounts\"]");
    let _ = message(&mut plans, "unstale", "[\"d\", \"public\", \"other\"]");
    let _ = message(&mut plans, "unstale", "[]");
    let _ = message(&mut plans, "others", "[]");
    let counts = plans.counts();
    // `other` may have been a partition, so its message counts.
    assert_eq!((counts.altered, counts.garbled), (3, 1));
}

#[test]
fn rows_of_a_relation_that_was_never_named_drop_every_mapped_cache() {
    let mut plans = plans();
    let mut names = apply(&mut plans, &insert(99)).1;
    names.sort_by_key(|name| format!("{name:?}"));
    let mut mapped: Vec<Name> = plans.all().collect();
    mapped.sort_by_key(|name| format!("{name:?}"));
    assert_eq!((names.len(), names), (3, mapped));
}

fn message(plans: &mut Plans, prefix: &str, content: &str) -> (Result<Seen, Bad>, Vec<Name>) {
    let mut out = Vec::new();
    let change = Change::Message {
        transactional: true,
        prefix,
        content: content.as_bytes(),
    };
    (plans.names(&change, &mut out), out)
}

#[test]
fn messages_of_ours_are_obeyed_and_those_of_others_are_not() {
    let mut plans = plans();
    let (seen, names) = message(&mut plans, "unstale", r#"["k", "accounts", ["42"]]"#);
    assert_eq!((seen, names), (Ok(Seen::Same), vec![key("accounts", "42")]));
    let (seen, names) = message(&mut plans, "other", "[]");
    assert_eq!((seen, names), (Ok(Seen::Same), Vec::new()));
    let (seen, names) = message(&mut plans, "unstale", "[]");
    assert!(seen.is_err());
    assert_eq!(names, [Name::Everything]);
}

#[test]
fn a_table_that_was_altered_without_a_row_drops_its_caches() {
    let mut plans = plans();
    let mut said = |table: &str| {
        let content = format!("[\"d\", \"public\", \"{table}\"]");
        let (seen, names) = message(&mut plans, "unstale", &content);
        (seen.unwrap(), names.len(), names.contains(&all("events")))
    };
    assert_eq!(said("accounts"), (Seen::Recheck, 2, false));
    assert_eq!(said("events"), (Seen::Recheck, 1, true));
    assert_eq!(said("events_1"), (Seen::Recheck, 1, true));
    // A partition that was attached and dropped, perhaps.
    assert_eq!(said("unknown"), (Seen::Recheck, 1, true));
    assert_eq!(said("other"), (Seen::Recheck, 0, false));
}
