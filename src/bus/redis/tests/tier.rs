//! The scripts of the shared tier decide as the bus inside a process does, which most tests use.

use super::*;
use crate::bus::local::LocalBus;
use crate::bus::local::tests::config;
use crate::bus::tier::{Claim, Fetch, Found, Head, Name, Put, Stored, Subject};
use crate::event::{Event, MAX_PAYLOAD, Op, What, encode_within};

/// One bus, and what it calls things.
struct Side {
    bus: Arc<dyn Bus>,
    /// Its heads, in the order of the events; the same index is the same event on the other side.
    heads: Vec<Position>,
    now: u64,
}

/// What a call came to, in words that both sides share.
type Said = String;

impl Side {
    async fn new(bus: Arc<dyn Bus>) -> Self {
        bus.share();
        let head = bus.verify(0).await.unwrap().head;
        let heads = vec![head];
        Self { bus, heads, now: 0 }
    }

    async fn run(&mut self, step: &Step) -> Said {
        match step {
            Step::Publish(payload) => {
                let head = self.bus.publish(0, payload.clone(), vec![]).await.unwrap();
                self.heads.push(head);
                String::new()
            }
            Step::Fetch(fetch) => {
                let fetched = self.bus.fetch(0, *fetch).await.unwrap();
                self.now = fetched.now;
                let found = match fetched.found {
                    Found::Value(bytes) => {
                        let (head, body) = Head::decode(&bytes).unwrap();
                        let at = self.heads.iter().position(|at| *at == head.position);
                        format!("{at:?} {:?} {:?} {body:?}", head.digest, head.tags)
                    }
                    other => format!("{other:?}"),
                };
                let ahead = fetched.head.sequence - self.heads[0].sequence;
                assert!(found == "NoHistory" || ahead as usize == self.heads.len() - 1);
                found
            }
            Step::Put { back, put } => {
                let last = self.heads.len() - 1;
                let mut put = put.clone();
                put.head.position = self.heads[last.saturating_sub(*back)];
                put.head.born = self.now;
                put.head.expires = self.now + 3_600_000;
                put.forget = self.now + 7_200_000;
                format!("{:?}", self.bus.put(0, put).await.unwrap())
            }
            Step::Release(name, id) => {
                self.bus.release(0, *name, *id).await.unwrap();
                String::new()
            }
        }
    }
}

#[derive(Debug)]
enum Step {
    Publish(Bytes),
    Fetch(Fetch),
    /// With the position of so many events ago.
    Put {
        back: usize,
        put: Put,
    },
    Release(Name, [u8; 16]),
}

/// Few of everything, so that things meet.
struct Dice(fastrand::Rng, bool);

impl Dice {
    fn hashes(&mut self, of: u64) -> Vec<u64> {
        (0..self.0.usize(1..4)).map(|_| self.0.u64(0..of)).collect()
    }

    fn event(&mut self) -> Bytes {
        let ops = (0..self.0.usize(1..4)).map(|_| {
            let what = match self.0.u8(0..40) {
                0..3 => What::Cache,
                3 => What::Lane,
                4..12 => What::Tags(self.hashes(4)),
                _ => What::Keys(self.hashes(6)),
            };
            let (cache, format) = if what == What::Lane {
                (0, 0)
            } else {
                (self.0.u32(1..3), self.0.u32(1..40) / 39 + 1)
            };
            Op {
                cache,
                format,
                what,
            }
        });
        let ops = ops.collect();
        let (origin, sent) = (self.0.u64(..) >> self.0.u32(0..64), self.0.u64(0..300));
        let mut bytes = encode_within(&Event { origin, sent, ops }, MAX_PAYLOAD);
        match self.0.u8(0..80) {
            0 => bytes.truncate(self.0.usize(0..bytes.len())),
            1 => bytes[0] = 2,
            2 => bytes.push(7),
            _ => {}
        }
        if self.1 {
            // In place of a MAC, which the server cannot judge.
            bytes.extend_from_slice(&[7; 16]);
        }
        bytes.into()
    }

    fn subject(&mut self) -> (Name, Subject) {
        let (cache, format) = (self.0.u32(1..3), self.0.u32(1..9) / 8 + 1);
        let hash = self.0.u64(0..3);
        let mut name = Name::default();
        name.copy_from_slice(format!("{cache:07}{format:07}{hash:08}").as_bytes());
        let subject = Subject {
            cache,
            format,
            hash,
        };
        (name, subject)
    }

    fn id(&mut self) -> [u8; 16] {
        [self.0.u8(1..4); 16]
    }

