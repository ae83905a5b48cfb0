use super::*;
use crate::bus::tier::{HISTORY, Subject};
use crate::event::{Event, MAX_PAYLOAD, Op, What, encode_within};

const EPOCH: u64 = 7;
const NOW: u64 = 1_000_000;

fn at(sequence: u64) -> Position {
    Position {
        epoch: EPOCH,
        sequence,
    }
}

fn subject(format: u32, hash: u64) -> Subject {
    Subject {
        cache: 1,
        format,
        hash,
    }
}

fn put(subject: Subject, sequence: u64, tags: &[u64]) -> Put {
    let mut name = Name::default();
    name[..16].copy_from_slice(&subject.packed());
    Put {
        name,
        subject,
        head: Head {
            position: at(sequence),
            born: NOW,
            expires: NOW + 1_000,
            digest: *b"0123456789abcdef",
            mac: [0; 16],
            tags: tags.into(),
        },
        body: Some(Bytes::from_static(b"body")),
        forget: NOW + 2_000,
        claim: None,
    }
}

fn fetch(put: &Put) -> Fetch {
    Fetch {
        name: put.name,
        subject: put.subject,
        part: 1_000,
        margin: 0,
        claim: None,
    }
}

fn finds(tier: &mut Tier, head: u64, put: &Put) -> bool {
    let found = tier.fetch(at(head), true, NOW, &fetch(put)).found;
    matches!(found, Found::Value(_))
}

fn event(format: u32, what: What) -> Vec<u8> {
    let ops = vec![Op {
        cache: 1,
        format,
        what,
    }];
    let event = Event {
        origin: 5,
        sent: 6,
        ops,
    };
    encode_within(&event, MAX_PAYLOAD)
}

/// A history from sequence 100 on.
fn begun() -> Tier {
    let mut tier = Tier::default();
    tier.begin(at(100), Signs::No);
    tier
}

#[test]
fn below_the_floor_and_without_a_history_nothing_is_stored() {
    let mut none = Tier::default();
    assert_eq!(
        none.put(at(100), put(subject(1, 2), 100, &[])),
        Stored::Refused
    );
    let mut tier = begun();
    assert_eq!(
        tier.put(at(100), put(subject(1, 2), 99, &[])),
        Stored::Refused
    );
    let mut other = put(subject(1, 2), 100, &[]);
    other.head.position.epoch = EPOCH + 1;
    assert_eq!(tier.put(at(100), other), Stored::Refused);
    assert_eq!(
        tier.put(at(100), put(subject(1, 2), 100, &[])),
        Stored::Written
    );
    // Nothing of another life of the server counts.
    let unsound = tier.fetch(at(100), false, NOW, &fetch(&put(subject(1, 2), 100, &[])));
    assert_eq!(unsound.found, Found::NoHistory);
}

#[test]
fn an_event_ends_what_it_names_and_nothing_else() {
    for (what, named) in [
        (What::Keys(vec![8, 2]), true),
        (What::Keys(vec![3]), false),
        (What::Tags(vec![30]), true),
        (What::Tags(vec![31]), false),
        (What::Cache, true),
        (What::Lane, true),
    ] {
        let mut tier = begun();
        let value = put(subject(1, 2), 100, &[30]);
        assert_eq!(tier.put(at(100), value.clone()), Stored::Written);
        assert!(finds(&mut tier, 100, &value));
        tier.remember(at(101), &event(1, what.clone()));
        assert_eq!(finds(&mut tier, 101, &value), !named, "{what:?}");
        // A load that began before it comes too late; one that began after it does not.
        let again = tier.put(at(101), value);
        assert_eq!(again == Stored::Refused, named, "{what:?}");
        let later = put(subject(1, 2), 101, &[30]);
        assert_eq!(tier.put(at(101), later.clone()), Stored::Written);
        assert!(finds(&mut tier, 101, &later));
    }
}

