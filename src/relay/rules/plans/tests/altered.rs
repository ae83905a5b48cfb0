//! Tests of tables that change while the log is read.

use super::*;

#[test]
fn an_altered_table_drops_its_caches_and_its_rules_go_on() {
    let mut plans = Plans::new(rules(ACCOUNTS), &catalog(tables()));
    let mut accounts = tables().remove(0);
    apply(&mut plans, &described(&accounts));
    accounts.columns.push(column("added", TEXT, false));
    let (seen, names) = apply(&mut plans, &described(&accounts));
    assert_eq!(seen, Seen::Altered);
    assert!(names.contains(&all("accounts")));
    assert_eq!(
        apply(&mut plans, &described(&accounts)),
        (Seen::Same, Vec::new())
    );
    assert!(
        apply(&mut plans, &insert(10))
            .1
            .contains(&key("accounts", "42"))
    );
}

#[test]
fn a_table_that_was_altered_after_the_catalog_was_read_is_noticed_at_once() {
    let mut accounts = tables().remove(0);
    accounts.columns.push(column("added", TEXT, false));
    let (seen, names) = apply(&mut plans(), &described(&accounts));
    assert_eq!(seen, Seen::Altered);
    assert_eq!(names, [all("accounts"), all("reports")]);
    // Another table of the same name and columns.
    let mut swapped = tables().remove(0);
    swapped.oid = 11;
    let (seen, names) = apply(&mut plans(), &described(&swapped));
    assert_eq!((seen, names.len()), (Seen::Altered, 2));
}

#[test]
fn a_mapped_column_that_changes_makes_the_rule_drop_its_cache_until_it_is_checked() {
    type Alter = fn(&mut Table);
    let alters: [Alter; 3] = [
        |accounts| accounts.columns[0].name = "number".to_owned(),
        |accounts| accounts.columns[0].type_id = TEXT,
        |accounts| accounts.columns[0].identity = false,
    ];
    for alter in alters {
        let mut plans = plans();
        let mut now = tables();
        apply(&mut plans, &described(&now[0]));
        alter(&mut now[0]);
        let (seen, names) = apply(&mut plans, &described(&now[0]));
        assert_eq!(seen, Seen::Recheck);
        assert!(names.contains(&all("accounts")));
        let update = Change::Update {
            relation: 10,
            old: None,
            new: vec![Text(b"42"), Text(b"ada")],
        };
        assert_eq!(
            apply(&mut plans, &update).1,
            [all("accounts"), all("reports")]
        );
        // A catalog that is as it was does not help; one in which the column is back does.
        assert!(
            !plans.recheck(&catalog(now.clone()), &mut Vec::new())
                || now[0].columns[0].type_id == TEXT
        );
    }
    let mut plans = plans();
    let mut now = tables();
    apply(&mut plans, &described(&now[0]));
    now[0].columns[0].type_id = TEXT;
    now[0].columns[0].base_id = TEXT;
    assert_eq!(apply(&mut plans, &described(&now[0])).0, Seen::Recheck);
    assert!(plans.recheck(&catalog(now), &mut Vec::new()));
    assert!(
        apply(&mut plans, &insert(10))
            .1
            .contains(&key("accounts", "42"))
    );
}

#[test]
fn a_table_that_was_renamed_is_checked_again() {
    let mut plans = plans();
    let mut accounts = tables().remove(0);
    apply(&mut plans, &described(&accounts));
    accounts.name.name = "accounts_old".to_owned();
    let (seen, names) = apply(&mut plans, &described(&accounts));
    assert_eq!(seen, Seen::Recheck);
    assert!(names.contains(&all("accounts")) && names.contains(&all("reports")));
}

#[test]
fn a_new_table_may_be_a_partition_until_the_catalog_says_what_it_is() {
    let mut plans = plans();
    let columns = vec![column("id", INT8, true), column("name", TEXT, false)];
    let mut part = table(22, "events_2", columns);
    let (seen, names) = apply(&mut plans, &described(&part));
    assert_eq!((seen, names), (Seen::Recheck, vec![all("events")]));
    assert_eq!(apply(&mut plans, &insert(22)).1, [all("events")]);
    part.ancestors = vec![20];
    let mut now = tables();
    now.push(part);
    assert!(plans.recheck(&catalog(now), &mut Vec::new()));
    assert_eq!(apply(&mut plans, &insert(22)).1, [key("events", "42")]);
}

#[test]
fn a_table_that_becomes_a_partition_drops_the_cache() {
    let mut plans = plans();
    let mut now = tables();
    now[3].columns = now[2].columns.clone();
    let mut out = Vec::new();
    assert!(plans.recheck(&catalog(now.clone()), &mut out) && out.is_empty());
    apply(&mut plans, &described(&now[3]));
    // It is described again, as before.
    assert_eq!(
        apply(&mut plans, &described(&now[3])),
        (Seen::Recheck, Vec::new())
    );
    assert!(plans.recheck(&catalog(now.clone()), &mut out) && out.is_empty());
    now[3].ancestors = vec![20];
    assert!(plans.recheck(&catalog(now), &mut out));
    assert_eq!(out, [all("events")]);
    assert_eq!(apply(&mut plans, &insert(30)).1, [key("events", "42")]);
}

#[test]
fn without_partitions_no_other_table_matters() {
    let mut plans = Plans::new(rules(ACCOUNTS), &catalog(tables()));
    let new = table(40, "new", vec![column("id", INT8, true)]);
    for _ in 0..2 {
        assert_eq!(
            apply(&mut plans, &described(&new)),
            (Seen::Same, Vec::new())
        );
    }
    assert_eq!(apply(&mut plans, &insert(40)).1, []);
}

#[test]
fn a_relation_without_an_old_image_of_a_mapped_column_is_the_whole_cache() {
    let mut now = tables();
    now[0].identity = Identity::Nothing;
    now[0].columns[0].identity = false;
    let (seen, names) = apply(&mut plans(), &described(&now[0]));
    assert_eq!(seen, Seen::Recheck);
    assert!(names.contains(&all("accounts")));
}
