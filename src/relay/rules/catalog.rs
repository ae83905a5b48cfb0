//! What the database says of itself, as plain data: tables, their columns, and what is published.

use super::TableName;
use super::canonical::{self, Form};
use crate::relay::change::Identity;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Catalog {
    pub(crate) server: Server,
    /// `None` where there is none of this name.
    pub(crate) publication: Option<Publication>,
    /// Every table and view that is not the system's, in the order of the names. Only those of the
    /// rules have columns.
    pub(crate) tables: Vec<Table>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// As `server_version_num`: 150004 is 15.4.
    pub(crate) version: u32,
    pub(crate) wal_level: String,
    /// A replica, or a server that starts from a backup.
    pub(crate) recovering: bool,
    pub(crate) role: String,
    pub(crate) database: String,
    /// The role may read the log.
    pub(crate) replicates: bool,
    /// Places for one more slot and one more reader of the log.
    pub(crate) free_slots: i64,
    pub(crate) free_senders: i64,
    /// The MB of log that a slot may hold back; below zero without a bound.
    pub(crate) slot_keeps: i64,
    /// The slot is one that outlives the relay.
    pub(crate) durable_slot: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publication {
    pub(crate) insert: bool,
    pub(crate) update: bool,
    pub(crate) delete: bool,
    pub(crate) truncate: bool,
    /// Changes of partitions look like changes of their root.
    pub(crate) via_root: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Table,
    Partitioned,
    View,
    MaterializedView,
    Foreign,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) oid: u32,
    pub(crate) name: TableName,
    pub(crate) kind: Kind,
    /// Whether it is neither temporary nor unlogged.
    pub(crate) logged: bool,
    /// The tables whose rows are also its rows: parents, their parents.
    pub(crate) ancestors: Vec<u32>,
    pub(crate) identity: Identity,
    pub(crate) published: bool,
    pub(crate) row_filter: bool,
    pub(crate) column_list: bool,
    /// In the order of the table.
    pub(crate) columns: Vec<Column>,
    /// Those that can be a replica identity.
    pub(crate) indexes: Vec<Index>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The type's OID and modifier as the log has them: of a domain, the domain's.
    pub(crate) type_id: u32,
    pub(crate) type_modifier: i32,
    pub(crate) type_name: String,
    /// Below every domain.
    pub(crate) base_id: u32,
    pub(crate) base_modifier: i32,
    pub(crate) is_enum: bool,
    /// An enum's first value.
    pub(crate) label: Option<String>,
    pub(crate) deterministic: bool,
    pub(crate) nullable: bool,
    pub(crate) generated: bool,
    /// Part of the replica identity.
    pub(crate) identity: bool,
}

/// A unique index of columns, over all rows, that is checked at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
}

impl Catalog {
    pub(crate) fn new(
        server: Server,
        publication: Option<Publication>,
        mut tables: Vec<Table>,
    ) -> Self {
        tables.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Self {
            server,
            publication,
            tables,
        }
    }

    pub(crate) fn table(&self, name: &TableName) -> Option<&Table> {
        let place = self.tables.binary_search_by(|table| table.name.cmp(name));
        self.tables.get(place.ok()?)
    }

    /// Returns the tables that have a table's rows: itself, its partitions and theirs, and what inherits from
    /// it. A partitioned table has no rows of its own.
    pub(crate) fn leaves<'a>(&'a self, of: &'a Table) -> impl Iterator<Item = &'a Table> {
        self.tables.iter().filter(move |table| {
            table.kind != Kind::Partitioned
                && (table.oid == of.oid || table.ancestors.contains(&of.oid))
        })
    }
}

impl Table {
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns the columns of a row that is updated or deleted which the log has.
    pub(crate) fn identity_columns(&self) -> impl Iterator<Item = &str> {
        let identity = self.columns.iter().filter(|column| column.identity);
        identity.map(|column| &*column.name)
    }

    /// Returns an index over all of these columns, and over none that may be null.
    pub(crate) fn index_over(&self, columns: &[&str]) -> Option<&Index> {
        let never_null = |name: &String| self.column(name).is_some_and(|column| !column.nullable);
        self.indexes.iter().find(|index| {
            index.columns.iter().all(never_null)
                && columns
                    .iter()
                    .all(|column| index.columns.iter().any(|own| own == column))
        })
    }
}

impl Column {
    /// Returns how its values become canonical bytes.
    ///
    /// # Errors
    ///
    /// Why they do not, and what to do.
    pub(crate) fn form(&self) -> Result<Form, String> {
        canonical::form_of(&canonical::Type {
            id: self.base_id,
            modifier: self.base_modifier,
            is_enum: self.is_enum,
            deterministic: self.deterministic,
            name: &self.type_name,
        })
    }
}
