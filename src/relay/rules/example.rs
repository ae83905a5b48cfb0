//! What a rule means, shown with a row that is made up: for `unstale relay --check`.

use xxhash_rust::xxh3::xxh3_64;

use super::canonical::{self, Form};
use super::catalog::{Catalog, Column, Table};
use super::encode::Encoder;
use super::{Rule, Rules};
use crate::relay::change::Identity;

/// One rule against the catalog. Where a column is missing, so is what it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) rule: String,
    pub(crate) publication: String,
    /// The tables that have its rows: the name, and the replica identity in words.
    pub(crate) tables: Vec<(String, String)>,
    /// The mapped columns: the name and the type.
    pub(crate) columns: Vec<(String, String)>,
    pub(crate) key: Option<ExampleKey>,
    pub(crate) tags: Vec<ExampleTag>,
    pub(crate) format: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExampleKey {
    /// Each part's canonical text; bytes as `\x` and hexadecimal digits.
    pub(crate) parts: Vec<String>,
    pub(crate) hash: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExampleTag {
    pub(crate) tag: String,
    pub(crate) hash: u64,
}

/// Shows every rule.
pub(crate) fn show(rules: &Rules, catalog: &Catalog) -> Vec<Shown> {
    let one = |rule: &Rule| {
        let table = catalog.table(&rule.table);
        let columns = rule.columns().into_iter();
        let columns = columns.filter_map(|name| table?.column(name));
        let leaves = table.into_iter().flat_map(|table| catalog.leaves(table));
        Shown {
            rule: rule.place(),
            publication: rules.publication.clone(),
            tables: leaves
                .map(|leaf| (leaf.name.to_string(), identity(leaf)))
                .collect(),
            columns: columns
                .map(|column| (column.name.clone(), column.type_name.clone()))
                .collect(),
            key: table.and_then(|table| key(rule, table)),
            tags: table.map(|table| tags(rule, table)).unwrap_or_default(),
            format: rule.format,
        }
    };
    rules.rules.iter().map(one).collect()
}

fn identity(leaf: &Table) -> String {
    let columns: Vec<&str> = leaf.identity_columns().collect();
    let columns = columns.join(", ");
    match leaf.identity {
        Identity::Full => "replica identity full".to_owned(),
        Identity::Nothing => "replica identity nothing".to_owned(),
        Identity::Default if columns.is_empty() => "no primary key".to_owned(),
        Identity::Default => format!("primary key ({columns})"),
        Identity::Index => format!("replica identity index ({columns})"),
    }
}

fn key(rule: &Rule, table: &Table) -> Option<ExampleKey> {
    if rule.key.is_empty() {
        return None;
    }
    let mut encoder = Encoder::default();
    let mut parts = Vec::new();
    for part in &rule.key {
        if part.optional {
            encoder.part(b"1");
            parts.push("1".to_owned());
        }
        let (bytes, shown) = value(table.column(&part.column)?)?;
        encoder.part(&bytes);
        parts.push(shown);
    }
    let hash = encoder.hash()?;
    Some(ExampleKey { parts, hash })
}

fn tags(rule: &Rule, table: &Table) -> Vec<ExampleTag> {
    let tag = |of: &super::TagColumn| {
        let (_, shown) = value(table.column(&of.column)?)?;
        let tag = format!("{}{shown}", of.prefix);
        let hash = xxh3_64(tag.as_bytes());
        Some(ExampleTag { tag, hash })
    };
    rule.tags.iter().filter_map(tag).collect()
}

/// Returns a value of the column's type: its canonical bytes, and what is shown of them.
fn value(column: &Column) -> Option<(Vec<u8>, String)> {
    let form = column.form().ok()?;
    let text = match form {
        Form::Integer => "42",
        Form::Text => column.label.as_deref().unwrap_or("example"),
        Form::Uuid => "67e55044-10b1-426f-9247-bb680e5fe0c8",
        Form::Bool => "t",
        Form::Bytes => "\\x0102",
        Form::Address => "192.0.2.1",
    };
    let mut bytes = Vec::new();
    canonical::write(form, text.as_bytes(), &mut bytes)?;
    let shown = match form {
        Form::Bytes => text.to_owned(),
        _ => String::from_utf8(bytes.clone()).ok()?,
    };
    Some((bytes, shown))
}
