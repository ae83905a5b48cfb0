//! What must hold of any bytes that arrive as an event, for the fuzzer and for the tests.

use bytes::Bytes;

use crate::Settings;
use crate::event::MAX_PAYLOAD;
use crate::event::{Event, Op, Seal, What};

/// Bytes that a decoded event occupies at most for each byte of its payload: an op of six bytes takes
/// a struct of some 40, and a vector that grows has twice the room it needs.
const GROWTH: usize = 16;

/// Reads a payload as an instance without a key does. Returns whether it is an event.
///
/// # Panics
///
/// When something does not hold that must hold of all bytes.
pub fn check_payload(payload: &[u8]) -> bool {
    let bare = Seal::new(&Settings::default());
    let keyed = Seal::new(&Settings {
        signing_key: Some("a key that is not guessed".to_owned()),
        ..Settings::default()
    });
    assert!(keyed.decode(0, payload).is_err(), "a MAC is not guessed");
    let Ok((event, _)) = bare.decode(0, payload) else {
        return false;
    };
    assert!(payload.len() <= MAX_PAYLOAD);
    assert!(
        named(&event) <= payload.len(),
        "{payload:02x?} cannot say {event:?}"
    );
    assert!(
        room(&event) <= GROWTH * payload.len(),
        "more room than that"
    );
    // A string that is not UTF-8 is read as a bin, whose marker is longer by a byte.
    let longest = payload.len() + event.ops.len();
    for (seal, most) in [(&bare, longest), (&keyed, longest + 16)] {
        let again: Bytes = seal.encode(0, &event);
        assert!(again.len() <= most, "what is written is never longer");
        let (read, _) = seal.decode(0, &again).expect("what is written is read");
        let whole = again.len() <= MAX_PAYLOAD && read == event;
        // With a MAC it may no longer fit, and then it says more, never less.
        assert!(whole || read.ops == [Op::lane()]);
    }
    true
}

/// Reads a payload and nothing else. Returns whether it is an event.
#[must_use]
pub fn reads_payload(payload: &[u8]) -> bool {
    Seal::new(&Settings::default()).decode(0, payload).is_ok()
}

fn hashes(op: &Op) -> &Vec<u64> {
    const NONE: &Vec<u64> = &Vec::new();
    match &op.what {
        What::Keys(hashes) | What::Tags(hashes) => hashes,
        What::Cache | What::Lane => NONE,
    }
}

/// Returns the fewest bytes that can say this.
fn named(event: &Event) -> usize {
    let ops = event.ops.iter();
    5 + ops.map(|op| 5 + 8 * hashes(op).len()).sum::<usize>()
}

/// Returns the memory that it takes.
fn room(event: &Event) -> usize {
    let hashes = event.ops.iter().map(|op| 8 * hashes(op).capacity());
    event.ops.capacity() * size_of::<Op>() + hashes.sum::<usize>()
}
