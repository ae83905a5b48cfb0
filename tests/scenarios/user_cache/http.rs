//! Clients that hang up, as a real server sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use super::{Fleet, routes};
use crate::support::fleet::PATIENCE;

/// Counts requests whose handler was dropped before it ended.
struct Dropped(Option<Arc<AtomicU64>>);

impl Dropped {
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(counter) = &self.0 {
            counter.fetch_add(1, SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_a_client_that_disconnects_during_a_load_leaves_the_cache_filled() {
    let fleet = Fleet::slow().await;
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = dropped.clone();
    let watch = move |request: Request, next: Next| {
        let dropped = Dropped(Some(counter.clone()));
        async move {
            let response = next.run(request).await;
            dropped.ended();
            response
        }
    };
    let router = routes::router(fleet.users[0].clone()).layer(from_fn(watch));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let mut client = TcpStream::connect(address).await.unwrap();
    let request = b"GET /users/7 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    client.write_all(request).await.unwrap();
    while fleet.database.queries() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    drop(client);
    let gone = Instant::now();
    while dropped.load(SeqCst) == 0 {
        assert!(gone.elapsed() < PATIENCE, "it is not noticed");
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(fleet.reads(), (1, 0, 0));

    // No caller waits for it, and it still ends: the next client is answered from memory.
    while fleet.metric(0, r#"unstale_entries{cache="users"}"#) == 0 {
        assert!(gone.elapsed() < PATIENCE, "nothing was stored");
        sleep(Duration::from_millis(5)).await;
    }
    let response = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(format!("http://{address}/users/7"))
        .send();
    let response = response.await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(response.text().await.unwrap(), r#"{"id":7,"role":"admin"}"#);
    assert_eq!((fleet.database.queries(), fleet.reads()), (1, (1, 0, 1)));
    server.abort();
}
