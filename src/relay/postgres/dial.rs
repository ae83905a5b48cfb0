//! Reaching a server: its addresses one after the other, and the beginning of TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use super::config::{Config, Host, TlsMode};
use super::socket::Socket;
use super::{PgError, PgErrorKind, tls};

/// When an idle connection is probed for the first time, and how often then.
const PROBE_AFTER: Duration = Duration::from_secs(20);
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// The caller bounds it by the same deadline.
pub(super) async fn dial(config: &Config, deadline: Instant) -> Result<Socket, PgError> {
    let host = match &config.host {
        Host::Tcp(host) => host,
        Host::Unix(_) => {
            let file = config.socket_file().unwrap_or_default();
            let stream = UnixStream::connect(file).await;
            let stream = stream.map_err(|error| unreachable_place(config, &error.to_string()))?;
            return Ok(Socket::Unix(stream));
        }
    };
    // The CA is read first: a wrong file is reported even where the server is away.
    let connector = match config.tls {
        TlsMode::Disable => None,
        mode => Some(tls::connector(mode, config.root_certificate.as_deref())?),
    };
    let stream = tcp(config, host, deadline).await?;
    prepare(&stream).map_err(|error| PgError::io(&error))?;
    match connector {
        None => Ok(Socket::Tcp(stream)),
        Some(connector) => encrypt(config, host, connector, stream).await,
    }
}

async fn tcp(config: &Config, host: &str, deadline: Instant) -> Result<TcpStream, PgError> {
    let looked_up = match timeout_at(deadline, lookup_host((host, config.port))).await {
        Ok(looked_up) => looked_up,
        Err(_) => {
            return Err(unreachable_place(
                config,
                "its name is not looked up in time",
            ));
        }
    };
    let addresses: Vec<SocketAddr> = looked_up
        .map_err(|error| unreachable_place(config, &error.to_string()))?
        .collect();
    let mut why = "the name has no address".to_owned();
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        // A silent address leaves time for those after it.
        let part = deadline.saturating_duration_since(Instant::now()) / left.max(1);
        left = left.saturating_sub(1);
        why = match timeout(part, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => format!("{address}: {error}"),
            Err(_) => format!("{address}: no answer in time"),
        };
    }
    Err(unreachable_place(config, &why))
}

/// Small messages leave at once, and a peer that is gone is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_EVERY);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

async fn encrypt(
    config: &Config,
    host: &str,
    connector: tokio_rustls::TlsConnector,
    mut stream: TcpStream,
) -> Result<Socket, PgError> {
    let place = config.place();
    let failed = |why: String| PgError::new(PgErrorKind::Tls, format!("TLS with {place}: {why}"));
    let name = tls::server_name(host)?;
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    let io = |error: io::Error| PgError::io(&error);
    stream.write_all(&request).await.map_err(io)?;
    // Only one byte is read: unencrypted bytes after it would be taken for encrypted ones.
    match stream.read_u8().await.map_err(io)? {
        b'S' => {}
        b'N' => {
            return Err(failed(
                "the server has none (its setting ssl is off); turn it on, or write \
                 sslmode=disable"
                    .to_owned(),
            ));
        }
        _ => return Err(failed("the server's answer is not PostgreSQL's".to_owned())),
    }
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| failed(error.to_string()))?;
    Ok(Socket::Tls(Box::new(stream)))
}

fn unreachable_place(config: &Config, why: &str) -> PgError {
    PgError::new(
        PgErrorKind::Io,
        format!("PostgreSQL at {} cannot be reached: {why}", config.place()),
    )
}
