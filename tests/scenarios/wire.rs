//! One instance's way to Redis, which can be made slow or silent.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// What a wire does with bytes, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// They arrive so much later.
    Slow(Duration),
    /// They arrive once the mode ends; neither side is notified.
    Silent,
}

/// Ends its connections when dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    port: u16,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A wire to a port of 127.0.0.1.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = watch::Sender::new(Mode::Pass);
        let task = tokio::spawn(accept(listener, server, mode.subscribe()));
        Self { port, mode, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: u16, mode: watch::Receiver<Mode>) {
    // Dropped, and so ended, with this task.
    let mut pumps = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else {
            continue;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        pumps.spawn(pump(from_client, to_server, mode.clone()));
        pumps.spawn(pump(from_server, to_client, mode.clone()));
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let present = *mode.borrow();
        match present {
            Mode::Pass => {}
            Mode::Slow(by) => sleep(by).await,
            Mode::Silent => {
                if mode.wait_for(|mode| *mode != Mode::Silent).await.is_err() {
                    return;
                }
            }
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
