//! Arguments of commands, and how many bytes a command, a reply or a push takes on the wire, RESP framing included.
//!
//! fred does not say, so the sizes are computed from what is sent and what came back.

use bytes::Bytes;
use fred::error::Error as FredError;
use fred::types::Value;

/// What a server answers to `HELLO 3`, `SELECT`, `CLIENT ID` and `INFO server`, which fred reads by
/// itself when it connects. Redis 7.0 here: 145, 5, 4 and 599 bytes; longer paths make `INFO` longer.
const SETUP_REPLIES: usize = 800;

/// An argument of these bytes.
pub(super) fn bytes(bytes: &[u8]) -> Value {
    Bytes::copy_from_slice(bytes).into()
}

/// An argument in decimal text, as Redis takes numbers.
pub(super) fn number(n: impl ToString) -> Value {
    n.to_string().into()
}

/// Decimal digits of `n`.
fn digits(n: usize) -> usize {
    n.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// `$<len>\r\n<len bytes>\r\n`.
fn bulk(len: usize) -> usize {
    1 + digits(len) + 2 + len + 2
}

/// `*<len>\r\n` or `><len>\r\n`.
fn header(len: usize) -> usize {
    1 + digits(len) + 2
}

/// A request: an array of bulk strings with these lengths.
pub(super) fn command(lengths: impl IntoIterator<Item = usize>) -> usize {
    let (count, bytes) = lengths
        .into_iter()
        .fold((0, 0), |(count, bytes), len| (count + 1, bytes + bulk(len)));
    header(count) + bytes
}

/// `EVALSHA` (or, with the script's length for `sha`, `EVAL`) with keys and arguments.
pub(super) fn evalsha(
    sha: usize,
    keys: impl ExactSizeIterator<Item = usize>,
    args: impl Iterator<Item = usize>,
) -> usize {
    let count = digits(keys.len());
    command(
        ["EVALSHA".len(), sha, count]
            .into_iter()
            .chain(keys)
            .chain(args),
    )
}

/// A reply.
pub(super) fn reply(value: &Value) -> usize {
    match value {
        Value::Integer(n) => 1 + usize::from(*n < 0) + digits(n.unsigned_abs() as usize) + 2,
        Value::String(text) => bulk(text.len()),
        Value::Bytes(bytes) => bulk(bytes.len()),
        Value::Array(values) => header(values.len()) + values.iter().map(reply).sum::<usize>(),
        // `_\r\n`; our scripts return nothing else.
        _ => 3,
    }
}

/// An error reply: `-<details>\r\n`.
pub(super) fn error_reply(error: &FredError) -> usize {
    1 + error.details().len() + 2
}

/// What fred exchanges before the first command of ours; the answer's size is an estimate.
pub(super) fn setup(
    username: Option<&str>,
    password: Option<&str>,
    database: Option<u8>,
) -> (usize, usize) {
    let hello = match password {
        Some(password) => command([5, 1, 4, username.unwrap_or("default").len(), password.len()]),
        None => command([5, 1]),
    };
    let select = database.map_or(0, |database| command([6, digits(database.into())]));
    (
        hello + select + command([6, 2]) + command([4, 6]),
        SETUP_REPLIES,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_text() {
        let publish = b"*3\r\n$7\r\nPUBLISH\r\n$10\r\nus:{a:0}e0\r\n$0\r\n\r\n";
        assert_eq!(command([7, 10, 0]), publish.len());
        let call = b"*5\r\n$7\r\nEVALSHA\r\n$2\r\nab\r\n$1\r\n1\r\n$3\r\nkey\r\n$3\r\narg\r\n";
        assert_eq!(evalsha(2, [3].into_iter(), [3].into_iter()), call.len());
        let answer = Value::Array(vec![
            Value::Integer(-10),
            Value::Integer(0),
            Value::String("abc".into()),
        ]);
        assert_eq!(reply(&answer), b"*3\r\n:-10\r\n:0\r\n$3\r\nabc\r\n".len());
    }
}
