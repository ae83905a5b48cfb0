use std::sync::LazyLock;

use proptest::prelude::*;
use serde::Serialize;

use super::wire::{DecodeError, decode, encode_within};
use super::{Event, MAX_PAYLOAD, Op, What};
use crate::internals::check_payload;
use crate::protocol::{Vector, vectors};

fn encode(event: &Event) -> Vec<u8> {
    encode_within(event, MAX_PAYLOAD)
}

/// The events of PROTOCOL.md, and their bytes.
fn events() -> Vec<(Event, Vec<u8>)> {
    let op = |vector: &Vector| Op {
        cache: vector.number("cache"),
        format: vector.number("format"),
        what: match vector.number("kind") {
            0_u8 => What::Keys(vector.hexes("hashes")),
            1 => What::Tags(vector.hexes("hashes")),
            2 => What::Cache,
            3 => What::Lane,
            other => unreachable!("there is no kind {other}"),
        },
    };
    let event = |vector: &Vector| Event {
        origin: vector.hex("origin"),
        sent: vector.hex("sent"),
        ops: vector.list("ops").iter().map(op).collect(),
    };
    let vectors = vectors("events");
    let pair = |vector| (event(vector), vector.bytes("payload"));
    vectors.iter().map(pair).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// A message of version 1 whose body is whatever a later or a hostile writer made of it.
fn message(body: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![1];
    body.serialize(&mut rmp_serde::Serializer::new(&mut bytes))
        .unwrap();
    bytes
}

fn bin(bytes: &[u8]) -> &serde_bytes::Bytes {
    serde_bytes::Bytes::new(bytes)
}

#[test]
fn events_have_the_bytes_of_the_protocol_in_both_directions() {
    for (event, bytes) in events() {
        assert_eq!(encode(&event), bytes, "{event:?}");
        assert_eq!(decode(&bytes), Ok(event));
    }
}

#[test]
fn payloads_that_the_protocol_refuses_or_ignores_are_refused_or_ignored() {
    for vector in vectors("refused") {
        let error = decode(&vector.bytes("payload")).unwrap_err();
        assert_eq!(error.to_string(), vector.text("why"), "{vector:?}");
    }
    for vector in vectors("appended") {
        let known = decode(&vector.bytes("as"));
        assert!(known.is_ok(), "{vector:?}");
        assert_eq!(decode(&vector.bytes("payload")), known, "{vector:?}");
    }
}

#[test]
fn one_key_takes_43_bytes_and_each_further_key_8() {
    let event = |keys: usize| Event {
        origin: u64::MAX,
        sent: u64::MAX,
        ops: vec![Op {
            cache: u32::MAX,
            format: u32::MAX,
            what: What::Keys(vec![u64::MAX; keys]),
        }],
    };
    assert_eq!(encode(&event(1)).len(), 43);
    assert_eq!(encode(&event(31)).len(), 43 + 30 * 8);
    assert!(encode(&event(1_024)).len() < 8_192 + 64);
}

#[test]
fn an_event_that_is_too_long_drops_the_lane_instead() {
    let event = Event {
        origin: 7,
        sent: 8,
        ops: vec![Op {
            cache: 1,
            format: 2,
            what: What::Keys(vec![3; MAX_PAYLOAD / 8]),
        }],
    };
    let bytes = encode(&event);
    assert_eq!(
        decode(&bytes),
        Ok(Event {
            origin: 7,
            sent: 8,
            ops: vec![Op::lane()]
        })
    );
}

#[test]
fn elements_that_later_versions_append_are_ignored() {
    let op = (
        5_u32,
        6_u32,
        0_u8,
        bin(&[0, 0, 0, 0, 0, 0, 0, 9]),
        "more",
        [1_u64, 2],
        bin(&[3]),
    );
    let later = message(&(
        1_u64,
        2_u64,
        [op],
        (("nested", -1_i8), None::<u8>, 2.5_f64),
        true,
    ));
    let known = Op {
        cache: 5,
        format: 6,
        what: What::Keys(vec![9]),
    };
    assert_eq!(
        decode(&later),
        Ok(Event {
            origin: 1,
            sent: 2,
            ops: vec![known]
        })
    );
}

#[test]
fn payloads_that_later_versions_changed_are_refused() {
    let (_, mut other) = events().remove(0);
    other[0] = 2;
    assert_eq!(decode(&other), Err(DecodeError::UnknownVersion));
    assert_eq!(decode(&[]), Err(DecodeError::UnknownVersion));
    // A kind of the future, with an argument of another shape.
    let kind = message(&(1_u64, 2_u64, [(5_u32, 6_u32, 4_u8, "a pattern")]));
    assert_eq!(decode(&kind), Err(DecodeError::UnknownKind));
}

#[test]
fn bytes_that_are_no_event_are_malformed() {
    let hash = bin(&[0; 8]);
    for bytes in [
        vec![1],
        message(&"text"),
        message(&(1_u64, 2_u64)),
        message(&(1_u64, -2_i64, [(1_u32, 2_u32, 0_u8, hash)])),
        message(&(1_u64, 2_u64, bin(&[]))),
        message(&(1_u64, 2_u64, [(1_u32, 2_u32, 0_u8)])),
        message(&(1_u64, 2_u64, [(1_u64 << 32, 2_u32, 0_u8, hash)])),
        message(&(1_u64, 2_u64, [(1_u32, 2_u32, 0_u8, bin(&[0; 7]))])),
        message(&(1_u64, 2_u64, [(1_u32, 2_u32, 0_u8, [1_u64, 2])])),
        message(&(1_u64, 2_u64, [(1_u32, 2_u32, 2_u8, hash)])),
        message(&(1_u64, 2_u64, [(0_u32, 0_u32, 3_u8, hash)])),
    ] {
        assert_eq!(decode(&bytes), Err(DecodeError::Malformed), "{bytes:02x?}");
    }
}

#[test]
fn bytes_after_the_event_are_refused() {
    let (_, event) = events().remove(0);
    // One of each way a next value could begin: whole, cut short, an array, reserved.
    for extra in [0x00, 0xcc, 0x91, 0xc1, 0xc4] {
        let mut bytes = event.clone();
        bytes.push(extra);
        assert_eq!(decode(&bytes), Err(DecodeError::Trailing), "{extra:02x}");
    }
}

#[test]
fn hostile_lengths_are_refused_without_being_believed() {
    assert_eq!(decode(&vec![1; MAX_PAYLOAD + 1]), Err(DecodeError::TooLong));
    for hex in [
        "0193 01 02 ddffffffff",                   // four billion ops
        "0193 01 02 91 94 01 02 00 c6ffffffff 00", // four gigabytes of hashes
        "01 ddffffffff 01 02 90",                  // four billion trailing elements
    ] {
        assert_eq!(decode(&unhex(hex)), Err(DecodeError::Malformed), "{hex}");
    }
    let mut deep = unhex("0194 01 02 90");
    deep.extend([0x91; 40_000]);
    deep.push(0);
    assert_eq!(decode(&deep), Err(DecodeError::Malformed));
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        proptest::collection::vec(any::<u64>(), 0..40).prop_map(What::Keys),
        proptest::collection::vec(any::<u64>(), 0..40).prop_map(What::Tags),
        Just(What::Cache),
        Just(What::Lane),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let op = (any::<u32>(), any::<u32>(), what()).prop_map(|(cache, format, what)| Op {
        cache,
        format,
        what,
    });
    (
        any::<u64>(),
        any::<u64>(),
        proptest::collection::vec(op, 0..20),
    )
        .prop_map(|(origin, sent, ops)| Event { origin, sent, ops })
}

proptest! {
    #[test]
    fn every_event_survives_the_wire(event in event()) {
        prop_assert_eq!(decode(&encode(&event)), Ok(event));
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 1..512)) {
        let _ = decode(&bytes);
        bytes[0] = 1;
        let _ = decode(&bytes);
    }

    #[test]
    fn a_truncated_event_never_decodes(event in event(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&event);
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_flipped_bit_never_panics(event in event(), bit in any::<prop::sample::Index>()) {
        let mut bytes = encode(&event);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        check_payload(&bytes);
    }
}

/// The fuzzer's corpus, in a fixed order.
fn corpus() -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/payload"));
    let mut paths: Vec<_> = files.unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    let read = |path| std::fs::read(path).unwrap();
    paths.iter().map(read).collect()
}

