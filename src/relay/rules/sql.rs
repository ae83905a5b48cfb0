//! The SQL that prepares a database for its relay. It can be run again, on PostgreSQL 13 and later.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Catalog;
use super::identity::remedy;
use super::quote::{self, identifier, literal};
use super::{Rules, TableName};

/// What a publication publishes.
pub(crate) const OPERATIONS: &str = "insert, update, delete, truncate";

const FUNCTIONS: &str = include_str!("sql/functions.sql");
const TRIGGERS: &str = include_str!("sql/triggers.sql");

/// What to call the things that are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    pub(crate) role: &'a str,
    /// Where the functions go.
    pub(crate) schema: &'a str,
}

impl Default for Names<'_> {
    fn default() -> Self {
        Self {
            role: "unstale_relay",
            schema: "public",
        }
    }
}

/// Everything that the rules need, to be run by a superuser. With a catalog it has the replica identities.
pub(crate) fn prepare(rules: &Rules, catalog: Option<&Catalog>, names: Names<'_>) -> String {
    let sections = [
        heading(rules),
        identities(rules, catalog),
        publication(rules),
        role(names.role),
        placed(FUNCTIONS, names.schema),
        placed(TRIGGERS, names.schema),
    ];
    sections.join("\n") + "\nCOMMIT;\n"
}

/// Returns the statement that makes a publication.
pub(crate) fn create_publication(name: &str, tables: &[&TableName]) -> String {
    let tables: BTreeSet<String> = tables.iter().map(|table| quote::table(table)).collect();
    let tables: Vec<String> = tables.into_iter().collect();
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = '{OPERATIONS}');",
        identifier(name),
        tables.join(", ")
    )
}

fn heading(rules: &Rules) -> String {
    format!(
        "-- Prepares a database for `unstale relay`, source {}.\n\
         -- wal_level must be logical: ALTER SYSTEM SET wal_level = logical; and restart the server.\n\
         BEGIN;\n",
        rules.source
    )
}

/// Before the publication: PostgreSQL refuses UPDATE and DELETE of a published table without an identity.
fn identities(rules: &Rules, catalog: Option<&Catalog>) -> String {
    let mut text =
        "-- The log has the old key and the old tags of a row that is updated or deleted.\n"
            .to_owned();
    let Some(catalog) = catalog else {
        text.push_str("-- With a database at hand, the statements that are needed are here.\n");
        return text;
    };
    let mut remedies = BTreeMap::new();
    for rule in &rules.rules {
        let Some(table) = catalog.table(&rule.table) else {
            continue;
        };
        for leaf in catalog.leaves(table) {
            if let Some(sql) = remedy(rules, catalog, leaf) {
                remedies.insert(&leaf.name, sql);
            }
        }
    }
    if remedies.is_empty() {
        text.push_str("-- It does already.\n");
    }
    for sql in remedies.values() {
        text.push_str(sql);
        text.push('\n');
    }
    text
}

/// Adds what is missing and takes nothing away: a publication may be of others too.
fn publication(rules: &Rules) -> String {
    let name = identifier(&rules.publication);
    let pubname = literal(&rules.publication);
    let tables: BTreeSet<&TableName> = rules.rules.iter().map(|rule| &rule.table).collect();
    let tables = tables
        .into_iter()
        .map(|table| literal(&quote::table(table)));
    let tables: Vec<String> = tables.collect();
    let body = format!(
        "DECLARE
    mapped regclass;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = {pubname}) THEN
        CREATE PUBLICATION {name};
    END IF;
    FOREACH mapped IN ARRAY ARRAY[
        {}
    ]::regclass[] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication p
                       LEFT JOIN pg_catalog.pg_publication_rel r
                           ON r.prpubid = p.oid AND r.prrelid = mapped
                       WHERE p.pubname = {pubname} AND (p.puballtables OR r.oid IS NOT NULL)) THEN
            EXECUTE pg_catalog.format('ALTER PUBLICATION %I ADD TABLE %s', {pubname}, mapped);
        END IF;
    END LOOP;
END",
        tables.join(",\n        ")
    );
    format!(
        "{}ALTER PUBLICATION {name}\n\
         \x20   SET (publish = '{OPERATIONS}', publish_via_partition_root = false);\n",
        block(&body)
    )
}

/// Reading the log needs neither USAGE of a schema nor SELECT of a table.
fn role(role: &str) -> String {
    let name = identifier(role);
    let body = format!(
        "BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {0}) THEN
        CREATE ROLE {name} LOGIN REPLICATION;
    END IF;
    EXECUTE pg_catalog.format('GRANT CONNECT ON DATABASE %I TO %I', pg_catalog.current_database(), {0});
END",
        literal(role),
    );
    format!(
        "-- The relay's role reads the log, and no table: give it a password, as with \\password {name}\n\
         -- in psql. On Amazon RDS: GRANT rds_replication TO {name}; in place of REPLICATION.\n{}",
        block(&body)
    )
}

/// Returns a block of statements, in quotes that it does not have inside.
fn block(body: &str) -> String {
    let mut quotes = "$unstale$".to_owned();
    while body.contains(&quotes) {
        quotes.insert(1, '_');
    }
    format!("DO {quotes}\n{body} {quotes};\n")
}

fn placed(sql: &str, schema: &str) -> String {
    sql.replace("/*schema*/", &identifier(schema))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(table: &str) -> Rules {
        let text = format!(
            "source = \"orders\"\npublication = \"it's\"\n\
             [[rule]]\ntable = '''{table}'''\ncache = \"a\"\nkey = [\"id\"]"
        );
        Rules::parse(&text).unwrap()
    }

    #[test]
    fn every_name_is_quoted() {
        let names = Names {
            role: "re%l'ay\"",
            schema: "My Schema",
        };
        let sql = prepare(&rules("\"o'o\".\"$unstale$\""), None, names);
        for part in [
            "pubname = 'it''s'",
            "CREATE PUBLICATION \"it's\";",
            "'\"o''o\".\"$unstale$\"'\n    ]::regclass[]",
            "DO $_unstale$\nDECLARE",
            "CREATE ROLE \"re%l'ay\"\"\" LOGIN REPLICATION;",
            "pg_catalog.current_database(), 're%l''ay\"');",
            "FUNCTION \"My Schema\".unstale_invalidate(",
        ] {
            assert!(sql.contains(part), "{part}\n{sql}");
        }
        assert!(!sql.contains("/*"), "{sql}");
    }

    #[test]
    fn the_sql_is_one_transaction_with_identities_before_the_publication() {
        let sql = prepare(&rules("a"), None, Names::default());
        assert_eq!(
            (
                sql.matches("\nBEGIN;").count(),
                sql.matches("\nCOMMIT;").count()
            ),
            (1, 1)
        );
        assert!(sql.find("-- The log has the old key") < sql.find("CREATE PUBLICATION"));
    }
}
