//! One client's connection through the proxy.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::messages::Messages;
use super::{Cut, Direction, Mode, Shared};

/// Pieces of a direction that wait for their delay to pass. With 16 KiB each it holds 16 MiB:
/// a second of a link far faster than any test's.
const QUEUE: usize = 1_024;

/// Bytes read at once.
const PIECE: usize = 16 * 1024;

/// Serves a client until either side, a mode or a cut ends it.
pub(super) async fn serve(
    shared: Arc<Shared>,
    mut client: TcpStream,
    mut cut: watch::Receiver<Cut>,
) {
    let Some(mut server) = shared.connect(&mut cut).await else {
        return close(&client, Cut::Rst);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let how = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let ended = async {
            let how = tokio::select! {
                how = shared.pump(Direction::ToServer, from_client, to_server) => how,
                how = shared.pump(Direction::ToClient, from_server, to_client) => how,
            };
            // The server's death shows when the client's bytes do not reach it, too.
            shared.until_visible().await;
            how
        };
        tokio::select! {
            _ = cut.changed() => *cut.borrow(),
            how = ended => how,
        }
    };
    close(&client, how);
    close(&server, how);
}

/// Decides how the kernel will end the connection when the stream is dropped.
pub(super) fn close(stream: &TcpStream, how: Cut) {
    if how == Cut::Rst {
        let _ = stream.set_zero_linger();
    }
}

impl Shared {
    /// A connection to the server; `None` when there is none, or the client's was cut meanwhile.
    async fn connect(&self, cut: &mut watch::Receiver<Cut>) -> Option<TcpStream> {
        let upstream = (Ipv4Addr::LOCALHOST, self.upstream.load(Relaxed));
        let connect = async {
            let server = TcpStream::connect(upstream).await;
            if server.is_err() {
                self.until_visible().await;
            }
            server.ok()
        };
        tokio::select! {
            _ = cut.changed() => None,
            server = connect => server,
        }
    }

    /// Waits while everything that the server does is lost on its way to the client.
    async fn until_visible(&self) {
        let mut mode = self.to_client.subscribe();
        // An error would mean that the proxy is gone, and this connection with it.
        let _ = mode.wait_for(|mode| *mode != Mode::Blackhole).await;
    }

    /// Moves one direction's bytes until it ends. Returns how the connection is to be closed then.
    async fn pump(&self, direction: Direction, from: ReadHalf<'_>, to: WriteHalf<'_>) -> Cut {
        let (queue, queued) = mpsc::channel(QUEUE);
        let reading = self.read(direction, from, queue);
        let writing = write(queued, to);
        tokio::pin!(reading, writing);
        tokio::select! {
            how = &mut reading => {
                if how == Cut::Fin {
                    // What is under way arrives before the end.
                    writing.await;
                }
                how
            }
            () = &mut writing => Cut::Fin,
        }
    }

    async fn read(&self, direction: Direction, mut from: ReadHalf<'_>, queue: Queue) -> Cut {
        let mut mode = self.mode(direction).subscribe();
        let mut messages = Messages::default();
        let mut piece = vec![0; PIECE];
        let (mut lost, mut ended) = (false, false);
        loop {
            let now = *mode.borrow_and_update();
            if lost && now != Mode::Blackhole {
                return Cut::Rst;
            }
            let read = tokio::select! {
                biased;
                changed = mode.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Cut::Fin,
                },
                read = from.read(&mut piece), if !ended && now != Mode::Stall => read.unwrap_or(0),
            };
            let due = match now {
                Mode::Blackhole => {
                    lost = true;
                    ended = read == 0;
                    continue;
                }
                Mode::Delay(delay) => Instant::now() + delay,
                Mode::Pass | Mode::Stall => Instant::now(),
            };
            if read == 0 {
                return Cut::Fin;
            }
            let bytes = match direction {
                Direction::ToServer => piece[..read].to_vec(),
                Direction::ToClient => messages.pass(&piece[..read], |push| self.fate(push)),
            };
            if queue.send((due, bytes)).await.is_err() {
                return Cut::Fin;
            }
        }
    }
}

/// Bytes, and when they are due.
type Queue = mpsc::Sender<(Instant, Vec<u8>)>;

async fn write(mut queued: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: WriteHalf<'_>) {
    while let Some((due, bytes)) = queued.recv().await {
        if due > Instant::now() {
            sleep_until(due).await;
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
