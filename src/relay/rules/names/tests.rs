//! Tests of what a row is called.

use super::*;
use crate::key::tag_hash;
use crate::relay::rules::encode::hash_of;
use crate::relay::rules::tests::rules;
use Cell::{Null, Text, Unchanged};

const RULE: &str = r#"
[[rule]]
table = "accounts"
cache = "accounts"
key = ["id"]
tags = [{ column = "tenant", prefix = "tenant:" }]
"#;

const PAIR: &str = r#"
[[rule]]
table = "accounts"
cache = "accounts"
key = ["id", { column = "tenant", optional = true }]
"#;

/// Columns `id` and `tenant`, of which the log has the old values of those in `identity`.
fn relation(identity: Identity, known: [bool; 2]) -> Relation {
    let column = |(name, identity): (&str, bool)| crate::relay::change::Column {
        name: name.to_owned(),
        type_id: 25,
        type_modifier: -1,
        identity,
    };
    Relation {
        id: 1,
        schema: "public".to_owned(),
        table: "accounts".to_owned(),
        identity,
        columns: ["id", "tenant"]
            .into_iter()
            .zip(known)
            .map(column)
            .collect(),
    }
}

struct Applied {
    plan: Plan,
    whole: bool,
}

fn applied(text: &str, identity: Identity, known: [bool; 2]) -> Applied {
    let rules = rules(text);
    let (plan, whole) = Plan::new(&rules.rules[0], &relation(identity, known), |_| {
        Some(Form::Text)
    });
    Applied { plan, whole }
}

fn full(text: &str) -> Applied {
    applied(text, Identity::Full, [true, true])
}

impl Applied {
    fn insert(&self, new: &[Cell<'_>]) -> Vec<Name> {
        let mut out = Vec::new();
        self.plan.inserted(new, &mut Scratch::default(), &mut out);
        out
    }

    fn update(&self, old: Option<Old<'_>>, new: &[Cell<'_>]) -> Vec<Name> {
        let mut out = Vec::new();
        self.plan
            .updated(old.as_ref(), new, &mut Scratch::default(), &mut out);
        out
    }

    fn delete(&self, old: Old<'_>) -> Vec<Name> {
        let mut out = Vec::new();
        self.plan.deleted(&old, &mut Scratch::default(), &mut out);
        out
    }

    fn key(&self, parts: &[&str]) -> Name {
        Name::Key {
            cache: self.plan.cache,
            format: self.plan.format,
            hash: hash_of(parts.iter().map(|part| part.as_bytes())).unwrap(),
        }
    }

    fn tag(&self, tag: &str) -> Name {
        Name::Tag {
            cache: self.plan.cache,
            format: self.plan.format,
            hash: tag_hash(tag),
        }
    }
}

#[test]
fn a_new_row_drops_its_key_and_its_tags() {
    let plan = full(RULE);
    assert!(plan.whole);
    let names = plan.insert(&[Text(b"42"), Text(b"7")]);
    assert_eq!(names, [plan.key(&["42"]), plan.tag("tenant:7")]);
    assert_eq!(plan.insert(&[Text(b"42"), Null]), [plan.key(&["42"])]);
    assert_eq!(plan.insert(&[Null, Text(b"7")]), [plan.tag("tenant:7")]);
}

#[test]
fn an_updated_row_drops_its_old_and_its_new_names() {
    let plan = full(RULE);
    let old = Old::Full(vec![Text(b"42"), Text(b"7")]);
    let names = plan.update(Some(old), &[Text(b"43"), Text(b"8")]);
    let expected = [
        plan.key(&["43"]),
        plan.tag("tenant:8"),
        plan.key(&["42"]),
        plan.tag("tenant:7"),
    ];
    assert_eq!(names, expected);
}

#[test]
fn without_an_old_image_an_updated_row_drops_its_new_names_only() {
    let plan = applied(RULE, Identity::Index, [true, true]);
    let names = plan.update(None, &[Text(b"42"), Text(b"7")]);
    assert_eq!(names, [plan.key(&["42"]), plan.tag("tenant:7")]);
}

#[test]
fn a_deleted_row_drops_its_old_names() {
    let plan = applied(RULE, Identity::Index, [true, true]);
    let names = plan.delete(Old::Key(vec![Text(b"42"), Text(b"7")]));
    assert_eq!(names, [plan.key(&["42"]), plan.tag("tenant:7")]);
}

