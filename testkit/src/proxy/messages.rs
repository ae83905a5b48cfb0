//! The server's half of one connection: passed on frame by frame, messages by their fate.

use std::ops::Range;

use super::Fate;
use super::frames::{self, NotResp, Push};

/// What has been read of one connection and not yet passed on.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// A frame that has not arrived as a whole.
    begun: Vec<u8>,
    /// A message that waits for the next one, to change places with it.
    held: Vec<u8>,
    /// Not RESP: everything passes as it is.
    raw: bool,
}

impl Messages {
    /// Takes what was read and returns what goes on to the client now.
    pub(super) fn pass(&mut self, bytes: &[u8], mut fate: impl FnMut(Push<'_>) -> Fate) -> Vec<u8> {
        self.begun.extend_from_slice(bytes);
        let mut out = Vec::new();
        let mut done = 0;
        while !self.raw {
            match frames::length(&self.begun[done..]) {
                Ok(Some(length)) => {
                    self.frame(done..done + length, &mut fate, &mut out);
                    done += length;
                }
                Ok(None) => break,
                Err(NotResp) => self.raw = true,
            }
        }
        if self.raw {
            out.extend_from_slice(&self.begun[done..]);
            done = self.begun.len();
        }
        self.begun.drain(..done);
        out
    }

    fn frame(
        &mut self,
        at: Range<usize>,
        fate: &mut impl FnMut(Push<'_>) -> Fate,
        out: &mut Vec<u8>,
    ) {
        let frame = &self.begun[at];
        let Some(push) = Push::parse(frame) else {
            return out.extend_from_slice(frame);
        };
        match fate(push) {
            Fate::Drop => return,
            Fate::Swap if self.held.is_empty() => return self.held.extend_from_slice(frame),
            Fate::Duplicate => out.extend_from_slice(frame),
            Fate::Pass | Fate::Swap => {}
        }
        out.extend_from_slice(frame);
        out.append(&mut self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &str) -> Vec<u8> {
        format!(
            ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${}\r\n{payload}\r\n",
            payload.len()
        )
        .into()
    }

    /// The payloads that arrive of messages `1`, `2`, ... with these fates, read in `piece` bytes;
    /// a reply stands after each.
    fn arriving(fates: &[Fate], piece: usize) -> String {
        let mut bytes = Vec::new();
        for number in 1..=fates.len() {
            bytes.extend(message(&number.to_string()));
            bytes.extend(b"+r\r\n");
        }
        let mut fates = fates.iter().copied();
        let mut messages = Messages::default();
        let mut out = Vec::new();
        for piece in bytes.chunks(piece) {
            out.extend(messages.pass(piece, |_| fates.next().unwrap()));
        }
        let mut rest = &out[..];
        let mut text = String::new();
        while let Ok(Some(length)) = frames::length(rest) {
            let push = Push::parse(&rest[..length]);
            text.push(push.map_or('r', |push| char::from(push.payload[0])));
            rest = &rest[length..];
        }
        assert!(rest.is_empty(), "{rest:?}");
        text
    }

    #[test]
    fn messages_meet_their_fate_and_replies_pass_however_they_are_read() {
        use Fate::{Drop, Duplicate, Pass, Swap};
        for piece in [1, 2, 7, 40, 1_000] {
            assert_eq!(arriving(&[Pass, Pass], piece), "1r2r");
            assert_eq!(arriving(&[Drop, Pass], piece), "r2r");
            assert_eq!(arriving(&[Duplicate, Pass], piece), "11r2r");
            assert_eq!(arriving(&[Swap, Pass, Pass], piece), "r21r3r");
            assert_eq!(arriving(&[Swap, Drop, Pass], piece), "rr31r");
            assert_eq!(arriving(&[Swap], piece), "r");
        }
    }

    #[test]
    fn bytes_that_are_not_resp_pass_untouched() {
        let mut messages = Messages::default();
        assert_eq!(
            messages.pass(b"\x16\x03\x01", |_| Fate::Drop),
            b"\x16\x03\x01"
        );
        assert_eq!(messages.pass(&message("1"), |_| Fate::Drop), message("1"));
    }
}
