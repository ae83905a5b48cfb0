//! Tests of the rules against catalogs that are made up.

use super::*;
use crate::relay::rules::catalog::{Column, Index};
use crate::relay::rules::tests::{INT8, TEXT, catalog, column, rules, table};

const RULES: &str = r#"
[[rule]]
table = "accounts"
cache = "accounts"
key = ["id"]
tags = ["tenant"]
"#;

fn accounts() -> Table {
    let mut accounts = table(
        10,
        "accounts",
        vec![column("id", INT8, true), column("tenant", TEXT, true)],
    );
    accounts.columns.push(column("name", TEXT, false));
    accounts
}

/// The mistakes of the rules and a catalog with `accounts` as it was altered.
fn mistakes(alter: impl FnOnce(&mut Catalog)) -> Vec<String> {
    let mut catalog = catalog(vec![accounts()]);
    alter(&mut catalog);
    let error = check(&rules(RULES), &catalog).err();
    let error = error.map(|error| error.to_string()).unwrap_or_default();
    // What is below the mistakes is not indented.
    error
        .lines()
        .filter(|line| line.starts_with(' '))
        .map(|line| line.trim().to_owned())
        .collect()
}

/// The only mistake has these parts.
fn only(alter: impl FnOnce(&mut Catalog), parts: &[&str]) {
    let mistakes = mistakes(alter);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    for part in parts {
        assert!(mistakes[0].contains(part), "{part}\n{mistakes:?}");
    }
}

#[test]
fn rules_that_fit_the_database_have_no_mistake() {
    assert_eq!(mistakes(|_| ()), [""; 0]);
}

#[test]
fn a_slot_that_outlives_the_relay_may_not_fill_the_disk() {
    let unbounded =
        "max_slot_wal_keep_size is -1, and the slot of UNSTALE_RELAY_SLOT fills the disk";
    let remedy = "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'";
    only(
        |catalog| catalog.server.durable_slot = true,
        &[unbounded, remedy],
    );
    let bounded = mistakes(|catalog| {
        catalog.server.durable_slot = true;
        catalog.server.slot_keeps = 64;
    });
    assert_eq!(bounded, [""; 0]);
}

#[test]
fn a_server_that_cannot_be_read_has_a_mistake_for_each_reason() {
    let mistakes = mistakes(|catalog| {
        let server = &mut catalog.server;
        (server.version, server.recovering, server.replicates) = (120_009, true, false);
        server.wal_level = "replica".to_owned();
        (server.free_slots, server.free_senders) = (0, 0);
    });
    for part in [
        "is PostgreSQL 12: needs 13 or later",
        "wal_level is replica: ALTER SYSTEM SET wal_level = logical;",
        "is a replica: connect to the primary",
        "ALTER ROLE \"relay\" REPLICATION;",
        "no replication slot is free",
        "no sender is free",
    ] {
        assert!(
            mistakes.iter().any(|mistake| mistake.contains(part)),
            "{part}\n{mistakes:?}"
        );
    }
    assert_eq!(mistakes.len(), 6, "{mistakes:?}");
}

#[test]
fn a_publication_publishes_everything_of_leaves() {
    only(
        |catalog| catalog.publication = None,
        &[
            "publication \"unstale_orders\": does not exist: CREATE PUBLICATION \"unstale_orders\" FOR TABLE \
             \"public\".\"accounts\" WITH (publish = 'insert, update, delete, truncate');",
        ],
    );
    only(
        |catalog| {
            let publication = catalog.publication.as_mut().unwrap();
            (publication.truncate, publication.delete) = (false, false);
        },
        &["does not publish DELETE, TRUNCATE: ALTER PUBLICATION \"unstale_orders\" SET (publish"],
    );
    only(
        |catalog| catalog.publication.as_mut().unwrap().via_root = true,
        &["SET (publish_via_partition_root = false);"],
    );
    only(
        |catalog| catalog.tables[0].published = false,
        &["ALTER PUBLICATION \"unstale_orders\" ADD TABLE \"public\".\"accounts\";"],
    );
    only(
        |catalog| catalog.tables[0].row_filter = true,
        &["row filter", "DROP TABLE"],
    );
    only(
        |catalog| catalog.tables[0].column_list = true,
        &["list of columns", "ADD TABLE"],
    );
}

