//! What a source of truth says has changed: rows with columns, of any log.
//!
//! Nothing here knows how the log came here, and nothing in the log's reader knows the rules.

/// One column of a row, in PostgreSQL's text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    Null,
    /// A large value that the statement did not change; the log does not have it.
    Unchanged,
    Text(&'a [u8]),
}

/// Which columns of a row that is updated or deleted the log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The primary key.
    Default,
    Nothing,
    Full,
    /// The columns of a unique index.
    Index,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The type's OID.
    pub(crate) type_id: u32,
    pub(crate) type_modifier: i32,
    /// Part of the replica identity.
    pub(crate) identity: bool,
}

/// A table as the log describes it, before the first of its rows and after it was altered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) id: u32,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) identity: Identity,
    pub(crate) columns: Vec<Column>,
}

/// The cells of a row, in the order of the relation's columns.
pub(crate) type Row<'a> = Vec<Cell<'a>>;

/// The row as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Old<'a> {
    /// The replica identity's columns changed: their old values; every other column is `Null`.
    Key(Row<'a>),
    /// The whole row (`REPLICA IDENTITY FULL`).
    Full(Row<'a>),
}

/// One message of the log. Places are bytes from the beginning of the log (LSN).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    Begin {
        transaction: u32,
    },
    /// `end`: all of the transaction lies before it.
    Commit {
        end: u64,
        committed_at_micros: i64,
    },
    Relation(Relation),
    Insert {
        relation: u32,
        new: Row<'a>,
    },
    Update {
        relation: u32,
        old: Option<Old<'a>>,
        new: Row<'a>,
    },
    Delete {
        relation: u32,
        old: Old<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// `pg_logical_emit_message`.
    Message {
        transactional: bool,
        prefix: &'a str,
        content: &'a [u8],
    },
    /// A row too large to be looked at: anything of its table may have changed.
    TooLarge {
        relation: u32,
    },
    /// Types, origins: nothing that concerns a cache.
    Other,
}
