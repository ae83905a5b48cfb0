//! From PostgreSQL's text of a value to the canonical bytes of a part of a key.

mod form;
mod types;

use std::io::Write as _;
use std::net::IpAddr;

pub(crate) use form::Form;
pub(crate) use types::{TYPES, Type, form_of};

/// Writes a value's canonical bytes behind what `out` holds.
///
/// `None` where the text is not one that the type has: the caller cannot know which key it was.
pub(crate) fn write(form: Form, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match form {
        Form::Integer => is_integer(text).then(|| out.extend_from_slice(text)),
        Form::Text => put(std::str::from_utf8(text).ok()?.as_bytes(), out),
        Form::Uuid => is_uuid(text).then(|| out.extend_from_slice(text)),
        Form::Bool => match text {
            b"t" => put(b"true", out),
            b"f" => put(b"false", out),
            _ => None,
        },
        Form::Bytes => unhex(text.strip_prefix(b"\\x")?, out),
        Form::Address => {
            // A network has `/24` behind it, which no address has.
            let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
            write!(out, "{address}").ok()
        }
    }
}

fn put(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(bytes);
    Some(())
}

/// `NaN` and fractions are none.
fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

fn is_uuid(text: &[u8]) -> bool {
    /// Where the hyphens are.
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    let right = |(n, byte): (usize, &u8)| {
        if HYPHENS.contains(&n) {
            *byte == b'-'
        } else {
            matches!(byte, b'0'..=b'9' | b'a'..=b'f')
        }
    };
    text.len() == 36 && text.iter().enumerate().all(right)
}

fn unhex(digits: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|n| u8::try_from(n).ok())
    };
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    for pair in pairs {
        let [high, low] = pair else { return None };
        out.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(())
}

#[cfg(test)]
mod tests;
