//! A connection that subscribes.
//!
//! It is not fred's: that keeps what it has heard in a queue that counts messages and not bytes, loses
//! refusals of `SUBSCRIBE`, and does not say when a server ends one. Its owner reads it at its own pace: what
//! is not read waits in the sockets and in the server, which cuts off a subscriber that lets too much wait.

mod frames;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub(super) use self::frames::Frame;
use self::frames::Frames;
use super::connection::keepalive;
use super::logins::Known;
use super::reach::{Attempt, Connect};
use super::target::Target;
use super::values;
use crate::metrics::{Kind, Traffic};
use crate::url::Login;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// See the module's documentation. Dropping it closes it.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    /// What is to be written.
    out: Vec<u8>,
    frames: Frames,
    /// The version of its login.
    version: u64,
}

impl Link {
    /// Returns the version of the login that it has.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Sends a command with the next [`arrived`](Self::arrived).
    pub(super) fn send(&mut self, traffic: &Traffic, words: &[&[u8]]) {
        traffic.sent(
            Kind::Connect,
            values::command(words.iter().map(|word| word.len())),
        );
        self.out
            .extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.out
                .extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            self.out.extend_from_slice(word);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Returns the next frame that has arrived, and its bytes on the wire.
    pub(super) fn next(&mut self) -> Result<Option<(Frame<'_>, u64)>, FredError> {
        self.frames.next().map_err(|_| {
            FredError::new(
                FredKind::Protocol,
                "it does not speak the protocol of a Redis server",
            )
        })
    }

    /// Writes what is to be written, and waits until something has arrived. Cancel safe.
    pub(super) async fn arrived(&mut self) -> Result<(), FredError> {
        poll_fn(|context| self.poll_arrived(context))
            .await
            .map_err(FredError::from)
    }

    fn poll_arrived(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(&mut *self.stream);
        while !self.out.is_empty() {
            let Poll::Ready(written) = stream.as_mut().poll_write(context, &self.out)? else {
                break;
            };
            if written == 0 {
                return Poll::Ready(Err(closed()));
            }
            self.out.drain(..written);
        }
        // Until it is ready this does what is left of it at each call.
        let _ = stream.as_mut().poll_flush(context)?;
        let mut vacant = ReadBuf::new(self.frames.vacant());
        match stream.poll_read(context, &mut vacant)? {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) if vacant.filled().is_empty() => Poll::Ready(Err(closed())),
            Poll::Ready(()) => {
                let bytes = vacant.filled().len();
                self.frames.filled(bytes);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Logs in, and makes sure that it is answered.
    async fn greet(&mut self, login: &Login, traffic: &Traffic) -> Result<(), FredError> {
        let hello: [&[u8]; 2] = [b"HELLO", b"3"];
        match &login.password {
            Some(password) => {
                let user = login.username.as_deref().unwrap_or("default");
                let [hello, version] = hello;
                let words = [
                    hello,
                    version,
                    b"AUTH",
                    user.as_bytes(),
                    password.as_bytes(),
                ];
                self.send(traffic, &words);
            }
            None => self.send(traffic, &hello),
        }
        self.send(traffic, &[b"PING"]);
        let mut answers = 0;
        while answers < 2 {
            let Some((frame, bytes)) = self.next()? else {
                self.arrived().await?;
                continue;
            };
            traffic.received(Kind::Connect, bytes as usize);
            match frame {
                Frame::Answer(_) => answers += 1,
                Frame::Refusal(refusal) => return Err(refused(refusal)),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Connect for Link {
    async fn connect(
        target: &Target,
        attempt: Attempt<'_>,
        login: &Known,
        traffic: &Traffic,
    ) -> Result<Self, FredError> {
        let mut link = Self {
            stream: stream(target, attempt).await?,
            out: Vec::new(),
            frames: Frames::default(),
            version: login.version,
        };
        link.greet(target.login(login), traffic).await?;
        Ok(link)
    }
}

/// What a server refuses, as fred's connections have it.
pub(super) fn refused(refusal: &[u8]) -> FredError {
    let text = String::from_utf8_lossy(refusal).into_owned();
    let kind = match text.split(' ').next().unwrap_or_default() {
        "NOAUTH" | "WRONGPASS" => FredKind::Auth,
        "MOVED" | "ASK" | "CLUSTERDOWN" => FredKind::Cluster,
        _ => FredKind::Unknown,
    };
    FredError::new(kind, text)
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it")
}

async fn stream(target: &Target, attempt: Attempt<'_>) -> Result<Box<dyn Stream>, FredError> {
    let Some(address) = attempt.address else {
        let path = &*target.place().host;
        return Ok(Box::new(UnixStream::connect(path).await?));
    };
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    SockRef::from(&tcp).set_tcp_keepalive(&keepalive())?;
    #[cfg(feature = "tls")]
    if let Some(tls) = target.tls() {
        return secured(tls, attempt.name, tcp).await;
    }
    Ok(Box::new(tcp))
}

#[cfg(feature = "tls")]
async fn secured(
    tls: &fred::types::config::TlsConnector,
    name: &str,
    tcp: TcpStream,
) -> Result<Box<dyn Stream>, FredError> {
    use fred::rustls::pki_types::ServerName;
    use fred::types::config::TlsConnector;

    let name = ServerName::try_from(name.to_owned())
        .map_err(|error| FredError::new(FredKind::Tls, error.to_string()))?;
    match tls {
        TlsConnector::Rustls(connector) => Ok(Box::new(connector.connect(name, tcp).await?)),
    }
}