#[test]
fn an_unchanged_value_is_that_of_the_old_image_or_the_whole_cache() {
    let plan = full(RULE);
    let old = || Old::Full(vec![Text(b"42"), Text(b"7")]);
    let names = plan.update(Some(old()), &[Unchanged, Unchanged]);
    let once = [plan.key(&["42"]), plan.tag("tenant:7")];
    assert_eq!(names, [once, once].concat());
    let all = plan.plan.all();
    assert!(plan.update(None, &[Unchanged, Text(b"7")]).contains(&all));
    assert!(plan.update(None, &[Text(b"42"), Unchanged]).contains(&all));
    assert!(plan.insert(&[Unchanged, Text(b"7")]).contains(&all));
    let unknown = Old::Full(vec![Unchanged, Text(b"7")]);
    assert!(
        plan.update(Some(unknown.clone()), &[Unchanged, Text(b"7")])
            .contains(&all)
    );
    assert!(plan.delete(unknown).contains(&all));
}

#[test]
fn a_null_in_an_old_key_is_a_column_that_the_log_does_not_have() {
    let plan = full(RULE);
    let all = plan.plan.all();
    assert!(
        plan.delete(Old::Key(vec![Text(b"42"), Null]))
            .contains(&all)
    );
    assert!(
        !plan
            .delete(Old::Full(vec![Text(b"42"), Null]))
            .contains(&all)
    );
}

#[test]
fn outside_the_identity_old_names_are_the_whole_cache() {
    let plan = applied(RULE, Identity::Default, [true, false]);
    assert!(!plan.whole);
    let all = plan.plan.all();
    assert_eq!(plan.insert(&[Text(b"42"), Text(b"7")]).len(), 2);
    assert_eq!(plan.update(None, &[Text(b"42"), Text(b"7")]), [all]);
    assert_eq!(plan.delete(Old::Key(vec![Text(b"42"), Null])), [all]);
}

#[test]
fn a_value_without_canonical_bytes_or_a_row_that_is_short_is_the_whole_cache() {
    let plan = full(RULE);
    let all = plan.plan.all();
    assert!(plan.insert(&[Text(b"\xff"), Text(b"7")]).contains(&all));
    assert!(plan.insert(&[Text(b"42"), Text(b"\xff")]).contains(&all));
    assert!(plan.insert(&[Text(b"42")]).contains(&all));
    assert!(plan.insert(&[]).contains(&all));
    assert!(plan.delete(Old::Key(Vec::new())).contains(&all));
}

#[test]
fn an_option_is_a_part_of_its_own() {
    let plan = full(PAIR);
    assert_eq!(plan.plan.format, 31 + 33);
    let some = plan.insert(&[Text(b"42"), Text(b"7")]);
    assert_eq!(some, [plan.key(&["42", "1", "7"])]);
    assert_eq!(plan.insert(&[Text(b"42"), Null]), [plan.key(&["42", "0"])]);
    assert_eq!(plan.insert(&[Null, Text(b"7")]), []);
}

#[test]
fn a_key_that_is_too_long_is_in_no_cache() {
    let long = vec![b'k'; crate::key::encoder::MAX_KEY_BYTES + 1];
    let plan = full(RULE);
    assert_eq!(
        plan.insert(&[Text(&long), Text(b"7")]),
        [plan.tag("tenant:7")]
    );
}

#[test]
fn a_rule_that_cannot_be_applied_or_says_all_is_the_whole_cache() {
    let rules = rules(RULE);
    let relation = relation(Identity::Full, [true, true]);
    let (plan, whole) = Plan::new(&rules.rules[0], &relation, |index| {
        (index == 0).then_some(Form::Text)
    });
    assert!(!whole);
    let blind = Applied { plan, whole };
    let all = full("[[rule]]\ntable = \"accounts\"\ncache = \"accounts\"\nall = true");
    assert!(all.whole);
    for plan in [blind, all] {
        let whole = [plan.plan.all()];
        assert_eq!(plan.insert(&[Text(b"42"), Text(b"7")]), whole);
        assert_eq!(plan.update(None, &[Text(b"42"), Text(b"7")]), whole);
        assert_eq!(plan.delete(Old::Key(vec![Text(b"42"), Null])), whole);
    }
}