#[test]
fn names_that_do_not_exist_have_the_nearest() {
    only(
        |catalog| catalog.tables[0].name.name = "acounts".to_owned(),
        &[
            "rule 1 (line 3: public.accounts -> accounts): no such table; the nearest is `public.acounts`",
        ],
    );
    only(
        |catalog| catalog.tables[0].columns[1].name = "tenants".to_owned(),
        &["no such column `tenant`; the nearest is `tenants`"],
    );
}

#[test]
fn a_table_that_the_log_does_not_have_is_refused() {
    for (kind, name) in [
        (Kind::View, "is a view"),
        (Kind::MaterializedView, "is a materialized view"),
        (Kind::Foreign, "is a foreign table"),
    ] {
        only(|catalog| catalog.tables[0].kind = kind, &[name]);
    }
    only(
        |catalog| catalog.tables[0].logged = false,
        &[
            "unlogged",
            "ALTER TABLE \"public\".\"accounts\" SET LOGGED;",
        ],
    );
    only(
        |catalog| catalog.tables[0].columns[0].generated = true,
        &["`id` is generated"],
    );
}

#[test]
fn a_column_has_a_canonical_form_and_a_tag_is_text() {
    let retyped = |n: usize, id: u32| {
        move |catalog: &mut Catalog| {
            let column: &mut Column = &mut catalog.tables[0].columns[n];
            column.base_id = id;
        }
    };
    only(
        retyped(0, 701),
        &["column `id`: type type 20 has no canonical form"],
    );
    only(
        retyped(1, 17),
        &["column `tenant` is of bytes, and a tag is text"],
    );
    assert_eq!(mistakes(retyped(0, 17)), [""; 0]);
}

#[test]
fn an_old_row_has_the_mapped_columns() {
    let outside = |catalog: &mut Catalog| {
        let tenant = &mut catalog.tables[0].columns[1];
        (tenant.identity, tenant.nullable) = (false, false);
    };
    let full = "ALTER TABLE \"public\".\"accounts\" REPLICA IDENTITY FULL;";
    only(
        outside,
        &[
            "`tenant` is outside the replica identity of public.accounts",
            full,
        ],
    );
    let index = |columns: &[&str]| Index {
        name: "by tenant".to_owned(),
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
    };
    only(
        |catalog| {
            outside(catalog);
            catalog.tables[0].indexes = vec![index(&["id"]), index(&["tenant", "id"])];
        },
        &["ALTER TABLE \"public\".\"accounts\" REPLICA IDENTITY USING INDEX \"by tenant\";"],
    );
    // A column of the index may be null.
    only(
        |catalog| {
            outside(catalog);
            catalog.tables[0].indexes = vec![index(&["tenant", "id", "name"])];
        },
        &[full],
    );
    for (identity, why) in [
        (Identity::Default, "has no primary key"),
        (Identity::Nothing, "has replica identity NOTHING"),
        (Identity::Index, "whose index is gone"),
    ] {
        only(
            |catalog| {
                let table = &mut catalog.tables[0];
                table.identity = identity;
                table
                    .columns
                    .iter_mut()
                    .for_each(|column| column.identity = false);
            },
            &[why, full, "refuses UPDATE and DELETE"],
        );
    }
}

#[test]
fn every_partition_is_checked() {
    let partitioned = |alter: fn(&mut Table)| {
        move |catalog: &mut Catalog| {
            let mut root = accounts();
            root.kind = Kind::Partitioned;
            root.identity = Identity::Nothing;
            let mut part = accounts();
            (part.oid, part.ancestors) = (11, vec![10]);
            part.name.name = "accounts_1".to_owned();
            alter(&mut part);
            catalog.tables = vec![root, part];
        }
    };
    assert_eq!(mistakes(partitioned(|_| ())), [""; 0]);
    only(
        partitioned(|part| part.published = false),
        &[
            "public.accounts_1 is not in the publication",
            "ADD TABLE \"public\".\"accounts\";",
        ],
    );
    only(
        partitioned(|part| part.columns[0].identity = false),
        &["ALTER TABLE \"public\".\"accounts_1\""],
    );
    only(
        partitioned(|part| part.kind = Kind::Foreign),
        &["public.accounts_1 is a foreign table"],
    );
}
