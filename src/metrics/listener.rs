//! The listener that serves the crate's own Prometheus recorder.
//!
//! The exporter's own listener cannot be used: it renders without a fold, its upkeep task never
//! ends, and it does not return the port that it got.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::registry::Metrics;
use crate::error::{Error, ErrorKind};

/// Answers written at once; what asks for more waits.
/// Two Prometheus servers and a few people with curl need no more, and a flood gets no further.
const MAX_ANSWERS: usize = 16;

/// Connections at once. Beyond it the oldest that has not asked for anything yet is closed, so that one
/// that asks at once, as a scraper does, never waits for those that say nothing.
const MAX_CONNECTIONS: usize = 256;

/// From accepting a connection to the end of its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// From there to closing it; Prometheus gives up after 10 s by default.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

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
    Ok((bound, accept(listener, metrics, HEAD_TIMEOUT)))
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Those that have not asked for anything, the oldest first; and those that have, up to the next look.
#[derive(Default)]
struct Silent(VecDeque<(Arc<AtomicBool>, AbortHandle)>);

impl Silent {
    /// Forgets those that have asked or are gone.
    fn tidy(&mut self) {
        let silent =
            |asked: &AtomicBool, task: &AbortHandle| !asked.load(Relaxed) && !task.is_finished();
        self.0.retain(|(asked, task)| silent(asked, task));
    }

    /// Closes the oldest; whether there was one.
    fn close_oldest(&mut self) -> bool {
        let oldest = self.0.pop_front();
        oldest.is_some_and(|(_, task)| {
            task.abort();
            true
        })
    }
}

/// Connections live in the set, so that dropping this future closes them all.
async fn accept(listener: TcpListener, metrics: Arc<Metrics>, patience: Duration) {
    let mut connections = JoinSet::new();
    let mut silent = Silent::default();
    let answers = Arc::new(Semaphore::new(MAX_ANSWERS));
    loop {
        while connections.try_join_next().is_some() {}
        while connections.len() >= MAX_CONNECTIONS {
            silent.tidy();
            silent.close_oldest();
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let (metrics, answers) = (Arc::clone(&metrics), Arc::clone(&answers));
                let asked = Arc::new(AtomicBool::new(false));
                let asks = Arc::clone(&asked);
                let task = connections.spawn(async move {
                    // An error concerns only a scraper that went away or was too slow.
                    let head = timeout(patience, read_head(stream, &asks)).await;
                    if let Ok(Ok(Some((stream, head)))) = head {
                        let answering = answer_in_turn(stream, &head, &metrics, &answers);
                        let _ = timeout(ANSWER_TIMEOUT, answering).await;
                    }
                });
                silent.0.push_back((asked, task));
                if silent.0.len() >= 2 * MAX_CONNECTIONS {
                    silent.tidy();
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers one request and closes the connection.
async fn answer_in_turn(
    mut stream: TcpStream,
    head: &[u8],
    metrics: &Metrics,
    answers: &Semaphore,
) -> std::io::Result<()> {
    let _turn = answers.acquire().await;
    let request = Request::parse(head);
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
async fn read_head(
    mut stream: TcpStream,
    asked: &AtomicBool,
) -> std::io::Result<Option<(TcpStream, Vec<u8>)>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if ends(&head) || head.len() >= MAX_HEAD {
            asked.store(true, Relaxed);
            return Ok(Some((stream, head)));
        }
        let room = (MAX_HEAD - head.len()) as u64;
        if (&mut stream).take(room).read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
}

/// Whether there is an empty line; a person may end lines with `\n` alone.
fn ends(head: &[u8]) -> bool {
    let lines = [&b"\r\n\r\n"[..], b"\n\n"];
    lines
        .iter()
        .any(|end| head.windows(end.len()).any(|at| at == *end))
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
        let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next();
        let line = line.unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Self::Malformed;
        };
        if !matches!(version, b"HTTP/1.0" | b"HTTP/1.1") {
            return Self::Malformed;
        }
        let path = path_of(target);
        match (method, path) {
            (b"GET" | b"HEAD", b"/metrics" | b"/") => Self::Metrics {
                head_only: method == b"HEAD",
            },
            (b"GET" | b"HEAD", _) => Self::OtherPath,
            _ => Self::OtherMethod,
        }
    }
}

/// The path of a target, which may name the host too.
fn path_of(target: &[u8]) -> &[u8] {
    let path = target.split(|byte| *byte == b'?').next();
    let path = path.unwrap_or_default();
    let Some(named) = path.strip_prefix(b"http://") else {
        return path;
    };
    let slash = named.iter().position(|byte| *byte == b'/');
    slash.map_or(b"/", |slash| &named[slash..])
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
        let cases: [(&[u8], &str); 7] = [
            (b"GET /metrics HTTP/1.evil\r\n\r\n", "HTTP/1.1 400 "),
            (b"GET http://host/metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 "),
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

    /// Those that say nothing are closed when so much has passed.
    async fn serve_for(patience: Duration) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let metrics = Metrics::new(InstanceInfo::default());
        let listener = listen(ANY_PORT).unwrap();
        let address = listener.local_addr().unwrap();
        (address, tokio::spawn(accept(listener, metrics, patience)))
    }

    #[tokio::test]
    async fn idle_connections_keep_no_scraper_out() {
        let (address, server) = serve_for(Duration::from_secs(86_400)).await;
        let mut idle = Vec::new();
        for _ in 0..400 {
            idle.push(TcpStream::connect(address).await.unwrap());
            idle.last_mut()
                .unwrap()
                .write_all(b"GET /met")
                .await
                .unwrap();
        }
        for _ in 0..3 {
            let scrape = exchange(address, b"GET /metrics HTTP/1.1\r\n\r\n");
            let answer = timeout(Duration::from_secs(60), scrape).await;
            let answer = answer.expect("nothing is waited for");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
        // The oldest had to go, and only as many as there was no room for.
        let end = idle[0].read(&mut [0]).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        let rest = idle.last_mut().unwrap();
        rest.write_all(b"rics HTTP/1.1\n\n").await.unwrap();
        let mut answer = String::new();
        rest.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        server.abort();
    }

    #[tokio::test]
    async fn half_a_head_is_not_waited_for() {
        let (address, server) = serve_for(Duration::from_millis(20)).await;
        let answer = exchange(address, b"GET /metrics HTTP/1.1\r\n").await;
        assert_eq!(answer, "");
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
