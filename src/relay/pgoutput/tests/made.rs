//! Messages put together by hand, with what they mean.

use super::super::*;

/// Bytes of a message, put together by parts.
#[derive(Clone, Default)]
pub(super) struct Made(pub(super) Vec<u8>);

impl Made {
    pub(super) fn of(kind: u8) -> Self {
        Self(vec![kind])
    }
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    pub(super) fn u8(self, byte: u8) -> Self {
        self.raw(&[byte])
    }
    pub(super) fn u16(self, number: u16) -> Self {
        self.raw(&number.to_be_bytes())
    }
    pub(super) fn u32(self, number: u32) -> Self {
        self.raw(&number.to_be_bytes())
    }
    pub(super) fn u64(self, number: u64) -> Self {
        self.raw(&number.to_be_bytes())
    }
    pub(super) fn text(self, text: &str) -> Self {
        self.raw(text.as_bytes()).u8(0)
    }
    pub(super) fn cells(mut self, cells: &[Cell<'_>]) -> Self {
        self = self.u16(u16::try_from(cells.len()).unwrap());
        for cell in cells {
            self = match cell {
                Cell::Null => self.u8(b'n'),
                Cell::Unchanged => self.u8(b'u'),
                Cell::Text(text) => self
                    .u8(b't')
                    .u32(u32::try_from(text.len()).unwrap())
                    .raw(text),
            };
        }
        self
    }
}

pub(super) const NEW: [Cell<'_>; 4] = [
    Cell::Text(b"7"),
    Cell::Null,
    Cell::Unchanged,
    Cell::Text(b""),
];
pub(super) const OLD: [Cell<'_>; 4] = [Cell::Text(b"6"), Cell::Null, Cell::Null, Cell::Null];

fn column(name: &str, type_id: u32, identity: bool) -> Column {
    Column {
        name: name.to_owned(),
        type_id,
        type_modifier: -1,
        identity,
    }
}

/// A relation's message and what it means.
fn described(schema: &str, shown: &str, letter: u8, identity: Identity) -> (Made, Change<'static>) {
    let made = Made::of(b'R')
        .u32(16_390)
        .text(schema)
        .text("users")
        .u8(letter)
        .u16(2)
        .u8(1)
        .text("id")
        .u32(20)
        .raw(&(-1_i32).to_be_bytes())
        .u8(0)
        .text("name")
        .u32(25)
        .raw(&(-1_i32).to_be_bytes());
    let meant = Change::Relation(Relation {
        id: 16_390,
        schema: shown.to_owned(),
        table: "users".to_owned(),
        identity,
        columns: vec![column("id", 20, true), column("name", 25, false)],
    });
    (made, meant)
}

/// One message of each kind and form, with what it means.
pub(super) fn each() -> Vec<(Made, Change<'static>)> {
    let mut all = rows();
    all.extend(others());
    all
}

fn rows() -> Vec<(Made, Change<'static>)> {
    let row = |kind| Made::of(kind).u32(9);
    let (new, old) = (NEW.to_vec(), OLD.to_vec());
    let update = |old| Change::Update {
        relation: 9,
        old,
        new: NEW.to_vec(),
    };
    let delete = |old| Change::Delete { relation: 9, old };
    vec![
        (
            row(b'I').u8(b'N').cells(&NEW),
            Change::Insert {
                relation: 9,
                new: new.clone(),
            },
        ),
        (row(b'U').u8(b'N').cells(&NEW), update(None)),
        (
            row(b'U').u8(b'K').cells(&OLD).u8(b'N').cells(&NEW),
            update(Some(Old::Key(old.clone()))),
        ),
        (
            row(b'U').u8(b'O').cells(&OLD).u8(b'N').cells(&NEW),
            update(Some(Old::Full(old.clone()))),
        ),
        (
            row(b'D').u8(b'K').cells(&OLD),
            delete(Old::Key(old.clone())),
        ),
        (row(b'D').u8(b'O').cells(&OLD), delete(Old::Full(old))),
    ]
}

fn others() -> Vec<(Made, Change<'static>)> {
    vec![
        (
            Made::of(b'B').u64(100).u64(5).u32(742),
            Change::Begin { transaction: 742 },
        ),
        (
            Made::of(b'C').u8(0).u64(100).u64(148).u64(5),
            Change::Commit {
                end: 148,
                committed_at_micros: 946_684_800_000_005,
            },
        ),
        (Made::of(b'O').u64(1).text("elsewhere"), Change::Other),
        (
            Made::of(b'Y').u32(17).text("public").text("mood"),
            Change::Other,
        ),
        described("shop", "shop", b'd', Identity::Default),
        described("", "pg_catalog", b'n', Identity::Nothing),
        described("shop", "shop", b'f', Identity::Full),
        described("shop", "shop", b'i', Identity::Index),
        (
            Made::of(b'T').u32(2).u8(3).u32(9).u32(10),
            Change::Truncate {
                relations: vec![9, 10],
            },
        ),
        (
            Made::of(b'M')
                .u8(1)
                .u64(77)
                .text("unstale")
                .u32(3)
                .raw(b"\0\xFFx"),
            Change::Message {
                transactional: true,
                prefix: "unstale",
                content: b"\0\xFFx",
            },
        ),
        (
            Made::of(b'M').u8(0).u64(77).text("").u32(0),
            Change::Message {
                transactional: false,
                prefix: "",
                content: b"",
            },
        ),
    ]
}
