//! The listener that serves the crate's own Prometheus recorder.
//!
//! The exporter's own listener cannot be used: it renders without a fold, its upkeep task never
//! ends, and it does not return the port that it got.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::registry::Metrics;
use crate::error::{Error, ErrorKind};

/// Scrapes served at once; more wait in the kernel's backlog.
/// Two Prometheus servers and a few people with curl need no more, and a flood gets no further.
const MAX_CONNECTIONS: usize = 16;

/// From accepting a connection to closing it; Prometheus gives up after 10 s by default.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest head of a request. Browsers send under 2 KiB, Prometheus 300 bytes.
const MAX_HEAD: usize = 8 * 1024;

/// Pause after a failed accept (usually: no file descriptors left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Listens on `address` (port 0: any free one) and returns the address in use and what serves
/// `GET /metrics` there until it is dropped. Call it within a tokio runtime.
pub(crate) fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
) -> Result<(SocketAddr, impl Future<Output = ()> + Send + 'static), Error> {
    let listener = listen(address).map_err(|error| {
        let message = format!("UNSTALE_METRICS_ADDR={address}: cannot listen there: {error}");
        Error::with_source(ErrorKind::Settings, message, error)
    })?;
    let bound = listener.local_addr().unwrap_or(address);
    Ok((bound, accept(listener, metrics)))
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Connections live in the set, so that dropping this future closes them all.
async fn accept(listener: TcpListener, metrics: Arc<Metrics>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = Arc::clone(&metrics);
                connections.spawn(async move {
                    // An error concerns only a scraper that went away or was too slow.
                    let _ = tokio::time::timeout(SCRAPE_TIMEOUT, answer(stream, &metrics)).await;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers one request and closes the connection.
async fn answer(mut stream: TcpStream, metrics: &Metrics) -> std::io::Result<()> {
    let Some(head) = read_head(&mut stream).await? else {
        return Ok(());
    };
    let request = Request::parse(&head);
    let (status, body) = match request {
        Request::Metrics { .. } => ("200 OK", metrics.text()),
        Request::OtherPath => ("404 Not Found", "see /metrics\n".to_owned()),
        Request::OtherMethod => ("405 Method Not Allowed", "GET or HEAD only\n".to_owned()),
        Request::Malformed => ("400 Bad Request", "not an HTTP request\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\n\
         Allow: GET, HEAD\r\nConnection: close\r\n\r\n",
        body.len(),
    );
    stream.write_all(head.as_bytes()).await?;
    if request != (Request::Metrics { head_only: true }) {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// What comes before the first empty line; at [`MAX_HEAD`] whatever there is.
/// `None`: the other side closed the connection first.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if head.windows(4).any(|end| end == b"\r\n\r\n") || head.len() >= MAX_HEAD {
            return Ok(Some(head));
        }
        let room = (MAX_HEAD - head.len()) as u64;
        if (&mut *stream).take(room).read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Metrics { head_only: bool },
    OtherPath,
    OtherMethod,
    Malformed,
}

impl Request {
    /// Reads the request line; no header matters here.
    fn parse(head: &[u8]) -> Self {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Self::Malformed;
        };
        if !version.starts_with(b"HTTP/1.") {
            return Self::Malformed;
        }
        let path = target
            .split(|byte| *byte == b'?')
            .next()
            .unwrap_or_default();
        match (method, path) {
            (b"GET" | b"HEAD", b"/metrics" | b"/") => Self::Metrics {
                head_only: method == b"HEAD",
            },
            (b"GET" | b"HEAD", _) => Self::OtherPath,
            _ => Self::OtherMethod,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::InstanceInfo;
    use std::error::Error as _;
    use std::net::Ipv4Addr;

    const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    async fn exchange(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_scrape_sees_what_was_counted_just_before() {
        let metrics = Metrics::new(InstanceInfo::default());
        let (address, server) = serve(ANY_PORT, Arc::clone(&metrics)).unwrap();
        let server = tokio::spawn(server);
        for published in 1..=3 {
            metrics.published.inc();
            let answer = exchange(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(
                head.contains(&format!("Content-Length: {}", body.len())),
                "{head}"
            );
            assert!(head.contains("text/plain; version=0.0.4"), "{head}");
            let line = format!("\nunstale_events_published_total {published}\n");
            assert!(body.contains(&line), "{body}");
        }
        let answer = exchange(address, b"HEAD /metrics HTTP/1.1\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );

        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        assert!(
            TcpStream::connect(address).await.is_err(),
            "the port is free again"
        );
    }

    #[tokio::test]
    async fn what_is_no_scrape_is_refused() {
        let metrics = Metrics::new(InstanceInfo::default());
        let (address, server) = serve(ANY_PORT, metrics).unwrap();
        let server = tokio::spawn(server);
        let long = [b"GET /".as_slice(), &[b'a'; MAX_HEAD - 5]].concat();
        let cases: [(&[u8], &str); 5] = [
            (b"GET /secrets HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 "),
            (b"\x16\x03\x01 hello\r\n\r\n", "HTTP/1.1 400 "),
            (b"GET /metrics HTTP/1.1 x\r\n\r\n", "HTTP/1.1 400 "),
            (&long, "HTTP/1.1 400 "),
        ];
        for (request, expected) in cases {
            let answer = exchange(address, request).await;
            assert!(answer.starts_with(expected), "{answer}");
        }
        server.abort();
    }

    #[tokio::test]
    async fn idle_connections_keep_a_scraper_out_only_for_a_while() {
        let metrics = Metrics::new(InstanceInfo::default());
        let (address, server) = serve(ANY_PORT, metrics).unwrap();
        let server = tokio::spawn(server);
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        // Time that stands still jumps forward when everyone waits: to the end of the idle ones.
        tokio::time::pause();
        let start = tokio::time::Instant::now();
        let answer = exchange(address, b"GET /metrics HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(start.elapsed() > SCRAPE_TIMEOUT / 2, "there was no limit");
        server.abort();
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error_that_names_it() {
        let taken = StdListener::bind(ANY_PORT).unwrap();
        let address = taken.local_addr().unwrap();
        let metrics = Metrics::new(InstanceInfo::default());
        let error = serve(address, metrics).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings);
        assert!(
            error
                .to_string()
                .contains(&format!("UNSTALE_METRICS_ADDR={address}")),
            "{error}"
        );
        assert!(error.source().is_some());
    }
}
