//! Events that readers refuse end every value of the tier.

use super::tier::keys;
use super::*;
use crate::bus::local::LocalBus;
use crate::bus::local::tests::config;
use crate::bus::tier::{Fetch, Found, Head, Name, Put, Stored, Subject};
use crate::event::{Event, MAX_PAYLOAD, Op, What, decode, encode_within};

/// A value of a cache that no event here names, so that only an event that drops everything ends it.
fn bystander(position: Position) -> (Put, Fetch) {
    let subject = Subject {
        cache: 0xf0f0_f0f0,
        format: 1,
        hash: 1,
    };
    let name = Name::default().map(|_| b'x');
    let put = Put {
        name,
        subject,
        head: Head {
            position,
            born: 0,
            expires: u64::MAX >> 12,
            digest: [0; 16],
            mac: [0; 16],
            tags: Box::default(),
        },
        body: Some(Bytes::from_static(b"body")),
        forget: u64::MAX >> 12,
        claim: None,
    };
    let fetch = Fetch {
        name,
        subject,
        part: 1_000,
        margin: 0,
        claim: None,
    };
    (put, fetch)
}

/// Returns whether this payload ends everything, on a bus whose head is `head`; then the next head.
async fn ends_everything(bus: &dyn Bus, head: &mut Position, payload: &Bytes) -> bool {
    let (put, fetch) = bystander(*head);
    assert_eq!(bus.put(0, put).await.unwrap(), Stored::Written);
    *head = bus.publish(0, payload.clone(), vec![]).await.unwrap();
    match bus.fetch(0, fetch).await.unwrap().found {
        Found::Value(_) => false,
        Found::Nothing(_) => true,
        other => unreachable!("there is a record: {other:?}"),
    }
}

/// An event in an encoding of its own: any width of integers, and what later versions may append.
fn foreign(dice: &mut fastrand::Rng, cache: u64, appended: &[u8]) -> Vec<u8> {
    let integer = |dice: &mut fastrand::Rng, out: &mut Vec<u8>, value: u64| {
        let bytes = value.to_be_bytes();
        match dice.u8(0..4) {
            0 => out.extend_from_slice(&[&[0xcf], &bytes[..]].concat()),
            1 if value < 1 << 63 => out.extend_from_slice(&[&[0xd3], &bytes[..]].concat()),
            2 if value < 1 << 32 => out.extend_from_slice(&[&[0xce], &bytes[4..]].concat()),
            _ if value < 128 => out.push(value as u8),
            _ => out.extend_from_slice(&[&[0xcf], &bytes[..]].concat()),
        }
    };
    let more = u8::from(!appended.is_empty());
    let (outer, inner) = (more * dice.u8(0..2), more * dice.u8(0..2));
    let mut out = vec![1, 0x93 + outer];
    for value in [dice.u64(..), dice.u64(..)] {
        integer(dice, &mut out, value);
    }
    out.extend_from_slice(&[0xdc, 0, 1, 0x94 + inner]);
    for value in [cache, dice.u64(0..1 << 32), dice.u64(0..2)] {
        integer(dice, &mut out, value);
    }
    out.extend_from_slice(&[&[0xc4, 8], &[dice.u8(..); 8][..]].concat());
    for _ in 0..inner + outer {
        out.extend_from_slice(appended);
    }
    out
}

/// What later versions may append; the last ones go deeper than a reader follows, or are cut off.
const APPENDED: [&[u8]; 14] = [
    b"",
    &[0xc0],
    &[0xc2],
    &[0xe0],
    &[0xcb, 1, 2, 3, 4, 5, 6, 7, 8],
    &[0xa3, b'f', b'o', b'o'],
    &[0xd9, 2, b'o', b'k'],
    &[0xc5, 0, 1, 9],
    &[0x82, 0xa1, b'a', 1, 0xa1, b'b', 0x92, 1, 2],
    &[0xde, 0, 1, 1, 0xdd, 0, 0, 0, 1, 7],
    &[0xd6, 1, 2, 3, 4, 5],
    &[0xc1],
    &[0x91; 40],
    &[0xdb, 0xff, 0xff, 0xff, 0xff, 1],
];

#[tokio::test]
async fn an_event_that_readers_refuse_ends_every_value_of_the_tier() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    let (local, _local_events) = LocalBus::default().attach(config(1));
    let mut heads = Vec::new();
    for bus in [&*bus as &dyn Bus, &*local] {
        bus.share();
        heads.push(bus.verify(0).await.unwrap().head);
    }
    let mut dice = fastrand::Rng::with_seed(7);
    let (mut refused, mut read) = (0, 0);
    for number in 0..3_000_usize {
        let cache = match number % 5 {
            0 => dice.u64(1 << 32..=u64::MAX),
            _ => dice.u64(0..1 << 28),
        };
        let mut payload = foreign(&mut dice, cache, APPENDED[number % APPENDED.len()]);
        match dice.u8(0..6) {
            0 => payload.truncate(dice.usize(0..=payload.len())),
            1 => payload.push(dice.u8(..)),
            2 => {
                let at = dice.usize(0..payload.len());
                payload[at] = dice.u8(..);
            }
            _ => {}
        }
        let payload = Bytes::from(payload);
        let decoded = decode(&payload);
        let over_redis = ends_everything(&*bus, &mut heads[0], &payload).await;
        let in_process = ends_everything(&*local, &mut heads[1], &payload).await;
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        let ends = match &decoded {
            Ok(event) => event.ops.iter().any(|op| op.what == What::Lane),
            Err(_) => true,
        };
        assert_eq!(in_process, ends, "{decoded:?}: {hex}");
        assert!(over_redis || !ends, "{decoded:?}: {hex}");
        match decoded {
            Err(_) => refused += 1,
            // Extensions, and strings in place of bins, are for readers only.
            Ok(_) if !over_redis => read += 1,
            Ok(_) => {}
        }
    }
    assert!(refused > 800 && read > 800, "{refused} {read}");
}

#[tokio::test]
async fn more_caches_than_the_history_holds_cost_the_values_once() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    bus.share();
    let mut head = bus.verify(0).await.unwrap().head;
    let caches = |first: u32| {
        let op = |cache| Op {
            cache,
            format: 1,
            what: What::Cache,
        };
        let ops = (first..first + 2_100).map(op).collect();
        let (origin, sent) = (1, 1);
        Bytes::from(encode_within(&Event { origin, sent, ops }, MAX_PAYLOAD))
    };
    assert!(!ends_everything(&*bus, &mut head, &caches(0)).await);
    assert!(ends_everything(&*bus, &mut head, &caches(2_100)).await);
    for hash in 0..3 {
        let ends = ends_everything(&*bus, &mut head, &keys(vec![hash])).await;
        assert!(!ends, "the record has begun again");
    }
    let mut admin = admin(&server);
    assert_eq!(admin.cmd(&["HLEN", "us:{shop:0}f"]).int(), Some(3));
    for record in ["us:{shop:0}r", "us:{shop:0}f"] {
        assert!(admin.cmd(&["PTTL", record]).int() > Some(0), "{record}");
    }
}
