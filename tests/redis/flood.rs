//! More than an instance can take, in messages as large as they may be: it drops what there is no room
//! for, notices that, and repairs it. Its memory has a bound in bytes.

use std::sync::{Arc, Condvar, Mutex};

use unstale::{Cache, Instance};

use super::{CHANNEL, one_event, settings, until};
use crate::support::nodes::metric;
use testkit::redis::RedisServer;
use testkit::resp::{Client, Value};
use testkit::service::Service;

/// Bytes of a stranger's event, under another epoch: an instance that hears it drops it.
const LARGE: usize = 60_000;
/// More of them than the queue has room for, and fewer than its places.
const MESSAGES: u64 = 1_500;

/// Holds everything that is dropped until it is opened.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    fn close(&self) {
        self.state.lock().unwrap().0 = true;
    }

    fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.changed.notify_all();
    }

    fn holds(&self) -> bool {
        self.state.lock().unwrap().1
    }
}

/// A value that is dropped where the instance applies events, and keeps it there.
#[derive(Clone)]
struct Held(Arc<Gate>);

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap();
        if !state.0 {
            return;
        }
        state.1 = true;
        drop(state);
        tokio::task::block_in_place(|| {
            let state = self.0.state.lock().unwrap();
            let _open = self.0.changed.wait_while(state, |(closed, _)| *closed);
        });
    }
}

fn held(instance: &Instance, gate: &Arc<Gate>) -> Cache<u64, Held> {
    let gate = gate.clone();
    let cache = instance.cache::<u64, Held>("held").loader(move |_: u64| {
        let value = Held(gate.clone());
        async move { Ok(value) }
    });
    cache.build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn large_messages_that_are_not_consumed_are_a_gap_that_is_repaired() {
    // Redis would cut off a subscriber that lags so far behind, which is not what is tested here.
    let server = RedisServer::start_with(&["--client-output-buffer-limit", "pubsub 0 0 0"]);
    let start = async || Instance::start(settings(&server.url())).await.unwrap();
    let (reader, writer, gate) = (start().await, start().await, Arc::new(Gate::default()));
    let (read, written) = (held(&reader, &gate), held(&writer, &gate));
    for key in 0..3 {
        drop(read.get(&key).await.unwrap());
    }
    let lagged = || metric(&reader, r#"unstale_gaps_total{cause="lagged"}"#);
    assert_eq!(lagged(), 0);
    gate.close();
    written.invalidate(&1).await.unwrap();
    until("the reader is held", async || gate.holds()).await;
    let port = server.port();
    let flood = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(port);
        let large = one_event(0, 1, &[b'x'; LARGE]);
        for _ in 0..MESSAGES {
            let publish = [&b"PUBLISH"[..], CHANNEL.as_bytes(), &large];
            assert_eq!(client.cmd(&publish).text(), "2");
        }
    });
    flood.await.unwrap();
    let delivered = || {
        metric(
            &reader,
            r#"unstale_bus_received_bytes_total{kind="deliver"}"#,
        )
    };
    until("all of it has arrived", async || {
        delivered() >= MESSAGES * LARGE as u64
    })
    .await;
    written.invalidate(&2).await.unwrap();
    gate.open();
    until("the gap is known", async || lagged() > 0).await;
    until("what was dropped is repaired", async || {
        read.peek(&2).is_none()
    })
    .await;
    until("all is served again", async || {
        drop(read.get(&0).await.unwrap());
        read.peek(&0).is_some()
    })
    .await;
}

/// Growth of a process in each flood, in KiB.
const BOUND: u64 = 48 << 10;

/// The reference service, whose memory is its own.
async fn service(server: &RedisServer, key: Option<&str>) -> (Service, tempfile::TempDir) {
    let url = server.url();
    let mut vars = vec![("UNSTALE_REDIS_URL", &*url), ("UNSTALE_NAMESPACE", "shop")];
    vars.extend(key.map(|key| ("UNSTALE_SIGNING_KEY", key)));
    let folder = tempfile::TempDir::new().unwrap();
    let service = Service::start(&folder.path().join("accounts.db"), &vars).await;
    (service, folder)
}