    fn step(&mut self) -> Step {
        let (name, subject) = self.subject();
        match self.0.u8(0..10) {
            0..2 => Step::Publish(self.event()),
            2..6 => Step::Fetch(Fetch {
                name,
                subject,
                part: if self.0.u8(0..8) == 0 { 0 } else { 1_000 },
                margin: if self.0.u8(0..8) == 0 {
                    u64::MAX >> 16
                } else {
                    0
                },
                claim: self.0.bool().then(|| Claim {
                    id: self.id(),
                    millis: 60_000,
                }),
            }),
            6 => Step::Release(name, self.id()),
            _ => {
                let tags: Box<[u64]> = (0..self.0.u64(0..5) / 2).collect();
                // As a digest does, this one tells tags and bodies apart.
                let digest = [tags.len() as u8; 16];
                let body = Bytes::from(format!("body {digest:?}"));
                let put = Put {
                    name,
                    subject,
                    head: Head {
                        position: Position {
                            epoch: 0,
                            sequence: 0,
                        },
                        born: 0,
                        expires: 0,
                        digest,
                        mac: [0; 16],
                        tags,
                    },
                    body: self.0.bool().then_some(body),
                    forget: 0,
                    claim: self.0.bool().then(|| self.id()),
                };
                let back = self.0.usize(0..4);
                Step::Put { back, put }
            }
        }
    }
}

#[tokio::test]
async fn the_scripts_decide_as_the_bus_inside_a_process_does() {
    let server = RedisServer::start();
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for seed in 0..4 {
        let namespace = format!("seed-{seed}");
        let signs = seed % 2 == 1;
        let here = BusConfig {
            namespace: namespace.clone(),
            signs,
            ..bus_config(1)
        };
        let (over_redis, _events) = join(&server.url(), here).await;
        let (local, _local_events) = LocalBus::default().attach(BusConfig { signs, ..config(1) });
        let mut sides = [
            Side::new(local).await,
            Side::new(over_redis.clone() as Arc<dyn Bus>).await,
        ];
        let mut dice = Dice(fastrand::Rng::with_seed(seed), signs);
        let mut steps = Vec::new();
        for _ in 0..600 {
            let step = dice.step();
            let mut said = Vec::new();
            for side in &mut sides {
                said.push(side.run(&step).await);
            }
            steps.push(step);
            let last = steps.iter().rev().take(12).collect::<Vec<_>>();
            assert_eq!(said[0], said[1], "seed {seed}, the latest first: {last:#?}");
            let word = said[0].split([' ', '(']).next().unwrap_or_default();
            *seen.entry(word.to_owned()).or_default() += 1;
        }
        over_redis.close(StillOpen::default()).await;
    }
    for word in [
        "Some",
        "Claimed",
        "Nothing",
        "Written",
        "Renewed",
        "BodyNeeded",
        "Refused",
    ] {
        assert!(seen.get(word).is_some_and(|n| *n > 20), "{word}: {seen:?}");
    }
}

#[tokio::test]
async fn the_history_is_capped_over_redis_too() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    bus.share();
    let begun = bus.verify(0).await.unwrap().head;
    let mut dice = Dice(fastrand::Rng::with_seed(1), false);
    let (name, subject) = dice.subject();
    let put = |position| Put {
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
    assert_eq!(bus.put(0, put(begun)).await.unwrap(), Stored::Written);
    for first in (0..65_536_u64).step_by(1_024) {
        let hashes = (first + 10..first + 1_034).collect();
        let payload = keys(hashes);
        bus.publish(0, payload, vec![]).await.unwrap();
    }
    let fetch = Fetch {
        name,
        subject,
        part: 1_000,
        margin: 0,
        claim: None,
    };
    let found = bus.fetch(0, fetch).await.unwrap().found;
    assert!(matches!(found, Found::Value(_)), "{found:?}");
    bus.publish(0, keys(vec![7]), vec![]).await.unwrap();
    let found = bus.fetch(0, fetch).await.unwrap().found;
    assert!(matches!(found, Found::Nothing(Some(_))), "{found:?}");
    let mut admin = admin(&server);
    assert_eq!(admin.cmd(&["ZCARD", "us:{shop:0}r"]).int(), Some(65_537));
}

pub(super) fn keys(hashes: Vec<u64>) -> Bytes {
    let ops = vec![Op {
        cache: 7,
        format: 1,
        what: What::Keys(hashes),
    }];
    let (origin, sent) = (1, 1);
    encode_within(&Event { origin, sent, ops }, MAX_PAYLOAD).into()
}

#[tokio::test]
async fn a_server_whose_life_is_not_verified_is_not_believed() {
    let server = RedisServer::start();
    let (bus, _events) = join(&server.url(), bus_config(1)).await;
    bus.share();
    let begun = bus.verify(0).await.unwrap().head;
    let mut dice = Dice(fastrand::Rng::with_seed(1), false);
    let (name, subject) = dice.subject();
    let put = Put {
        name,
        subject,
        head: Head {
            position: begun,
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
    assert_eq!(bus.put(0, put).await.unwrap(), Stored::Written);
    let found = async || bus.fetch(0, fetch).await.unwrap().found;
    assert!(matches!(found().await, Found::Value(_)));
    // What a promoted replica finds: everything, but another's run id.
    admin(&server).cmd(&["HSET", "us:{shop:0}s", "r", "another"]);
    assert_eq!(found().await, Found::NoHistory);
    // Once it is verified it has an epoch of its own, in which the value is of no use.
    bus.verify(0).await.unwrap();
    assert!(matches!(found().await, Found::Nothing(Some(_))));
}
