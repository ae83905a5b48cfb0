//! What stands between an instance and Redis, to be cut.

use std::io;
use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What happens to the bytes of all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Nothing arrives in either direction, without an error at either end.
    Silent,
    /// Connections are closed, and new ones at once.
    Cut,
}

/// A TCP proxy on a port of its own, gone with its connections when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to `host:port`.
    pub(crate) async fn start(upstream: String) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let mode = watch::Sender::new(Mode::Pass);
        let task = tokio::spawn(accept(listener, upstream, mode.subscribe()));
        Ok(Self { port, mode, task })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    pub(crate) fn silence(&self) {
        self.mode.send_replace(Mode::Silent);
    }

    /// Lets new connections through. Those that were silent are closed: what their clients have
    /// given up is not to arrive now.
    pub(crate) fn heal(&self) {
        self.mode.send_replace(Mode::Pass);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, upstream: String, mode: watch::Receiver<Mode>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            Ok((client, _)) = listener.accept() => {
                if *mode.borrow() != Mode::Cut {
                    connections.spawn(serve(client, upstream.clone(), mode.clone()));
                }
            }
        }
    }
}

/// Carries bytes until an end closes, or the mode changes; what closes a connection is its drop.
async fn serve(mut client: TcpStream, upstream: String, mut mode: watch::Receiver<Mode>) {
    if *mode.borrow_and_update() == Mode::Pass {
        let carry = async {
            let mut server = TcpStream::connect(upstream).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut server).await
        };
        let mut carry = std::pin::pin!(carry);
        tokio::select! {
            _ = &mut carry => {}
            changed = mode.changed() => {
                if changed.is_ok() && *mode.borrow_and_update() == Mode::Silent {
                    // Both ends stay open, and what is between them is not polled.
                    let _ = mode.changed().await;
                }
            }
        }
    } else {
        let _ = mode.changed().await;
    }
}
