//! Rules: which rows of the database belong to which entries of which cache.

pub(crate) mod canonical;
pub(crate) mod catalog;
pub(crate) mod check;
pub(crate) mod encode;
pub(crate) mod example;
mod file;
pub(crate) mod gathered;
mod identity;
pub(crate) mod names;
pub(crate) mod plans;
mod problems;
pub(crate) mod queries;
mod quote;
mod read;
pub(crate) mod sql;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use crate::key::cache_id;

use encode::{FORMAT, fold, optional};

/// The rules of one source, as its file has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What a cache calls it: `.source("orders")`.
    pub(crate) source: String,
    pub(crate) publication: String,
    /// In the order of the file; never none.
    pub(crate) rules: Vec<Rule>,
}

/// What a row of one table says of one cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Its place in the file: its number from 1, and its line.
    pub(crate) number: usize,
    pub(crate) line: usize,
    pub(crate) table: TableName,
    pub(crate) cache: String,
    /// The columns of the key, in its order; none where the rule names no key.
    pub(crate) key: Vec<KeyColumn>,
    pub(crate) tags: Vec<TagColumn>,
    /// Any change drops the whole cache.
    pub(crate) all: bool,
    /// The format of the cache's keys: all rules of a cache have the same one.
    pub(crate) format: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TableName {
    pub(crate) schema: String,
    pub(crate) name: String,
}

impl TableName {
    pub(crate) fn new(schema: &str, name: &str) -> Self {
        Self {
            schema: schema.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyColumn {
    pub(crate) column: String,
    /// An `Option` in the key's type. Without it a row with a null here has no key.
    pub(crate) optional: bool,
}

/// One tag: the prefix, and then the column's canonical text. A null has no tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagColumn {
    pub(crate) column: String,
    pub(crate) prefix: String,
}

impl Rule {
    /// Returns the columns it reads, each once.
    pub(crate) fn columns(&self) -> Vec<&str> {
        let key = self.key.iter().map(|part| &*part.column);
        let tags = self.tags.iter().map(|tag| &*tag.column);
        let mut columns: Vec<&str> = Vec::new();
        for column in key.chain(tags) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        columns
    }

    /// Returns what an error calls it.
    pub(crate) fn place(&self) -> String {
        format!(
            "rule {} (line {}: {} -> {})",
            self.number, self.line, self.table, self.cache
        )
    }

    /// Returns the fewest and the most parts that its key can have.
    fn parts(&self) -> (usize, usize) {
        let options = self.key.iter().filter(|part| part.optional).count();
        (self.key.len(), self.key.len() + options)
    }
}

impl Rules {
    /// Returns the ids of all mapped caches, each with its format, in the order of the ids.
    pub(crate) fn caches(&self) -> Vec<(u32, u32)> {
        let by_id = self.rules.iter();
        let by_id: BTreeMap<u32, u32> = by_id
            .map(|rule| (cache_id(&rule.cache), rule.format))
            .collect();
        by_id.into_iter().collect()
    }

    /// Returns the format of a cache's tags and of the cache as a whole; 1 where no rule knows the cache.
    pub(crate) fn format_of(&self, cache: &str) -> u32 {
        let rule = self.rules.iter().find(|rule| rule.cache == cache);
        rule.map_or(FORMAT, |rule| rule.format)
    }

    /// Returns the format of a key of so many parts that a message names.
    ///
    /// A key that none of the cache's rules could make gets the format of its own number of parts:
    /// instances whose cache has another format drop the whole cache instead of nothing.
    pub(crate) fn format_of_key(&self, cache: &str, parts: usize) -> u32 {
        let mut of_cache = self.rules.iter().filter(|rule| rule.cache == cache);
        let fits = of_cache.find(|rule| {
            let (fewest, most) = rule.parts();
            !rule.key.is_empty() && (fewest..=most).contains(&parts)
        });
        fits.map_or_else(|| format_of_parts(parts), |rule| rule.format)
    }
}

/// Returns the format of a key of so many plain parts.
pub(crate) fn format_of_parts(parts: usize) -> u32 {
    if parts <= 1 {
        return FORMAT;
    }
    fold((0..parts).map(|_| FORMAT))
}

/// Returns the format of a key of these columns.
pub(crate) fn format_of_columns(key: &[KeyColumn]) -> u32 {
    let of = |part: &KeyColumn| {
        if part.optional {
            optional(FORMAT)
        } else {
            FORMAT
        }
    };
    match key {
        [] => FORMAT,
        [part] => of(part),
        parts => fold(parts.iter().map(of)),
    }
}
