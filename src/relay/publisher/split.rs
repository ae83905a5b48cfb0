//! Brings what is published to its lanes, and to messages that are not too large.

use crate::coherence::outbox::GROUP_KEYS;
use crate::event::{Op, What};
use crate::store::stamps::lane_of;

/// A key concerns its lane; tags and everything concern every lane.
pub(super) fn split(ops: Vec<Op>, lanes: u32) -> Vec<Vec<Op>> {
    let mut by_lane = vec![Vec::new(); lanes as usize];
    for op in ops {
        if let What::Keys(keys) = &op.what {
            let mut of_lane = vec![Vec::new(); lanes as usize];
            for key in keys {
                of_lane[lane_of(*key, lanes) as usize].push(*key);
            }
            for (lane, keys) in by_lane.iter_mut().zip(of_lane) {
                if !keys.is_empty() {
                    lane.push(Op {
                        what: What::Keys(keys),
                        ..op
                    });
                }
            }
        } else {
            by_lane.iter_mut().for_each(|lane| lane.push(op.clone()));
        }
    }
    by_lane
}

/// Each within what a message may hold.
pub(super) fn messages(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let mut messages: Vec<Vec<Op>> = Vec::new();
    let mut room = 0;
    for op in ops.iter().flat_map(pieces) {
        let takes = hashes(&op.what).len().max(1);
        if takes > room {
            messages.push(Vec::new());
            room = GROUP_KEYS;
        }
        room -= takes;
        if let Some(message) = messages.last_mut() {
            message.push(op);
        }
    }
    messages
}

fn pieces(op: &Op) -> Vec<Op> {
    let piece = |what| Op { what, ..op.clone() };
    let chunks = hashes(&op.what).chunks(GROUP_KEYS);
    match &op.what {
        What::Keys(_) => chunks
            .map(|keys| piece(What::Keys(keys.to_vec())))
            .collect(),
        What::Tags(_) => chunks
            .map(|tags| piece(What::Tags(tags.to_vec())))
            .collect(),
        What::Cache | What::Lane => vec![op.clone()],
    }
}

fn hashes(what: &What) -> &[u64] {
    match what {
        What::Keys(hashes) | What::Tags(hashes) => hashes,
        What::Cache | What::Lane => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_in_one_message_of_its_lane_and_no_message_is_too_large() {
        let of = |what| Op {
            cache: 7,
            format: 1,
            what,
        };
        let keys: Vec<u64> = (0..5_000)
            .map(|n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
            .collect();
        let ops = vec![
            of(What::Keys(keys.clone())),
            of(What::Tags(vec![1, 2])),
            of(What::Cache),
        ];
        let mut seen = Vec::new();
        for (lane, ops) in (0..).zip(split(ops, 3)) {
            let messages = messages(ops);
            assert!(messages.len() > 1);
            for message in &messages {
                let size: usize = message.iter().map(|op| hashes(&op.what).len()).sum();
                assert!(size <= GROUP_KEYS);
            }
            let all: Vec<&What> = messages.iter().flatten().map(|op| &op.what).collect();
            assert!(all.contains(&&What::Cache) && all.contains(&&What::Tags(vec![1, 2])));
            for what in all {
                if let What::Keys(keys) = what {
                    assert!(keys.iter().all(|key| lane_of(*key, 3) == lane));
                    seen.extend_from_slice(keys);
                }
            }
        }
        seen.sort_unstable();
        let mut keys = keys;
        keys.sort_unstable();
        assert_eq!(seen, keys);
    }
}
