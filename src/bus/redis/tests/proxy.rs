//! A TCP proxy that can swallow everything, as a cable does that was pulled.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

pub(super) struct Proxy {
    port: u16,
    swallow: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// To a port of this machine.
    pub(super) async fn start(upstream: u16) -> Self {
        Self::that_ends_silence(upstream, Duration::MAX).await
    }

    /// It ends connections that are silent for so long.
    pub(super) async fn that_ends_silence(upstream: u16, silence: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let swallow = watch::Sender::new(false);
        let swallowing = swallow.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let serving = serve(client, upstream, swallowing.subscribe(), silence);
                connections.spawn(serving);
            }
        });
        Self {
            port,
            swallow,
            task,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Bytes vanish from now on, of present and new connections. Those that lost some stay open and
    /// dead from then on, as behind a NAT that forgot them.
    pub(super) fn swallow(&self) {
        self.swallow.send_replace(true);
    }

    pub(super) fn heal(&self) {
        self.swallow.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: u16,
    swallow: watch::Receiver<bool>,
    silence: Duration,
) {
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await else {
        return;
    };
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    let mut dead = false;
    loop {
        let copied = select! {
            n = client.read(&mut up) => n.map(|n| (&mut server, &up[..n])),
            n = server.read(&mut down) => n.map(|n| (&mut client, &down[..n])),
            () = sleep(silence) => return,
        };
        let Ok((to, bytes)) = copied else { return };
        dead |= *swallow.borrow();
        if bytes.is_empty() || (!dead && to.write_all(bytes).await.is_err()) {
            return;
        }
    }
}
