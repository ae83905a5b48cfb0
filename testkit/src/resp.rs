//! A tiny blocking Redis client for administering a test's server; not for what is under test.

use std::fmt::Debug;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a reply may take. A test that stopped its server should not ask it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A reply of RESP2 or, after `HELLO 3`, RESP3.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Nil,
    Int(i64),
    /// A simple string, a bulk string, or a RESP3 double, big number or verbatim string as text.
    Text(Vec<u8>),
    /// What the server said after the `-`.
    Error(String),
    /// An array, set or push; of a map the keys and values in turn.
    Array(Vec<Value>),
}

impl Value {
    /// As text: of an integer its digits, of everything else that is not text nothing.
    pub fn text(&self) -> String {
        match self {
            Self::Int(number) => number.to_string(),
            Self::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Nil | Self::Error(_) | Self::Array(_) => String::new(),
        }
    }

    /// As a number, whether the server sent it as one or as text.
    pub fn int(&self) -> Option<i64> {
        self.text().parse().ok()
    }

    pub fn array(&self) -> &[Value] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to 127.0.0.1.
    pub fn connect(port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, TIMEOUT).expect("redis-server listens");
        stream
            .set_read_timeout(Some(TIMEOUT))
            .expect("a socket takes a timeout");
        stream
            .set_nodelay(true)
            .expect("a TCP socket takes nodelay");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Runs a command whose success the test relies on.
    ///
    /// # Panics
    ///
    /// When the server answers with an error.
    pub fn cmd<A: AsRef<[u8]> + Debug>(&mut self, args: &[A]) -> Value {
        let value = self.try_cmd(args).expect("redis-server answers");
        assert!(!matches!(value, Value::Error(_)), "{args:?}: {value:?}");
        value
    }

    /// Runs a command; an error of the server is a value, one of the connection an `Err`.
    pub fn try_cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Value> {
        self.send(args)?;
        self.read()
    }

    /// Sends a command. Its reply is the caller's to read.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<()> {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            let arg = arg.as_ref();
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)
    }

    /// Reads one value: the next reply, or what a subscription delivers.
    pub fn read(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end_matches("\r\n");
        let Some((kind, rest)) = line.split_at_checked(1) else {
            return Err(garbled(line));
        };
        Ok(match kind {
            "+" | "," | "(" => Value::Text(rest.as_bytes().to_vec()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Int(rest.parse().map_err(|_| garbled(line))?),
            "#" => Value::Int(i64::from(rest == "t")),
            "_" => Value::Nil,
            "$" | "=" | "!" => self.bulk(kind, length(line)?)?,
            "*" | "~" | ">" => self.items(length(line)?)?,
            "%" => self.items(length(line)?.map(|pairs| pairs * 2))?,
            _ => return Err(garbled(line)),
        })
    }

    /// One field of `INFO`, e.g. `info("total_net_output_bytes")`.
    ///
    /// # Panics
    ///
    /// When the server has no such field.
    #[expect(clippy::panic, reason = "a fixture fails its test")]
    pub fn info(&mut self, field: &str) -> String {
        let text = self.cmd(&["INFO", "everything"]).text();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value
            .unwrap_or_else(|| panic!("INFO has no field {field}"))
            .to_owned()
    }

    /// Closes all subscribers' connections, from the server's side. Returns how many there were.
    pub fn kill_subscribers(&mut self) -> i64 {
        self.cmd(&["CLIENT", "KILL", "TYPE", "pubsub"])
            .int()
            .unwrap_or_default()
    }

    fn bulk(&mut self, kind: &str, length: Option<usize>) -> io::Result<Value> {
        let Some(length) = length else {
            return Ok(Value::Nil);
        };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(match kind {
            "!" => Value::Error(String::from_utf8_lossy(&bytes).into_owned()),
            // `txt:` or `mkd:` before the text.
            "=" => Value::Text(bytes.split_off(4.min(length))),
            _ => Value::Text(bytes),
        })
    }

    fn items(&mut self, length: Option<usize>) -> io::Result<Value> {
        let Some(length) = length else {
            return Ok(Value::Nil);
        };
        (0..length)
            .map(|_| self.read())
            .collect::<io::Result<_>>()
            .map(Value::Array)
    }
}

/// The number after the type; -1 stands for nil.
fn length(line: &str) -> io::Result<Option<usize>> {
    let number: i64 = line[1..].parse().map_err(|_| garbled(line))?;
    Ok(usize::try_from(number).ok())
}

fn garbled(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not RESP: {line:?}"))
}
