//! The metrics of instances, as they serve them to Prometheus.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use unstale::operate::shown;

/// How long an instance may take to answer: longer than the scrape of any Prometheus waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most that is read of one answer. A service with many metrics of its own has some MiB.
const MAX_ANSWER: u64 = 64 << 20;

/// One line: a name, its labels and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Why there are no metrics.
#[derive(Debug)]
pub(crate) struct NoMetrics {
    from: String,
    why: String,
}

impl fmt::Display for NoMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no metrics from {}: {}", self.from, self.why)
    }
}

impl std::error::Error for NoMetrics {}

/// What this crate exports at an address (`http://host:port/metrics`), or has been saved to a file.
pub(crate) async fn metrics(from: &str) -> Result<Vec<Sample>, NoMetrics> {
    let text = match from.split_once("://") {
        None => read(Path::new(from)),
        Some(("http", address)) => timeout(PATIENCE, get(address))
            .await
            .unwrap_or_else(|_| Err(format!("no answer for {} s", PATIENCE.as_secs()))),
        Some(_) => Err("only http:// can be read; save the text and name its file".to_owned()),
    };
    let samples = text.map(|text| parse(&text)).and_then(|samples| {
        let none = samples
            .is_empty()
            .then(|| "none of them is unstale's".to_owned());
        none.map_or(Ok(samples), Err)
    });
    samples.map_err(|why| NoMetrics {
        // A password in a URL must not be shown in a log.
        from: from
            .rsplit_once('@')
            .map_or(from, |(_, host)| host)
            .to_owned(),
        why,
    })
}

/// Bounded: the file may be a device.
fn read(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(file).map_err(|error| error.to_string())?;
    let read = file.take(MAX_ANSWER).read_to_string(&mut text);
    match read.map_err(|error| error.to_string())? as u64 {
        MAX_ANSWER => Err(format!("more than {MAX_ANSWER} bytes")),
        _ => Ok(text),
    }
}

/// As little of HTTP as it takes: with 1.0 the end of the connection is the end of the answer.
async fn get(address: &str) -> Result<String, String> {
    let (host, path) = address.split_once('/').unwrap_or((address, "metrics"));
    if host.contains('@') {
        return Err("a user in the URL is not understood".to_owned());
    }
    let failed = |error: std::io::Error| error.to_string();
    let server = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let mut stream = TcpStream::connect(server).await.map_err(failed)?;
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    let mut stream = stream.take(MAX_ANSWER);
    stream.read_to_end(&mut answer).await.map_err(failed)?;
    if stream.limit() == 0 {
        return Err(format!("more than {MAX_ANSWER} bytes"));
    }
    let answer = String::from_utf8(answer).map_err(|_| "it is no text".to_owned())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer in HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(format!("the answer was {status:?}"));
    }
    Ok(body.to_owned())
}

/// The lines of this crate. Others, and what cannot be read, are not ours.
pub(crate) fn parse(text: &str) -> Vec<Sample> {
    let lines = text.lines().filter(|line| line.starts_with("unstale_"));
    lines.filter_map(sample).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            inside = inside.trim_start_matches([',', ' ']);
            if let Some(after) = inside.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = inside.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(shown(label), shown(&value));
            inside = after;
        }
    }
    // A time may follow.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: shown(name),
        labels,
        value,
    })
}

/// The text up to the quote that ends it, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_text_format_are_read() {
        let text = concat!(
            "# HELP unstale_hits_total Reads.\n",
            "unstale_hits_total{cache=\"accounts\"} 12\n",
            "unstale_a{x=\"a\\\"b\\\\c, d}\",cache=\"k\", le=\"+Inf\",} 1.5e3 1700000000\n",
            "unstale_plain 0.25\n",
            "other_total 9\n",
            "unstale_broken{cache=\"a} 1\n",
            "unstale_broken{cache=\"a\"} one\n",
            "unstale_broken\n",
        );
        let read = parse(text);
        assert_eq!(read.len(), 3, "{read:?}");
        assert_eq!((read[0].label("cache"), read[0].value), ("accounts", 12.0));
        assert_eq!(read[1].label("x"), "a\"b\\c, d}");
        assert_eq!((read[1].label("le"), read[1].value), ("+Inf", 1500.0));
        assert_eq!((&*read[2].name, read[2].value), ("unstale_plain", 0.25));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_said_without_a_password() {
        for (from, why) in [
            ("https://host/metrics", "only http://"),
            ("http://me:hunter2@host:1/metrics", "a user in the URL"),
            ("/no/such/file", "No such file"),
        ] {
            let error = metrics(from).await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
