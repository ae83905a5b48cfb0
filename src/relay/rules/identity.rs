//! The replica identity: which old values of a row the log has, and which the rules need.

use super::catalog::{Catalog, Table};
use super::quote::{self, identifier};
use super::{Rule, Rules};

/// Another mistake says of the other columns that they cannot.
pub(super) fn can_be_known(leaf: &Table, name: &str) -> bool {
    leaf.column(name).is_some_and(|column| !column.generated)
}

/// Returns the SQL that gives a table the replica identity that all its rules together need; `None` where it
/// has it. An index costs less log than `FULL`.
pub(super) fn remedy(rules: &Rules, catalog: &Catalog, leaf: &Table) -> Option<String> {
    let applies = |rule: &&Rule| {
        let of = catalog.table(&rule.table);
        of.is_some_and(|of| of.oid == leaf.oid || leaf.ancestors.contains(&of.oid))
    };
    let needed = rules.rules.iter().filter(applies).flat_map(Rule::columns);
    let needed: Vec<&str> = needed.filter(|name| can_be_known(leaf, name)).collect();
    let known: Vec<&str> = leaf.identity_columns().collect();
    if !known.is_empty() && needed.iter().all(|name| known.contains(name)) {
        return None;
    }
    let name = quote::table(&leaf.name);
    Some(match leaf.index_over(&needed) {
        Some(index) => format!(
            "ALTER TABLE {name} REPLICA IDENTITY USING INDEX {};",
            identifier(&index.name)
        ),
        None => format!("ALTER TABLE {name} REPLICA IDENTITY FULL;"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::rules::catalog::Index;
    use crate::relay::rules::tests::{INT8, TEXT, catalog, column, rules, table};

    #[test]
    fn one_statement_fixes_the_identity_for_all_rules_of_a_table() {
        let rules = rules(
            r#"
[[rule]]
table = "accounts"
cache = "accounts"
key = ["id"]
tags = ["tenant"]
[[rule]]
table = "accounts"
cache = "by_name"
key = ["name"]
"#,
        );
        let columns = [
            ("id", INT8, true),
            ("tenant", TEXT, true),
            ("name", TEXT, false),
        ];
        let columns = columns.map(|(name, of, identity)| column(name, of, identity));
        let mut table = table(10, "accounts", columns.into());
        table.columns[2].nullable = false;
        table.indexes = vec![Index {
            name: "by_name".to_owned(),
            columns: vec!["name".to_owned()],
        }];
        let sql = remedy(&rules, &catalog(vec![table.clone()]), &table);
        let full = "ALTER TABLE \"public\".\"accounts\" REPLICA IDENTITY FULL;";
        assert_eq!(sql.as_deref(), Some(full));
    }
}
