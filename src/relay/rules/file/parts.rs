//! The parts of a rule: the columns of its key and of its tags.

use toml::de::DeValue;

use crate::foreign;
use crate::relay::rules::problems::Problems;
use crate::relay::rules::read::Fields;
use crate::relay::rules::{KeyColumn, TagColumn};

const KEY_FIELDS: [&str; 2] = ["column", "optional"];
const TAG_FIELDS: [&str; 2] = ["column", "prefix"];

pub(super) const KEY_EXAMPLE: &str = r#"key = ["id"]"#;
pub(super) const TAGS_EXAMPLE: &str = r#"tags = [{ column = "tenant_id", prefix = "tenant:" }]"#;

pub(super) fn key(fields: &Fields<'_>, problems: &mut Problems) -> Vec<KeyColumn> {
    let mut key: Vec<KeyColumn> = Vec::new();
    for value in fields.list("key", KEY_EXAMPLE, problems) {
        let part = match value.get_ref() {
            DeValue::String(column) if !column.is_empty() => Some(KeyColumn {
                column: column.to_string(),
                optional: false,
            }),
            DeValue::Table(table) => {
                let inner = fields.inner(table);
                inner.only(&KEY_FIELDS, problems);
                let column = inner.needed(
                    "column",
                    r#"{ column = "team", optional = true }"#,
                    problems,
                );
                let optional = inner.flag("optional", problems);
                column.map(|column| KeyColumn {
                    column: column.to_owned(),
                    optional,
                })
            }
            _ => {
                let why = r#"has parts that are a column's name, or { column = "team", optional = true }"#;
                fields.blame(value, "key", why, problems);
                None
            }
        };
        if let Some(part) = &part
            && key.iter().any(|other| other.column == part.column)
        {
            let why = format!("names `{}` twice", foreign::shown(&part.column));
            fields.blame(value, "key", &why, problems);
        }
        key.extend(part);
    }
    key
}

pub(super) fn tags(fields: &Fields<'_>, problems: &mut Problems) -> Vec<TagColumn> {
    let mut tags = Vec::new();
    for value in fields.list("tags", TAGS_EXAMPLE, problems) {
        match value.get_ref() {
            DeValue::String(column) if !column.is_empty() => tags.push(TagColumn {
                column: column.to_string(),
                prefix: String::new(),
            }),
            DeValue::Table(table) => {
                let inner = fields.inner(table);
                inner.only(&TAG_FIELDS, problems);
                let column = inner.needed("column", TAGS_EXAMPLE, problems);
                let prefix = inner.text("prefix", problems).unwrap_or_default();
                tags.extend(column.map(|column| TagColumn {
                    column: column.to_owned(),
                    prefix: prefix.to_owned(),
                }));
            }
            _ => {
                let why = format!("must be a list of columns, as in {TAGS_EXAMPLE}");
                fields.blame(value, "tags", &why, problems);
            }
        }
    }
    tags
}
