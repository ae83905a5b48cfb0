//! What a transaction of the program itself says to a relay, as SQL.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::coherence::outbox::Invalidation;

/// Hashes of one statement at most, 4 MiB of text; and what a relay keeps of one transaction.
pub(crate) const MOST_HASHES: usize = 262_144;

/// Caches of one statement at most, and of one transaction.
pub(crate) const MOST_CACHES: usize = 4_096;

/// The SQL statement by which a transaction announces what it invalidates; see
/// [`Batch::in_transaction`](crate::Batch::in_transaction).
///
/// [`sql`](Self::sql) and its one text parameter are for prepared statements, and its `Display` is the whole
/// statement, for clients without parameters. Both are safe: a statement has numbers and hashes, and no text of the
/// program's.
///
/// ```text
/// sqlx::query(statement.sql()).bind(statement.parameter()).execute(&mut *transaction).await?;    // sqlx
/// transaction.execute(statement.sql(), &[&statement.parameter()]).await?;                        // tokio-postgres
/// diesel::sql_query(statement.to_string()).execute(connection)?;                                 // diesel
/// ```
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// # let accounts = instance.cache::<u64, String>("accounts").build()?;
/// use unstale::Statement;
///
/// let statement: Statement = instance.batch().key(&accounts, &7).in_transaction()?;
/// assert!(statement.sql().ends_with("$1::text)"));
/// assert!(statement.parameter().starts_with(r#"["h","#));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a statement does nothing until a transaction runs it"]
pub struct Statement {
    content: String,
}

/// What is named of one cache.
#[derive(Default)]
struct Named {
    keys: Vec<u64>,
    tags: Vec<u64>,
    all: bool,
}

/// By cache and format.
type Caches = BTreeMap<(u32, u32), Named>;

impl Statement {
    pub(crate) fn new(items: &[Invalidation]) -> Self {
        Self::within(items, MOST_HASHES, MOST_CACHES)
    }

    fn within(items: &[Invalidation], most_hashes: usize, most_caches: usize) -> Self {
        let mut caches = Caches::new();
        for item in items {
            match *item {
                Invalidation::Key {
                    cache,
                    format,
                    hash,
                } => caches.entry((cache, format)).or_default().keys.push(hash),
                Invalidation::Tag { cache, format, tag } => {
                    caches.entry((cache, format)).or_default().tags.push(tag);
                }
                Invalidation::Cache { cache, format } => {
                    caches.entry((cache, format)).or_default().all = true;
                }
            }
        }
        let content = if caches.len() > most_caches {
            r#"["h",[0,0,3,""]]"#.to_owned()
        } else {
            collapse(&mut caches, most_hashes);
            content(&caches)
        };
        Self { content }
    }

    /// Returns the statement with [`parameter`](Self::parameter) as `$1`. It is the same text for every batch,
    /// so that a database prepares it once.
    #[must_use]
    pub fn sql(&self) -> &'static str {
        "SELECT pg_logical_emit_message(true, 'unstale', $1::text)"
    }

    /// Returns the value of `$1`: JSON of numbers and hashes.
    #[must_use]
    pub fn parameter(&self) -> &str {
        &self.content
    }
}

/// The statement with its parameter in it.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The content has neither `'` nor `\`.
        write!(
            f,
            "SELECT pg_logical_emit_message(true, 'unstale', '{}')",
            self.content
        )
    }
}

/// Leaves out what is there twice; what is too much then becomes whole caches, the largest first.
fn collapse(caches: &mut Caches, most: usize) {
    let mut held = 0;
    for named in caches.values_mut() {
        if named.all {
            named.collapse();
        }
        for hashes in [&mut named.keys, &mut named.tags] {
            hashes.sort_unstable();
            hashes.dedup();
        }
        held += named.len();
    }
    while held > most {
        let Some(largest) = caches.values_mut().max_by_key(|named| named.len()) else {
            return;
        };
        held -= largest.len();
        largest.collapse();
    }
}

/// As PROTOCOL.md has it.
fn content(caches: &Caches) -> String {
    let hashes: usize = caches.values().map(Named::len).sum();
    let mut text = String::with_capacity(16 * hashes + 64 * caches.len() + 16);
    text.push_str("[\"h\"");
    for (of, named) in caches {
        if named.all {
            operation(&mut text, *of, 2, &[]);
        }
        if !named.keys.is_empty() {
            operation(&mut text, *of, 0, &named.keys);
        }
        if !named.tags.is_empty() {
            operation(&mut text, *of, 1, &named.tags);
        }
    }
    text.push(']');
    text
}

fn operation(text: &mut String, (cache, format): (u32, u32), kind: u8, hashes: &[u64]) {
    // A string takes everything.
    let _ = write!(text, ",[{cache},{format},{kind},\"");
    for hash in hashes {
        let _ = write!(text, "{hash:016x}");
    }
    text.push_str("\"]");
}

impl Named {
    fn len(&self) -> usize {
        self.keys.len() + self.tags.len()
    }

    fn collapse(&mut self) {
        *self = Self {
            all: true,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests;
