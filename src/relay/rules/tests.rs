//! What the tests of the rules share: a catalog and relations that are made up.

mod postgres;

use super::catalog::{Catalog, Column, Kind, Publication, Server, Table};
use super::{Rules, TableName};
use crate::relay::change::{self, Identity, Relation};

/// The OIDs of types.
pub(super) const INT8: u32 = 20;
pub(super) const TEXT: u32 = 25;

pub(super) fn rules(text: &str) -> Rules {
    Rules::parse(&format!("source = \"orders\"\n{text}")).unwrap()
}

/// A column of a type that is none of a domain's.
pub(super) fn column(name: &str, type_id: u32, identity: bool) -> Column {
    Column {
        name: name.to_owned(),
        type_id,
        type_modifier: -1,
        type_name: format!("type {type_id}"),
        base_id: type_id,
        base_modifier: -1,
        is_enum: false,
        label: None,
        deterministic: true,
        nullable: !identity,
        generated: false,
        identity,
    }
}

/// A published table in `public`.
pub(super) fn table(oid: u32, name: &str, columns: Vec<Column>) -> Table {
    Table {
        oid,
        name: TableName::new("public", name),
        kind: Kind::Table,
        logged: true,
        ancestors: Vec::new(),
        identity: Identity::Default,
        published: true,
        row_filter: false,
        column_list: false,
        columns,
        indexes: Vec::new(),
    }
}

pub(super) fn catalog(tables: Vec<Table>) -> Catalog {
    let server = Server {
        version: 150_004,
        wal_level: "logical".to_owned(),
        recovering: false,
        role: "relay".to_owned(),
        database: "shop".to_owned(),
        replicates: true,
        free_slots: 5,
        free_senders: 5,
        slot_keeps: -1,
        durable_slot: false,
    };
    let publication = Publication {
        insert: true,
        update: true,
        delete: true,
        truncate: true,
        via_root: false,
    };
    Catalog::new(server, Some(publication), tables)
}

/// The relation as the log describes the table.
pub(super) fn relation(of: &Table) -> Relation {
    let columns = of.columns.iter().filter(|column| !column.generated);
    Relation {
        id: of.oid,
        schema: of.name.schema.clone(),
        table: of.name.name.clone(),
        identity: of.identity,
        columns: columns
            .map(|column| change::Column {
                name: column.name.clone(),
                type_id: column.type_id,
                type_modifier: column.type_modifier,
                identity: column.identity,
            })
            .collect(),
    }
}
