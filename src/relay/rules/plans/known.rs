//! The tables that the catalog has, as the log will describe them.

use std::collections::HashMap;

use crate::relay::change::{Column, Relation};
use crate::relay::rules::canonical::Form;
use crate::relay::rules::catalog::{self, Catalog, Kind, Table};
use crate::relay::rules::{Rules, TableName};

/// Which rules apply to which table.
#[derive(Debug)]
pub(super) struct Tables {
    by_name: HashMap<TableName, Known>,
    /// The rules whose tables may get rows from one that the catalog does not have yet: a new partition.
    pub(super) open: Vec<usize>,
}

/// A table of the catalog that is published or mapped.
#[derive(Debug)]
pub(super) struct Known {
    oid: u32,
    /// The rules that apply: its own and those of the tables above it.
    pub(super) rules: Vec<usize>,
    /// All columns that the log has, in order; none where no rule applies.
    columns: Vec<KnownColumn>,
}

#[derive(Debug)]
struct KnownColumn {
    name: String,
    type_id: u32,
    type_modifier: i32,
    form: Option<Form>,
}

impl Tables {
    pub(super) fn new(rules: &Rules, catalog: &Catalog) -> Self {
        let of = rules.rules.iter().map(|rule| catalog.table(&rule.table));
        let mapped: Vec<(usize, Option<&Table>)> = of.enumerate().collect();
        let mut by_name = HashMap::new();
        for table in &catalog.tables {
            let applies = |of: &&Table| table.oid == of.oid || table.ancestors.contains(&of.oid);
            let rules = mapped
                .iter()
                .filter(|(_, of)| of.as_ref().is_some_and(applies));
            let columns = table.columns.iter().filter(|column| !column.generated);
            let known = Known {
                oid: table.oid,
                rules: rules.map(|(n, _)| *n).collect(),
                columns: columns.map(KnownColumn::new).collect(),
            };
            if table.published || !known.rules.is_empty() {
                by_name.insert(table.name.clone(), known);
            }
        }
        let has_parts = |of: &Table| {
            catalog
                .tables
                .iter()
                .any(|table| table.ancestors.contains(&of.oid))
        };
        let grows = |of: &&Table| of.kind == Kind::Partitioned || has_parts(of);
        let open = mapped
            .iter()
            .filter(|(_, of)| of.as_ref().is_none_or(grows));
        Self {
            by_name,
            open: open.map(|(n, _)| *n).collect(),
        }
    }

    pub(super) fn get(&self, name: &TableName) -> Option<&Known> {
        self.by_name.get(name)
    }
}

impl Known {
    /// Returns whether the relation is another table than the catalog's, or has other columns.
    pub(super) fn differs(&self, relation: &Relation) -> bool {
        let mut pairs = relation.columns.iter().zip(&self.columns);
        relation.id != self.oid
            || relation.columns.len() != self.columns.len()
            || pairs.any(|(column, known)| !known.is(column))
    }

    /// Returns how the values of the relation's column are written, if it is the catalog's.
    pub(super) fn form(&self, relation: &Relation, index: usize) -> Option<Form> {
        let column = relation.columns.get(index)?;
        self.columns.iter().find(|known| known.is(column))?.form
    }
}

impl KnownColumn {
    fn new(column: &catalog::Column) -> Self {
        Self {
            name: column.name.clone(),
            type_id: column.type_id,
            type_modifier: column.type_modifier,
            form: column.form().ok(),
        }
    }

    fn is(&self, column: &Column) -> bool {
        (&*self.name, self.type_id, self.type_modifier)
            == (&*column.name, column.type_id, column.type_modifier)
    }
}