#[test]
fn the_fuzzers_corpus_keeps_what_must_hold_of_all_bytes() {
    let corpus = corpus();
    let events = corpus.iter().filter(|bytes| check_payload(bytes)).count();
    assert!(
        events >= 10 && corpus.len() - events >= 10,
        "{events} of {}",
        corpus.len()
    );
}

/// One change that a fuzzer makes: at a place, of some bytes.
type Mutation = (u8, prop::sample::Index, Vec<u8>);

fn mutate(mut bytes: Vec<u8>, mutations: Vec<Mutation>, other: &[u8]) -> Vec<u8> {
    for (how, place, with) in mutations {
        let at = place.index(bytes.len() + 1);
        let end = (at + with.len()).min(bytes.len());
        match how {
            0 => drop(bytes.splice(at..end, with)),
            1 => drop(bytes.splice(at..at, with)),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.extend_from_within(at..end),
            _ => {
                let from = at.min(other.len());
                drop(bytes.splice(at.., other[from..].iter().copied()));
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn mutated_events_keep_what_must_hold_of_all_bytes(
        one in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        mutations in proptest::collection::vec(
            (0..5_u8, any::<prop::sample::Index>(), proptest::collection::vec(any::<u8>(), 0..9)),
            1..5,
        ),
    ) {
        static CORPUS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(corpus);
        let (one, other) = (one.get(&CORPUS), other.get(&CORPUS));
        check_payload(&mutate(one.clone(), mutations, other));
    }
}
