//! What a transaction says to the relay itself, by a message in the log.
//!
//! `pg_logical_emit_message` writes it. The prefix is `unstale`, the content a JSON array:
//!
//! | content | invalidates |
//! |---|---|
//! | `["k", cache, [part, ...]]` | the key of these parts, each as its canonical text |
//! | `["k", cache, [part, ...], format]` | the same, where the key type's format is another |
//! | `["t", cache, tag]`, `["t", cache, tag, format]` | what has the tag |
//! | `["a", cache]` | the whole cache |
//! | `["h", [cache, format, kind, hashes], ...]` | what the operations of an event with these elements do; see [`hashed`] |
//! | `["d", schema, table]` | the caches of a table that was altered or dropped |

mod hashed;

use std::fmt;

use serde_json::Value;

use self::hashed::Hashed;
use super::rules::Rules;
use super::rules::encode::hash_of;
use super::rules::names::Name;
use crate::event::{Op, What};
use crate::key::encoder::MAX_KEY_BYTES;
use crate::key::{cache_id, tag_hash};
use crate::settings::check_cache_name;

/// What `pg_logical_emit_message` has as its prefix.
pub(crate) const PREFIX: &str = "unstale";

/// Longest content of names: JSON writes a byte of the longest key in six bytes at most.
const LONGEST: usize = 8 * MAX_KEY_BYTES;

/// Most parts of a key, far more than any type has.
const MOST_PARTS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Key {
        cache: String,
        parts: Vec<String>,
        format: Option<u32>,
    },
    Tag {
        cache: String,
        tag: String,
        format: Option<u32>,
    },
    All {
        cache: String,
    },
    /// What a program has hashed itself.
    Hashed(Vec<Op>),
    Altered {
        schema: String,
        table: String,
    },
}

/// A content that is none of these. It has no byte of the content, which may be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad(&'static str);

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a message of prefix `{PREFIX}` is not understood: {}",
            self.0
        )
    }
}

impl std::error::Error for Bad {}

const NOT_KNOWN: Bad =
    Bad("it must begin with k, t, a, h or d, and have the elements of that kind");
const NO_HASHES: Bad = Bad("operations are cache, format, kind and 16 digits of each hash");
const NO_CACHE: Bad = Bad("no cache can have this name");
const NO_TEXT: Bad = Bad("texts are to be in quotes");
const NO_FORMAT: Bad = Bad("a format is a whole number below 2^32");

/// Reads the content of a message.
///
/// # Errors
///
/// What is wrong with it: the caller drops all caches, since one of them was meant.
pub(crate) fn parse(content: &[u8]) -> Result<Said, Bad> {
    if let Some(Hashed(ops)) = Hashed::parse(content) {
        return Ok(Said::Hashed(ops));
    }
    if content.len() > LONGEST {
        return Err(Bad("it is too long"));
    }
    let value: Value = serde_json::from_slice(content).map_err(|_| Bad("it is not JSON"))?;
    let Value::Array(members) = value else {
        return Err(Bad("it is not a JSON array"));
    };
    let (kind, rest) = members.split_first().ok_or(NOT_KNOWN)?;
    match (kind.as_str(), rest) {
        (Some("k"), [cache, parts, rest @ ..]) => Ok(Said::Key {
            cache: name(cache)?,
            parts: texts(parts)?,
            format: format(rest)?,
        }),
        (Some("t"), [cache, tag, rest @ ..]) => Ok(Said::Tag {
            cache: name(cache)?,
            tag: text(tag)?,
            format: format(rest)?,
        }),
        (Some("a"), [cache]) => Ok(Said::All {
            cache: name(cache)?,
        }),
        (Some("h"), _) => Err(NO_HASHES),
        (Some("d"), [schema, table]) => Ok(Said::Altered {
            schema: text(schema)?,
            table: text(table)?,
        }),
        _ => Err(NOT_KNOWN),
    }
}

fn text(value: &Value) -> Result<String, Bad> {
    value.as_str().map(str::to_owned).ok_or(NO_TEXT)
}

fn texts(value: &Value) -> Result<Vec<String>, Bad> {
    match value.as_array() {
        Some(parts) if (1..=MOST_PARTS).contains(&parts.len()) => parts.iter().map(text).collect(),
        _ => Err(Bad("a key is a list of 1 to 64 parts")),
    }
}

fn name(value: &Value) -> Result<String, Bad> {
    let name = text(value)?;
    check_cache_name(&name).map_err(|_| NO_CACHE)?;
    Ok(name)
}

fn format(rest: &[Value]) -> Result<Option<u32>, Bad> {
    match rest {
        [] => Ok(None),
        [format] => {
            let format = format.as_u64().and_then(|n| u32::try_from(n).ok());
            format.map(Some).ok_or(NO_FORMAT)
        }
        _ => Err(NOT_KNOWN),
    }
}

impl Said {
    /// Appends what to invalidate: nothing for a key that is too long to be in a cache, and for a table, whose
    /// caches the plans know.
    pub(crate) fn names(&self, rules: &Rules, out: &mut impl Extend<Name>) {
        match self {
            Self::Key {
                cache,
                parts,
                format,
            } => {
                let hash = hash_of(parts.iter().map(String::as_bytes));
                let format = format.unwrap_or_else(|| rules.format_of_key(cache, parts.len()));
                let cache = cache_id(cache);
                out.extend(hash.map(|hash| Name::Key {
                    cache,
                    format,
                    hash,
                }));
            }
            Self::Tag { cache, tag, format } => out.extend(Some(Name::Tag {
                cache: cache_id(cache),
                format: format.unwrap_or_else(|| rules.format_of(cache)),
                hash: tag_hash(tag),
            })),
            Self::All { cache } => out.extend(Some(Name::All {
                cache: cache_id(cache),
                format: rules.format_of(cache),
            })),
            Self::Hashed(ops) => ops.iter().for_each(|op| operation(op, out)),
            Self::Altered { .. } => {}
        }
    }
}

fn operation(op: &Op, out: &mut impl Extend<Name>) {
    let Op {
        cache,
        format,
        what,
    } = op;
    let (cache, format) = (*cache, *format);
    match what {
        What::Keys(hashes) => out.extend(hashes.iter().map(|hash| Name::Key {
            cache,
            format,
            hash: *hash,
        })),
        What::Tags(hashes) => out.extend(hashes.iter().map(|hash| Name::Tag {
            cache,
            format,
            hash: *hash,
        })),
        What::Cache => out.extend(Some(Name::All { cache, format })),
        What::Lane => out.extend(Some(Name::Everything)),
    }
}

#[cfg(test)]
mod tests;
