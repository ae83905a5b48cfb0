//! A TCP proxy that does to a connection what networks do, and to single messages what they do not.
//!
//! Modes hold for all connections, present and future, until they are changed; cuts hit the present
//! ones. The proxy runs on the test's runtime and is gone with all its connections when dropped.

mod connection;
mod frames;
mod messages;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::redis::free_port;
pub use frames::Push;

/// How often a port is tried that should be free: ten seconds at [`RETRY`].
const BIND_ATTEMPTS: usize = 1_000;

const RETRY: Duration = Duration::from_millis(10);

/// One half of every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// What happens to the bytes of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Every byte arrives this much later, in order.
    Delay(Duration),
    /// Bytes vanish, an end of the connection too. A connection that lost some is reset when the
    /// mode ends: TCP never delivers what comes after a hole.
    Blackhole,
    /// Nothing is read, so that the sender's kernel makes it wait; everything arrives afterwards.
    Stall,
}

/// What meets a client that connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    /// Accepted, then closed.
    Close,
    /// Accepted, then reset.
    Reset,
    /// Nothing listens: connection refused.
    Refuse,
}

/// How connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Fin,
    Rst,
}

/// What happens to one message for a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    Drop,
    Duplicate,
    /// It changes places with the next message of its connection; without one it never arrives.
    Swap,
}

/// Messages for subscribers so far, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub pushes: u64,
    pub dropped: u64,
    pub duplicated: u64,
    pub swapped: u64,
}

/// A running proxy on a port of 127.0.0.1.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to a port of 127.0.0.1, where a server may or may not be.
    pub async fn start(upstream: u16) -> Self {
        let mut attempts = 0;
        let (port, listener) = loop {
            let port = free_port();
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
                Ok(listener) => break (port, listener),
                Err(error) => assert!(attempts < BIND_ATTEMPTS, "no port: {error}"),
            }
            attempts += 1;
        };
        let shared = Arc::new(Shared {
            upstream: AtomicU16::new(upstream),
            to_server: watch::Sender::new(Mode::Pass),
            to_client: watch::Sender::new(Mode::Pass),
            door: watch::Sender::new(Door::Open),
            shown: watch::Sender::new(Door::Open),
            cut: watch::Sender::new(Cut::Fin),
            filter: Mutex::new(Filter(Box::new(|_| Fate::Pass))),
            counts: Mutex::default(),
            accepted: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(Arc::clone(&shared), listener, port));
        Self { port, shared, task }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where connections lead that are made from now on.
    pub fn set_upstream(&self, port: u16) {
        self.shared.upstream.store(port, Relaxed);
    }

    pub fn set(&self, direction: Direction, mode: Mode) {
        self.shared.mode(direction).send_replace(mode);
    }

    pub fn set_both(&self, mode: Mode) {
        self.set(Direction::ToServer, mode);
        self.set(Direction::ToClient, mode);
    }

    /// Holds for every client that connects after this has returned.
    pub async fn set_door(&self, door: Door) {
        self.shared.door.send_replace(door);
        // The proxy's task ends only with the proxy.
        let _ = self
            .shared
            .shown
            .subscribe()
            .wait_for(|shown| *shown == door)
            .await;
    }

    /// Ends all present connections, on both sides.
    pub fn cut(&self, how: Cut) {
        self.shared.cut.send_replace(how);
    }

    /// Decides about every message for a subscriber from now on, in the order they arrive in.
    pub fn filter(&self, filter: impl FnMut(Push<'_>) -> Fate + Send + 'static) {
        *lock(&self.shared.filter) = Filter(Box::new(filter));
    }

    /// Gives the next messages these fates, and lets all later ones pass.
    pub fn next_fates(&self, fates: impl IntoIterator<Item = Fate>) {
        let mut fates: VecDeque<Fate> = fates.into_iter().collect();
        self.filter(move |_| fates.pop_front().unwrap_or(Fate::Pass));
    }

    /// Drops the next `count` messages for subscribers, on connections that stay healthy.
    pub fn drop_next(&self, count: usize) {
        self.next_fates(std::iter::repeat_n(Fate::Drop, count));
    }

    pub fn counts(&self) -> Counts {
        *lock(&self.shared.counts)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections' tasks belong to this one.
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A filter that panicked has failed its test; this one is not to hide why.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Filter(Box<dyn FnMut(Push<'_>) -> Fate + Send>);

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Filter")
    }
}

#[derive(Debug)]
struct Shared {
    upstream: AtomicU16,
    to_server: watch::Sender<Mode>,
    to_client: watch::Sender<Mode>,
    door: watch::Sender<Door>,
    /// The door that clients see by now.
    shown: watch::Sender<Door>,
    /// Changed, even to the same value, by every cut.
    cut: watch::Sender<Cut>,
    filter: Mutex<Filter>,
    counts: Mutex<Counts>,
    accepted: AtomicU64,
}

impl Shared {
    fn mode(&self, direction: Direction) -> &watch::Sender<Mode> {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn fate(&self, push: Push<'_>) -> Fate {
        let fate = (lock(&self.filter).0)(push);
        let mut counts = lock(&self.counts);
        counts.pushes += 1;
        match fate {
            Fate::Pass => {}
            Fate::Drop => counts.dropped += 1,
            Fate::Duplicate => counts.duplicated += 1,
            Fate::Swap => counts.swapped += 1,
        }
        fate
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, port: u16) {
    let mut listener = Some(listener);
    let mut door = shared.door.subscribe();
    let mut connections = JoinSet::new();
    loop {
        let now = *door.borrow_and_update();
        if now == Door::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = Some(bind(port).await);
        }
        shared.shown.send_replace(now);
        let client = tokio::select! {
            biased;
            _ = door.changed() => continue,
            Some(_) = connections.join_next() => continue,
            client = async { listener.as_ref()?.accept().await.ok() }, if listener.is_some() => client,
        };
        let Some((client, _)) = client else {
            // No file descriptors, say: other tests will give some back.
            sleep(RETRY).await;
            continue;
        };
        shared.accepted.fetch_add(1, Relaxed);
        match now {
            Door::Open => {
                // Here, not in the task: a cut from now on concerns this connection.
                let cut = shared.cut.subscribe();
                connections.spawn(connection::serve(Arc::clone(&shared), client, cut));
            }
            Door::Close => connection::close(&client, Cut::Fin),
            Door::Reset | Door::Refuse => connection::close(&client, Cut::Rst),
        }
    }
}

async fn bind(port: u16) -> TcpListener {
    for _ in 0..BIND_ATTEMPTS {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            return listener;
        }
        sleep(RETRY).await;
    }
    unreachable!("port {port} lies outside the range that clients get theirs from");
}
