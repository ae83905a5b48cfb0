//! The decoder: each kind of message by hand, and bytes of any kind.

mod made;

use proptest::prelude::*;

use self::made::{Made, NEW, OLD, each};
use super::*;

#[test]
fn each_kind_of_message_is_read() {
    for (made, meant) in each() {
        assert_eq!(decode(&made.0), Ok(meant));
    }
}

#[test]
fn a_part_of_a_message_is_an_error_and_so_is_more_than_one() {
    for (made, meant) in each() {
        for end in 0..made.0.len() {
            let found = decode(&made.0[..end]);
            assert!(found.is_err(), "{end} bytes of {meant:?} are {found:?}");
        }
        assert!(decode(&made.u8(0).0).is_err(), "{meant:?}");
    }
}

#[test]
fn the_beginning_of_a_row_names_its_table() {
    for (made, _) in each() {
        let of_row = matches!(made.0[0], b'I' | b'U' | b'D');
        assert_eq!(relation_of(&made.0), of_row.then_some(9));
        assert_eq!(relation_of(&made.0[..4]), None);
    }
    assert_eq!(relation_of(&[]), None);
}

#[test]
fn an_unknown_message_is_an_error() {
    let row = |kind| Made::of(kind).u32(9);
    for made in [
        Made::of(b'S').u32(1).u8(1),
        Made::of(b'M').u8(2).u64(77).text("").u32(0),
        Made::of(b'R').u32(1).text("s").text("t").u8(b'x').u16(0),
        Made::of(b'R')
            .u32(1)
            .raw(b"\xFF\0")
            .text("t")
            .u8(b'd')
            .u16(0),
        row(b'I').u8(b'K').cells(&NEW),
        row(b'D').u8(b'N').cells(&OLD),
        row(b'U').u8(b'K').cells(&OLD).u8(b'K').cells(&NEW),
        row(b'I').u8(b'N').u16(1).u8(b'b').u32(1).u8(1),
    ] {
        assert!(decode(&made.0).is_err(), "{:?}", made.0);
    }
}

#[test]
fn a_claimed_length_alone_takes_no_memory() {
    let row = Made::of(b'I').u32(9).u8(b'N');
    assert!(decode(&row.clone().u16(u16::MAX).0).is_err());
    assert!(decode(&row.u16(1).u8(b't').u32(u32::MAX).0).is_err());
    assert!(decode(&Made::of(b'T').u32(u32::MAX).u8(0).0).is_err());
    assert!(decode(&Made::of(b'M').u8(0).u64(0).text("").u32(u32::MAX).0).is_err());
    assert_eq!(Reader::new(b"abc").at_most(usize::MAX), 3);
}

proptest! {
    #[test]
    fn arbitrary_bytes_cause_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
        let _ = relation_of(&bytes);
    }

    #[test]
    fn a_message_with_wrong_bytes_causes_no_panic(
        which in 0..17_usize,
        wrong in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = each()[which].0.0.clone();
        for (at, byte) in wrong {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = decode(&bytes);
    }

    #[test]
    fn any_row_is_read_back(
        cells in proptest::collection::vec(
            proptest::option::of(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))),
            0..20,
        ),
    ) {
        let cells: Vec<Cell<'_>> = cells
            .iter()
            .map(|cell| match cell {
                None => Cell::Null,
                Some(None) => Cell::Unchanged,
                Some(Some(text)) => Cell::Text(text),
            })
            .collect();
        let made = Made::of(b'I').u32(9).u8(b'N').cells(&cells);
        prop_assert_eq!(decode(&made.0), Ok(Change::Insert { relation: 9, new: cells.clone() }));
        for end in 0..made.0.len() {
            prop_assert!(decode(&made.0[..end]).is_err());
        }
    }
}
