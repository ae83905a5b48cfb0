use super::*;
use crate::event::{Op, What};
use crate::protocol::{Vector, vectors};

const KEY: &str = "a key of at least sixteen bytes";
const OTHER: &str = "another key, as long as this one";

fn seal(namespace: &str, key: &str, accepted: Option<&str>) -> Seal {
    let settings = Settings {
        namespace: namespace.to_owned(),
        signing_key: Some(key.to_owned()),
        signing_key_accepted: accepted.map(str::to_owned),
        ..Settings::default()
    };
    Seal::new(&settings)
}

fn event() -> Event {
    Event {
        origin: 7,
        sent: 8,
        ops: vec![Op {
            cache: 1,
            format: 2,
            what: What::Keys(vec![3, 4]),
        }],
    }
}

fn of(vector: &Vector) -> Seal {
    seal(vector.text("namespace"), vector.text("key"), None)
}

#[test]
fn payloads_with_a_key_are_those_of_the_protocol() {
    for vector in vectors("signed") {
        let event = decode(&vector.bytes("event")).expect("an event");
        let lane = vector.number("lane");
        let payload = vector.bytes("payload");
        assert_eq!(of(&vector).encode(lane, &event), payload, "{vector:?}");
        let read = of(&vector).decode(lane, &payload);
        assert_eq!(read.map(|(event, _)| event), Ok(event));
    }
}

#[test]
fn another_key_namespace_or_lane_is_refused_and_so_is_every_changed_byte() {
    let sealed = seal("shop", KEY, None).encode(3, &event());
    let opened = |seal: &Seal, lane, payload: &[u8]| seal.decode(lane, payload).map(|(it, _)| it);
    assert_eq!(opened(&seal("shop", KEY, None), 3, &sealed), Ok(event()));
    for (seal, lane) in [
        (seal("shop", OTHER, None), 3),
        (seal("shop2", KEY, None), 3),
        (seal("sho", KEY, None), 3),
        (seal("shop", KEY, None), 2),
    ] {
        assert_eq!(opened(&seal, lane, &sealed), Err(DecodeError::Unsigned));
    }
    let keyed = seal("shop", KEY, None);
    for bit in 0..sealed.len() * 8 {
        let mut bytes = sealed.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(opened(&keyed, 3, &bytes), Err(DecodeError::Unsigned));
    }
    for length in 0..sealed.len() {
        let cut = opened(&keyed, 3, &sealed[..length]);
        assert_eq!(cut, Err(DecodeError::Unsigned));
    }
}

#[test]
fn bare_events_are_refused_with_a_key_and_signed_ones_without() {
    let (keyed, bare) = (seal("default", KEY, None), Seal::new(&Settings::default()));
    let payload = bare.encode(0, &event());
    assert_eq!(keyed.decode(0, &payload), Err(DecodeError::Unsigned));
    let payload = keyed.encode(0, &event());
    assert_eq!(bare.decode(0, &payload), Err(DecodeError::Trailing));
    assert!(keyed.is_keyed() && !bare.is_keyed());
}

#[test]
fn a_key_is_changed_in_three_rounds_without_a_refusal() {
    let rounds = [
        seal("shop", KEY, None),
        seal("shop", KEY, Some(OTHER)),
        seal("shop", OTHER, Some(KEY)),
        seal("shop", OTHER, None),
    ];
    for pair in rounds.windows(2) {
        for (writer, reader) in [(0, 1), (1, 0)] {
            let payload = pair[writer].encode(0, &event());
            assert!(pair[reader].decode(0, &payload).is_ok());
        }
    }
    let payload = rounds[3].encode(0, &event());
    assert!(rounds[0].decode(0, &payload).is_err());
}

#[test]
fn an_event_that_only_fits_without_its_mac_drops_the_lane() {
    let mut event = event();
    let keys = |event: &mut Event, count| event.ops[0].what = What::Keys(vec![3; count]);
    keys(&mut event, MAX_PAYLOAD / 8 - 2);
    let bare = Seal::new(&Settings::default());
    assert_eq!(bare.decode(0, &bare.encode(0, &event)).unwrap().0, event);
    let keyed = seal("shop", KEY, None);
    let read = keyed.decode(0, &keyed.encode(0, &event)).unwrap().0;
    assert_eq!(read.ops, [Op::lane()]);
    let long = vec![0; MAX_PAYLOAD + 1];
    assert_eq!(keyed.decode(0, &long), Err(DecodeError::TooLong));
}

#[test]
fn the_printed_text_of_a_seal_hides_its_key() {
    let keyed = seal("shop", KEY, Some(OTHER));
    let shown = format!("{keyed:?}");
    assert_eq!(shown, "Seal { keys: 2, .. }");
}
