//! The decoder of pgoutput, version 1: bytes of PostgreSQL's log become changes. No I/O.
//!
//! Every length that a message names is checked against the bytes that are there, before anything
//! is allocated for it.

mod malformed;
mod reader;

use self::malformed::Malformed;
use self::reader::Reader;
use super::change::{Cell, Change, Column, Identity, Old, Relation, Row};

/// From the Unix epoch to 2000-01-01, where PostgreSQL's times begin.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// One message. A commit's time counts from the Unix epoch.
///
/// # Errors
///
/// The bytes are not one whole message of pgoutput 1 in text form.
pub(crate) fn decode(bytes: &[u8]) -> Result<Change<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let change = match reader.u8()? {
        b'B' => begin(&mut reader)?,
        b'C' => commit(&mut reader)?,
        b'D' => delete(&mut reader)?,
        b'I' => insert(&mut reader)?,
        b'M' => message(&mut reader)?,
        b'O' => origin(&mut reader)?,
        b'R' => Change::Relation(relation(&mut reader)?),
        b'T' => truncate(&mut reader)?,
        b'U' => update(&mut reader)?,
        b'Y' => data_type(&mut reader)?,
        _ => return Err(Malformed("its kind is not known")),
    };
    reader.end()?;
    Ok(change)
}

/// Returns the table of a row's message, without the row: the message may be its beginning only.
pub(crate) fn relation_of(beginning: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(beginning);
    match reader.u8() {
        Ok(b'I' | b'U' | b'D') => reader.u32().ok(),
        _ => None,
    }
}

fn begin<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>, Malformed> {
    let (_final_lsn, _time) = (reader.u64()?, reader.i64()?);
    Ok(Change::Begin {
        transaction: reader.u32()?,
    })
}

fn commit<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>, Malformed> {
    let (_flags, _lsn) = (reader.u8()?, reader.u64()?);
    Ok(Change::Commit {
        end: reader.u64()?,
        committed_at_micros: reader.i64()?.saturating_add(EPOCH_MICROS),
    })
}

fn origin<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>, Malformed> {
    let (_lsn, _name) = (reader.u64()?, reader.text()?);
    Ok(Change::Other)
}

fn data_type<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>, Malformed> {
    let (_id, _schema, _name) = (reader.u32()?, reader.text()?, reader.text()?);
    Ok(Change::Other)
}

fn message<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>, Malformed> {
    let transactional = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Malformed("a message's flags are not known")),
    };
    let _lsn = reader.u64()?;
    let prefix = reader.text()?;
    let length = reader.length()?;
    Ok(Change::Message {
        transactional,
        prefix,
        content: reader.bytes(length)?,
    })
}

fn relation(reader: &mut Reader<'_>) -> Result<Relation, Malformed> {
    let id = reader.u32()?;
    // The system's own schema is sent as an empty name.
    let schema = match reader.text()? {
        "" => "pg_catalog",
        schema => schema,
    };
    let table = reader.text()?;
    let identity = match reader.u8()? {
        b'd' => Identity::Default,
        b'n' => Identity::Nothing,
        b'f' => Identity::Full,
        b'i' => Identity::Index,
        _ => return Err(Malformed("a table's replica identity is not known")),
    };
    let count = usize::from(reader.u16()?);
    let mut columns = Vec::with_capacity(reader.at_most(count));
    for _ in 0..count {
        columns.push(Column {
            identity: reader.u8()? & 1 == 1,
            name: reader.text()?.to_owned(),
            type_id: reader.u32()?,
            type_modifier: reader.i32()?,
        });
    }
    Ok(Relation {
        id,
        schema: schema.to_owned(),
        table: table.to_owned(),
        identity,
        columns,
    })
}

fn insert<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>, Malformed> {
    let relation = reader.u32()?;
    reader.expect(b'N')?;
    let new = row(reader)?;
    Ok(Change::Insert { relation, new })
}

fn update<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>, Malformed> {
    let relation = reader.u32()?;
    let old = match reader.u8()? {
        b'N' => None,
        kind => {
            let old = old_row(kind, reader)?;
            reader.expect(b'N')?;
            Some(old)
        }
    };
    let new = row(reader)?;
    Ok(Change::Update { relation, old, new })
}

fn delete<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>, Malformed> {
    let relation = reader.u32()?;
    let kind = reader.u8()?;
    let old = old_row(kind, reader)?;
    Ok(Change::Delete { relation, old })
}

fn truncate<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>, Malformed> {
    let count = reader.length()?;
    let _options = reader.u8()?;
    let mut relations = Vec::with_capacity(reader.at_most(count));
    for _ in 0..count {
        relations.push(reader.u32()?);
    }
    Ok(Change::Truncate { relations })
}

fn old_row<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<Old<'a>, Malformed> {
    match kind {
        b'K' => Ok(Old::Key(row(reader)?)),
        b'O' => Ok(Old::Full(row(reader)?)),
        _ => Err(Malformed("a part of a row's message is not known")),
    }
}

fn row<'a>(reader: &mut Reader<'a>) -> Result<Row<'a>, Malformed> {
    let count = usize::from(reader.u16()?);
    let mut cells = Vec::with_capacity(reader.at_most(count));
    for _ in 0..count {
        cells.push(match reader.u8()? {
            b'n' => Cell::Null,
            b'u' => Cell::Unchanged,
            b't' => {
                let length = reader.length()?;
                Cell::Text(reader.bytes(length)?)
            }
            _ => return Err(Malformed("a column is not in text form")),
        });
    }
    Ok(cells)
}

#[cfg(test)]
mod tests;
