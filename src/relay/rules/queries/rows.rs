//! Makes the catalog from the rows of the queries.

use super::{Each, Row};
use crate::error::{Error, ErrorKind};
use crate::relay::change::Identity;
use crate::relay::rules::TableName;
use crate::relay::rules::catalog::{Catalog, Column, Index, Kind, Publication, Server, Table};

impl Catalog {
    /// Makes the catalog of the queries' rows.
    ///
    /// # Errors
    ///
    /// `Settings`, where a row is not one that its query has.
    pub(crate) fn read(rows: &Each<Vec<Row>>) -> Result<Self, Error> {
        let server = rows
            .server
            .first()
            .and_then(|row| server(&mut Cells(row.iter())));
        let server = server.ok_or_else(|| strange("server"))?;
        let publication = match rows.publication.first() {
            Some(row) => {
                let read = publication(&mut Cells(row.iter()));
                Some(read.ok_or_else(|| strange("publication"))?)
            }
            None => None,
        };
        let tables = rows.tables.iter().map(|row| table(&mut Cells(row.iter())));
        let tables: Option<Vec<Table>> = tables.collect();
        let mut tables = tables.ok_or_else(|| strange("tables"))?;
        tables.sort_unstable_by_key(|table| table.oid);
        for row in &rows.columns {
            let (oid, column) = column(&mut Cells(row.iter())).ok_or_else(|| strange("columns"))?;
            if let Some(table) = find(&mut tables, oid) {
                table.columns.push(column);
            }
        }
        for row in &rows.indexes {
            let (oid, index) = index(&mut Cells(row.iter())).ok_or_else(|| strange("indexes"))?;
            if let Some(table) = find(&mut tables, oid) {
                table.indexes.push(index);
            }
        }
        Ok(Self::new(server, publication, tables))
    }
}

/// Finds a table among tables in the order of their OIDs.
fn find(tables: &mut [Table], oid: u32) -> Option<&mut Table> {
    let place = tables.binary_search_by_key(&oid, |table| table.oid).ok()?;
    tables.get_mut(place)
}

fn strange(query: &str) -> Error {
    let message = format!("the database's answer to the query of its {query} is not understood");
    Error::new(ErrorKind::Settings, message)
}

/// The cells of one row, from the left.
struct Cells<'a>(std::slice::Iter<'a, Option<String>>);

impl<'a> Cells<'a> {
    fn or_null(&mut self) -> Option<Option<&'a str>> {
        self.0.next().map(Option::as_deref)
    }

    fn text(&mut self) -> Option<&'a str> {
        self.or_null()?
    }

    fn string(&mut self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    fn number<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.text()?.parse().ok()
    }

    fn flag(&mut self) -> Option<bool> {
        match self.text()? {
            "t" | "true" => Some(true),
            "f" | "false" => Some(false),
            _ => None,
        }
    }
}

fn server(cells: &mut Cells<'_>) -> Option<Server> {
    Some(Server {
        version: cells.number()?,
        wal_level: cells.string()?,
        recovering: cells.flag()?,
        role: cells.string()?,
        database: cells.string()?,
        replicates: cells.flag()?,
        free_slots: cells.number()?,
        free_senders: cells.number()?,
        slot_keeps: cells.number()?,
        durable_slot: false,
    })
}

fn publication(cells: &mut Cells<'_>) -> Option<Publication> {
    Some(Publication {
        insert: cells.flag()?,
        update: cells.flag()?,
        delete: cells.flag()?,
        truncate: cells.flag()?,
        via_root: cells.flag()?,
    })
}

fn table(cells: &mut Cells<'_>) -> Option<Table> {
    Some(Table {
        oid: cells.number()?,
        name: TableName::new(cells.text()?, cells.text()?),
        kind: match cells.text()? {
            "r" => Kind::Table,
            "p" => Kind::Partitioned,
            "v" => Kind::View,
            "m" => Kind::MaterializedView,
            "f" => Kind::Foreign,
            _ => return None,
        },
        logged: cells.text()? == "p",
        ancestors: {
            let oids = cells.text()?.split_whitespace().map(str::parse);
            oids.collect::<Result<_, _>>().ok()?
        },
        identity: match cells.text()? {
            "d" => Identity::Default,
            "f" => Identity::Full,
            "i" => Identity::Index,
            "n" => Identity::Nothing,
            _ => return None,
        },
        published: cells.flag()?,
        row_filter: cells.flag()?,
        column_list: cells.flag()?,
        columns: Vec::new(),
        indexes: Vec::new(),
    })
}

fn column(cells: &mut Cells<'_>) -> Option<(u32, Column)> {
    let table = cells.number()?;
    let column = Column {
        name: cells.string()?,
        type_id: cells.number()?,
        type_modifier: cells.number()?,
        type_name: cells.string()?,
        base_id: cells.number()?,
        base_modifier: cells.number()?,
        is_enum: cells.flag()?,
        label: cells.or_null()?.map(str::to_owned),
        deterministic: cells.flag()?,
        nullable: cells.flag()?,
        generated: cells.flag()?,
        identity: cells.flag()?,
    };
    Some((table, column))
}

fn index(cells: &mut Cells<'_>) -> Option<(u32, Index)> {
    let table = cells.number()?;
    let name = cells.string()?;
    let columns = serde_json::from_str(cells.text()?).ok()?;
    Some((table, Index { name, columns }))
}