#[test]
fn an_event_in_another_format_ends_the_whole_cache_for_this_one() {
    let mut tier = begun();
    let values = [put(subject(1, 2), 100, &[]), put(subject(2, 2), 100, &[])];
    for value in &values {
        tier.put(at(100), value.clone());
    }
    tier.remember(at(101), &event(1, What::Keys(vec![77])));
    assert!(finds(&mut tier, 101, &values[0]));
    assert!(!finds(&mut tier, 101, &values[1]));
    // By turns: each ends the other's.
    let second = put(subject(2, 2), 101, &[]);
    tier.put(at(101), second.clone());
    tier.remember(at(102), &event(2, What::Keys(vec![77])));
    assert!(!finds(&mut tier, 102, &values[0]));
    assert!(finds(&mut tier, 102, &second));
    tier.remember(at(103), &event(1, What::Keys(vec![77])));
    assert!(!finds(&mut tier, 103, &second));
}

#[test]
fn an_unreadable_event_or_a_hole_ends_everything_until_the_history_begins_again() {
    let value = put(subject(1, 2), 100, &[]);
    let bare = event(1, What::Keys(vec![3]));
    let signed = [&bare[..], b"16 bytes of MAC."].concat();
    let longer = [&signed[..], b"!"].concat();
    for (signs, payload, ends) in [
        (Signs::No, &bare[..], false),
        (Signs::No, &signed, true),
        (Signs::Yes, &signed, false),
        (Signs::Yes, &bare, true),
        (Signs::Yes, &longer, true),
        (Signs::Yes, b"short", true),
        (Signs::No, b"\x02", true),
        (Signs::No, b"", true),
    ] {
        let mut tier = Tier::default();
        tier.begin(at(100), signs);
        tier.put(at(100), value.clone());
        tier.remember(at(101), payload);
        assert_eq!(finds(&mut tier, 101, &value), !ends);
    }
    let mut tier = begun();
    tier.put(at(100), value.clone());
    // Event 101 is not in the history.
    tier.remember(at(102), &event(1, What::Keys(vec![3])));
    assert_eq!(
        tier.fetch(at(102), true, NOW, &fetch(&value)).found,
        Found::NoHistory
    );
    tier.begin(at(102), Signs::No);
    assert!(!finds(&mut tier, 102, &value));
}

#[test]
fn the_history_is_capped_and_what_leaves_it_becomes_the_floor() {
    let mut tier = begun();
    let value = put(subject(1, 2), 100, &[]);
    tier.put(at(100), value.clone());
    let mut head = 100;
    for first in (0..HISTORY as u64).step_by(1_024) {
        head += 1;
        let hashes = (first + 10..first + 1_034).collect();
        tier.remember(at(head), &event(1, What::Keys(hashes)));
    }
    assert!(finds(&mut tier, head, &value), "full, and nothing has left");
    tier.remember(at(head + 1), &event(1, What::Keys(vec![5])));
    assert!(!finds(&mut tier, head + 1, &value));
    assert_eq!(tier.history.as_ref().unwrap().len(), HISTORY);
}

#[test]
fn a_newer_value_is_not_replaced_by_an_older_one() {
    let mut tier = begun();
    tier.remember(at(101), &event(1, What::Keys(vec![3])));
    tier.put(at(101), put(subject(1, 2), 101, &[]));
    assert_eq!(
        tier.put(at(101), put(subject(1, 2), 100, &[])),
        Stored::Refused
    );
    assert!(finds(&mut tier, 101, &put(subject(1, 2), 101, &[])));
}

#[test]
fn a_counter_that_was_set_back_does_not_make_a_history_with_a_hole_count_again() {
    let value = put(subject(1, 2), 100, &[]);
    let mut tier = begun();
    tier.put(at(100), value.clone());
    // The counter went back by one and was handed out again: what it has last is not this event.
    tier.remember(at(101), &event(1, What::Keys(vec![3])));
    tier.remember(at(101), &event(1, What::Keys(vec![2])));
    let found = tier.fetch(at(101), true, NOW, &fetch(&value)).found;
    assert_eq!(found, Found::NoHistory);
}
