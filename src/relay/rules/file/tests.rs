//! Tests of the file of rules.

use super::*;

const WHOLE: &str = r#"
source = "orders"
publication = "pub"

[[rule]]
table = "accounts"
cache = "accounts"
key = ["id"]
tags = [{ column = "tenant_id", prefix = "tenant:" }, "country"]

[[rule]]
table = "sales.members"
cache = "members"
key = ["tenant", { column = "team", optional = true }]

[[rule]]
table = "sales.teams"
cache = "members"
all = true

[[rule]]
table = '"my.schema"."odd ""name"'
cache = "odd"
tags = ["id"]
format = 77
"#;

fn mistakes(text: &str) -> String {
    Rules::parse(text).expect_err("mistakes").to_string()
}

fn with(rule: &str) -> String {
    format!("source = \"orders\"\n[[rule]]\n{rule}\n")
}

#[test]
fn a_whole_file_is_read() {
    let rules = Rules::parse(WHOLE).unwrap();
    assert_eq!((&*rules.source, &*rules.publication), ("orders", "pub"));
    let [accounts, members, teams, odd] = &rules.rules[..] else {
        unreachable!("four rules");
    };
    assert_eq!(accounts.table, TableName::new("public", "accounts"));
    assert_eq!((accounts.number, accounts.line, accounts.format), (1, 5, 1));
    assert_eq!(accounts.columns(), ["id", "tenant_id", "country"]);
    assert_eq!(accounts.tags[0].prefix, "tenant:");
    assert!(members.key[1].optional && !members.key[0].optional);
    assert_eq!((members.format, teams.format), (31 + 33, 64));
    assert!(teams.all && teams.key.is_empty());
    assert_eq!(odd.table, TableName::new("my.schema", "odd \"name"));
    assert_eq!(odd.format, 77);
    assert_eq!(rules.caches().len(), 3);
}

#[test]
fn the_publication_is_named_by_the_source() {
    let rules = Rules::parse(&with("table = \"a\"\ncache = \"a\"\nall = true")).unwrap();
    assert_eq!(rules.publication, "unstale_orders");
}

#[test]
fn one_error_has_every_mistake_with_its_line_and_what_is_right() {
    let error = mistakes(
        "sauce = \"orders\"\n[[rule]]\ntable = \"a.b.c\"\ncache = \"Accounts\"\nkeys = [\"id\"]\n\
         [[rule]]\ntable = 5\nkey = [1, \"a\", \"a\"]\nall = \"yes\"\nformat = -1\n",
    );
    for mistake in [
        "the file: line 1: no such field `sauce`; the nearest is `source`",
        "the file: source is missing: as in source = \"orders\"",
        "rule 1 (line 2): line 5: no such field `keys`; the nearest is `key`",
        "rule 1 (line 2): line 3: table must be a table or schema.table",
        "rule 1 (line 2): line 4: cache is not valid: a cache's name must be",
        "rule 1 (line 2): drops nothing: needs key",
        "rule 2 (line 6): line 7: table must be a text in quotes",
        "rule 2 (line 6): cache is missing: as in cache = \"accounts\"",
        "rule 2 (line 6): line 8: key has parts that are a column's name",
        "rule 2 (line 6): line 8: key names `a` twice",
        "rule 2 (line 6): line 9: all must be true or false",
        "rule 2 (line 6): line 10: format must be a whole number below 2^32",
    ] {
        assert!(error.contains(mistake), "{mistake}\n{error}");
    }
    assert!(error.starts_with("the rules have 12 mistakes:"), "{error}");
}

#[test]
fn a_file_that_is_not_toml_is_reported_with_its_lines() {
    let error = mistakes("source = orders\nrule = [\n");
    assert!(error.contains("not TOML: line 1: "), "{error}");
    assert!(error.lines().count() >= 3, "{error}");
}

#[test]
fn a_rule_drops_something_and_only_one_way() {
    for (rule, why) in [
        ("table = \"a\"\ncache = \"a\"", "drops nothing"),
        ("table = \"a\"\ncache = \"a\"\nall = false", "drops nothing"),
        (
            "table = \"a\"\ncache = \"a\"\nall = true\nkey = [\"id\"]",
            "leave out key and tags",
        ),
        (
            "table = \"a\"\ncache = \"a\"\nkey = []",
            "must be a list that is not empty",
        ),
        (
            "table = \"a\"\ncache = \"a\"\ntags = \"x\"",
            "must be a list that is not empty",
        ),
        (
            "table = \"a\"\ncache = \"a\"\ntags = [1]",
            "must be a list of columns",
        ),
        (
            "table = \"a\"\ncache = \"a\"\ntags = [{ prefix = \"x\" }]",
            "column is missing",
        ),
    ] {
        let error = mistakes(&with(rule));
        assert!(
            error.contains(why) && error.contains(" 1 mistake:"),
            "{error}"
        );
    }
}

#[test]
fn rules_of_one_cache_have_one_format() {
    let error = mistakes(&with(
        "table = \"a\"\ncache = \"a\"\nkey = [\"id\"]\n[[rule]]\ntable = \"b\"\ncache = \"a\"\n\
         key = [\"x\", \"y\"]\n[[rule]]\ntable = \"a\"\ncache = \"a\"\nkey = [\"id\"]",
    ));
    assert!(
        error.contains(
            "rule 2 (line 6: public.b -> a): keys of format 32, and rule 1 has keys of format 1"
        ),
        "{error}"
    );
    assert!(
        error.contains("rule 3 (line 10: public.a -> a): is the same as rule 1"),
        "{error}"
    );
    assert!(error.contains(" 2 mistakes:"), "{error}");
}

#[test]
fn a_file_without_rules_says_nothing() {
    assert!(mistakes("").contains("no rule: at least one [[rule]]"));
    assert!(mistakes("source = \"a\"\nrule = 5").contains("rule must be a list"));
    assert!(mistakes("source = \"a\"\nrule = [5]").contains("must be a table: [[rule]]"));
    let source = mistakes("source = \"A b\"\n[[rule]]\ntable = \"a\"\ncache = \"a\"\nall = true");
    assert!(
        source.contains("line 1: source must be 1 to 48"),
        "{source}"
    );
}

#[test]
fn tables_are_named_as_in_sql() {
    for (text, name) in [
        ("a", Some(("public", "a"))),
        ("s.a", Some(("s", "a"))),
        ("\"S.x\".a", Some(("S.x", "a"))),
        ("s.\"a\"\"b\"", Some(("s", "a\"b"))),
        ("", None),
        (".", None),
        ("a.", None),
        ("a.b.c", None),
        ("\"a", None),
        ("\"\"", None),
        ("a\"b", None),
    ] {
        let name = name.map(|(schema, name)| TableName::new(schema, name));
        assert_eq!(TableName::parse(text), name, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_file_causes_a_panic(
        text: String,
        lines in proptest::collection::vec(
            "(source|table|cache|key|tags|all|format|rule)( = (\"[a-z.]{0,9}\"|true|-?[0-9]{1,12}|\\[[\"a-z{}=, ]{0,12}\\]))?|\\[\\[rule\\]\\]|\\[rule\\]",
            0..12,
        ),
    ) {
        let _ = Rules::parse(&text);
        let _ = Rules::parse(&lines.join("\n"));
    }
}
