//! More than an instance can take, in messages as large as they may be: it drops what there is no room
//! for, says so to itself, and repairs it.

use std::sync::{Arc, Condvar, Mutex};

use unstale::{Cache, Instance};

use super::{CHANNEL, settings, until};
use crate::support::nodes::metric;
use testkit::redis::RedisServer;
use testkit::resp::Client;

/// Of a stranger, under another epoch: whoever hears it drops it.
const LARGE: usize = 60_000;
/// More of them than fit into the queue's 64 MiB, and fewer than its places.
const MESSAGES: u64 = 1_500;

/// Holds whatever is dropped until it is opened.
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
async fn large_messages_that_nobody_takes_are_a_gap_that_is_repaired() {
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
        let large = "x".repeat(LARGE);
        for _ in 0..MESSAGES {
            assert_eq!(client.cmd(&["PUBLISH", CHANNEL, &large]).text(), "2");
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
