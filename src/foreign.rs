//! What others wrote: Redis, an instance's metrics, a file. The one way of their text to a terminal, a log or
//! an error, and of their numbers into the program.

#![cfg_attr(
    not(feature = "redis"),
    allow(dead_code, reason = "most of it comes from Redis")
)]

use std::borrow::Cow;

/// Longest text of others that is shown, in characters: a sentence.
const LONGEST: usize = 200;

/// Longest name of a host, in bytes (RFC 1035).
const LONGEST_HOST: usize = 255;

/// Most lanes: each costs a channel, a journal and a part of every beat.
pub(crate) const MOST_LANES: u32 = 1_024;

/// Text of others, cut and escaped.
pub(crate) fn shown(text: &str) -> String {
    cut(text, LONGEST)
}

/// Text of others, escaped, and cut after `most` characters.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let mut out: String = text.chars().take(most).flat_map(escape).collect();
    if text.chars().nth(most).is_some() {
        out.push_str("...");
    }
    out
}

/// Text that has lines of this crate and text of others in it, escaped and uncut.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| c == '\n' || !is_harmful(c);
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if harmless(c) {
            out.push(c);
        } else {
            out.extend(escape(c));
        }
    }
    Cow::Owned(out)
}

/// A number of lanes, if it is one that a fleet may have.
pub(crate) fn lanes(text: &str) -> Option<u32> {
    let lanes = text.parse().ok()?;
    (1..=MOST_LANES).contains(&lanes).then_some(lanes)
}

/// Whether a place may be called so.
pub(crate) fn is_host(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !is_harmful(c);
    text.len() <= LONGEST_HOST && text.chars().all(plain)
}

/// What a terminal obeys, what begins a line of a log, and what changes the order of what is read.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(c: char) -> impl Iterator<Item = char> {
    let escaped = is_harmful(c).then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown() {
        let hostile = "\u{1b}]0;pwned\u{7} \u{1b}[2J\r\nok \u{9b}31m \u{202e}dlrow é 世";
        let shown = shown(hostile);
        let escaped = escaped(hostile);
        for text in [&*shown, &*escaped] {
            assert!(
                !text.chars().any(|c| is_harmful(c) && c != '\n'),
                "{text:?}"
            );
            assert!(
                text.contains(r"\u{1b}]0;pwned\u{7}") && text.contains("é 世"),
                "{text:?}"
            );
        }
        assert!(!shown.contains('\n') && escaped.contains('\n'));
        assert!(matches!(super::escaped("plain\nlines"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_has_no_end_is_cut() {
        let endless = "x".repeat(1 << 20);
        assert_eq!(shown(&endless).len(), LONGEST + "...".len());
        assert_eq!(shown("short"), "short");
    }

    #[test]
    fn only_what_can_be_one_is_a_number_of_lanes() {
        for (text, read) in [
            ("1", Some(1)),
            ("1024", Some(1_024)),
            ("0", None),
            ("1025", None),
            ("4294967295", None),
            ("99999999999999999999", None),
            ("-1", None),
            ("4\u{1b}[2J", None),
            ("", None),
        ] {
            assert_eq!(lanes(text), read, "{text:?}");
        }
    }

    #[test]
    fn a_host_has_no_space_and_an_end() {
        assert!(is_host("redis-1.example") && is_host("::1") && is_host("10.0.0.1"));
        assert!(!is_host("a b") && !is_host("a\u{1b}[2J") && !is_host(&"a".repeat(256)));
    }
}
