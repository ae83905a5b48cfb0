//! The queries that fill the catalog.
//!
//! They run in the simple protocol, where every result is text, and need no right that not every role has.

mod rows;

use super::quote::literal;
use super::{Rules, TableName};

pub(crate) type Row = Vec<Option<String>>;

/// One for each query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Each<T> {
    pub(crate) server: T,
    pub(crate) publication: T,
    pub(crate) tables: T,
    pub(crate) columns: T,
    pub(crate) indexes: T,
}

const SERVER: &str = include_str!("queries/server.sql");
const PUBLICATION: &str = include_str!("queries/publication.sql");
const TABLES: &str = include_str!("queries/tables.sql");
const COLUMNS: &str = include_str!("queries/columns.sql");
const INDEXES: &str = include_str!("queries/indexes.sql");

/// Returns the queries for these rules. Run them in one transaction (`REPEATABLE READ`), so that they agree.
pub(crate) fn queries(rules: &Rules) -> Each<String> {
    let publication = literal(&rules.publication);
    let pair = |rule: &super::Rule| {
        let TableName { schema, name } = &rule.table;
        format!("({}, {})", literal(schema), literal(name))
    };
    let mut mapped: Vec<String> = rules.rules.iter().map(pair).collect();
    mapped.sort_unstable();
    mapped.dedup();
    // A row that no table is called.
    mapped.push("('', '')".to_owned());
    let mapped = mapped.join(", ");
    let filled = |query: &str| {
        query
            .replace("/*publication*/", &publication)
            .replace("/*mapped*/", &mapped)
    };
    Each {
        server: SERVER.to_owned(),
        publication: filled(PUBLICATION),
        tables: filled(TABLES),
        columns: filled(COLUMNS),
        indexes: filled(INDEXES),
    }
}

#[cfg(test)]
mod tests;