/// Publishes as fast as Redis takes it, so many times what this makes of a number. Returns how far the service
/// grew meanwhile. It serves afterwards.
async fn growth(
    (server, service): (&RedisServer, &Service),
    times: u64,
    mut message: impl FnMut(u64) -> Vec<u8> + Send + 'static,
) -> u64 {
    // Forgets how large it has been.
    std::fs::write(format!("/proc/{}/clear_refs", service.pid()), "5").unwrap();
    let (before, port) = (memory(service, "VmRSS:"), server.port());
    let flood = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(port);
        for number in 1..=times {
            let message = message(number);
            client
                .send(&[b"PUBLISH", CHANNEL.as_bytes(), &message])
                .unwrap();
            // Sixteen are under way.
            if number > 16 {
                client.read().unwrap();
            }
        }
        (0..times.min(16)).for_each(|_| drop(client.read().unwrap()));
    });
    flood.await.unwrap();
    until("it answers", async || {
        let put = service.put(1, "a name", 1).await;
        put.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    memory(service, "VmHWM:").saturating_sub(before)
}

/// A user who may listen and publish replays one genuine event of the largest size, at places that are yet to come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_genuine_events_takes_no_more_memory_than_its_bound() {
    /// 820 MB of them.
    const PLAYED: u64 = 100_000;
    let server = RedisServer::start();
    let key = "a signing key of many bytes";
    let (service, _folder) = service(&server, Some(key)).await;
    let mut tap = Client::connect(server.port());
    tap.cmd(&["SUBSCRIBE", CHANNEL]);
    let mut writer = settings(&server.url());
    writer.signing_key = Some(key.to_owned());
    let writer = Instance::start(writer).await.unwrap();
    let accounts = writer.cache::<u64, u64>("accounts").build().unwrap();
    let keys: Vec<u64> = (0..1_000).collect();
    until("it is acknowledged", async || {
        accounts.invalidate_many(&keys).await.is_ok()
    })
    .await;
    let heard = tokio::task::block_in_place(|| tap.read().unwrap());
    let Value::Text(mut genuine) = heard.array()[2].clone() else {
        unreachable!("{heard:?}");
    };
    assert!(genuine.len() > 8_000, "{}", genuine.len());
    drop(tap);
    let last = u64::from_be_bytes(genuine[8..16].try_into().unwrap());
    let ahead = move |number: u64| {
        genuine[8..16].copy_from_slice(&(last + number).to_be_bytes());
        genuine.clone()
    };
    let grown = growth((&server, &service), PLAYED, ahead).await;
    assert!(grown < BOUND, "{grown} KiB");
}

/// A user who may publish, and has no key: nonsense of every size, and events of the largest size.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_anything_takes_no_more_memory_than_its_bound() {
    /// Version 1, `[7, 0, [[cache, format, key, hashes]]]`, of 8,000 hashes.
    fn event(number: u64) -> Vec<u8> {
        let mut event = vec![1, 0x93, 7, 0, 0x91, 0x94, 1, 1, 0, 0xc5];
        event.extend(64_000_u16.to_be_bytes());
        event.extend((0..64_000).map(|_| fastrand::u8(..)));
        one_event(0, number, &event)
    }
    for key in [None, Some("a signing key of many bytes")] {
        let server = RedisServer::start();
        let (service, _folder) = service(&server, key).await;
        let both = (&server, &service);
        for (size, times) in [
            (100, 100_000),
            (65_000, 5_000),
            (1 << 20, 300),
            (30 << 20, 20),
        ] {
            let nonsense = move |number: u64| vec![number as u8; size];
            let grown = growth(both, times, nonsense).await;
            assert!(grown < BOUND, "{times} x {size} bytes: {grown} KiB");
        }
        let grown = growth(both, 5_000, event).await;
        assert!(grown < BOUND, "events: {grown} KiB");
    }
}

/// In KiB, as Linux says it.
fn memory(service: &Service, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}
