//! Checks the rules against the database: every mistake is found before anything is published.

mod server;
#[cfg(test)]
mod tests;

use super::canonical::{Form, TYPES};
use super::catalog::{Catalog, Kind, Table};
use super::identity::{can_be_known, remedy};
use super::problems::{Problems, nearest};
use super::quote::{self, identifier};
use super::{Rule, Rules};
use crate::error::Error;
use crate::foreign;
use crate::relay::change::Identity;

/// Checks every rule, the publication and the server.
///
/// # Errors
///
/// `Settings`, with every mistake, each with what fixes it.
pub(crate) fn check(rules: &Rules, catalog: &Catalog) -> Result<(), Error> {
    let mut problems = Problems::default();
    server::check(catalog, &mut problems);
    server::publication(rules, catalog, &mut problems);
    for rule in &rules.rules {
        one(rule, rules, catalog, &mut problems);
    }
    problems.into_result("the rules and the database have")
}

fn one(rule: &Rule, rules: &Rules, catalog: &Catalog, problems: &mut Problems) {
    let place = rule.place();
    let Some(table) = catalog.table(&rule.table) else {
        let names: Vec<String> = catalog
            .tables
            .iter()
            .map(|table| table.name.to_string())
            .collect();
        let near = nearest(&rule.table.to_string(), names.iter().map(String::as_str));
        problems.report(&place, format!("no such table{near}"));
        return;
    };
    if let Some(kind) = refused(table.kind) {
        let what = format!(
            "is {kind}, which the log does not have: name the tables it reads, each in a rule"
        );
        problems.report(&place, what);
        return;
    }
    columns(rule, table, problems);
    for leaf in catalog.leaves(table) {
        if let Some(kind) = refused(leaf.kind) {
            let what = format!("{} is {kind}, which the log does not have", leaf.name);
            problems.report(&place, what);
        } else if !leaf.logged {
            let sql = format!("ALTER TABLE {} SET LOGGED;", quote::table(&leaf.name));
            let what = format!(
                "{} is unlogged, and no change of it is in the log: {sql}",
                leaf.name
            );
            problems.report(&place, what);
        } else {
            published(&place, leaf, table, rules, catalog, problems);
            identity(rule, leaf, rules, catalog, problems);
        }
    }
}

fn refused(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Table | Kind::Partitioned => None,
        Kind::View => Some("a view"),
        Kind::MaterializedView => Some("a materialized view"),
        Kind::Foreign => Some("a foreign table"),
    }
}

/// The columns exist, are in the log, and have a canonical form.
fn columns(rule: &Rule, table: &Table, problems: &mut Problems) {
    let place = rule.place();
    for name in rule.columns() {
        let shown = foreign::shown(name);
        let Some(column) = table.column(name) else {
            let names = table.columns.iter().map(|column| &*column.name);
            let near = nearest(name, names);
            problems.report(&place, format!("no such column `{shown}`{near}"));
            continue;
        };
        if column.generated {
            let what = format!(
                "column `{shown}` is generated, and the log has no generated columns: name those it \
                 is made of"
            );
            problems.report(&place, what);
        }
        match column.form() {
            Err(why) => {
                problems.report(&place, format!("column `{shown}`: {why}"));
                problems.hint(&format!(
                    "Keys and tags are of {TYPES}; all = true needs no column."
                ));
            }
            Ok(Form::Bytes) if rule.tags.iter().any(|tag| tag.column == name) => {
                let what = format!("column `{shown}` is of bytes, and a tag is text: leave it out");
                problems.report(&place, what);
            }
            Ok(_) => {}
        }
    }
}

/// All changes of the table are published, and all columns.
fn published(
    place: &str,
    leaf: &Table,
    of: &Table,
    rules: &Rules,
    catalog: &Catalog,
    problems: &mut Problems,
) {
    // One mistake says it: that the publication does not exist, or that its tables look like their roots.
    let Some(publication) = &catalog.publication else {
        return;
    };
    if publication.via_root {
        return;
    }
    let name = identifier(&rules.publication);
    if !leaf.published {
        // A root that is added brings its partitions, now and later.
        let whole = if of.kind == Kind::Partitioned {
            of
        } else {
            leaf
        };
        let sql = format!(
            "ALTER PUBLICATION {name} ADD TABLE {};",
            quote::table(&whole.name)
        );
        problems.report(
            place,
            format!("{} is not in the publication: {sql}", leaf.name),
        );
        return;
    }
    let table = quote::table(&leaf.name);
    let again = format!(
        "ALTER PUBLICATION {name} DROP TABLE {table}; ALTER PUBLICATION {name} ADD TABLE {table};"
    );
    if leaf.row_filter {
        let what = format!(
            "the publication has a row filter for {}, and a row outside it changes unseen: {again}",
            leaf.name
        );
        problems.report(place, what);
    }
    if leaf.column_list {
        let what = format!(
            "the publication has a list of columns for {}, and a new column comes unseen: {again}",
            leaf.name
        );
        problems.report(place, what);
    }
}

/// The log has the mapped columns of a row that is updated or deleted.
fn identity(rule: &Rule, leaf: &Table, rules: &Rules, catalog: &Catalog, problems: &mut Problems) {
    let place = rule.place();
    let Some(sql) = remedy(rules, catalog, leaf) else {
        return;
    };
    let known: Vec<&str> = leaf.identity_columns().collect();
    if known.is_empty() {
        let why = match leaf.identity {
            Identity::Nothing => "replica identity NOTHING",
            Identity::Default => "no primary key",
            Identity::Index => "a replica identity whose index is gone",
            Identity::Full => "no column",
        };
        let what = format!(
            "{} has {why}: PostgreSQL refuses UPDATE and DELETE of it once it is published: {sql}",
            leaf.name
        );
        problems.report(&place, what);
        return;
    }
    let mut unknown = rule.columns();
    unknown.retain(|name| can_be_known(leaf, name) && !known.contains(name));
    if !unknown.is_empty() {
        let are = if unknown.len() == 1 { "is" } else { "are" };
        let what = format!(
            "`{}` {are} outside the replica identity of {}, so the log has no old value: {sql}",
            unknown.join("`, `"),
            leaf.name
        );
        problems.report(&place, what);
    }
}
