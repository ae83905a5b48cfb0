//! What a server says on a connection that subscribes: RESP3, in a buffer of one size.
//!
//! A library's decoder waits until a frame is whole, and so keeps as much as a server announces. Here a
//! message that is larger than any of ours is passed over where it arrives, and anything else that does
//! not fit ends the connection.

use std::ops::Range;

use crate::bus::redis::scripts::MAX_MESSAGE;

/// Twice the largest message, so that a read behind an incomplete one is not a small one.
const BUFFER: usize = 2 * (MAX_MESSAGE + 1_024);

/// Values in one frame, those in its arrays included. An answer to HELLO has some 20, and a few more for
/// each module that is loaded.
const MAX_VALUES: u64 = 4_096;

/// One thing that a server says.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::bus::redis) enum Frame<'a> {
    Message {
        channel: &'a [u8],
        message: &'a [u8],
    },
    /// A message that is larger than any of ours.
    TooLarge {
        channel: &'a [u8],
    },
    Subscribed {
        channel: &'a [u8],
    },
    Unsubscribed {
        channel: &'a [u8],
    },
    /// The answer to a command, or the first word of it.
    Answer(&'a [u8]),
    /// The error that a command has.
    Refusal(&'a [u8]),
    /// Something that was not asked for.
    Other,
}

/// It is not RESP3, or more than a server has to say.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::bus::redis) struct Malformed;

/// See the module's documentation.
pub(in crate::bus::redis) struct Frames {
    buffer: Box<[u8]>,
    /// What has arrived and was not taken.
    unread: Range<usize>,
    /// Bytes to pass over.
    skip: u64,
}

/// A frame that has been found.
struct Found {
    /// Its first byte.
    sign: u8,
    /// Where its first values are; as many as matter.
    words: [Range<usize>; 3],
    /// Where it ends.
    end: usize,
    /// Bytes behind `end` that belong to it.
    skip: u64,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            buffer: vec![0; BUFFER].into(),
            unread: 0..0,
            skip: 0,
        }
    }
}

impl Frames {
    /// Returns where the next bytes go; never empty while [`next`](Self::next) is called until it has no more.
    pub(super) fn vacant(&mut self) -> &mut [u8] {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end > BUFFER / 2 {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        &mut self.buffer[self.unread.end..]
    }

    /// So many bytes were put there.
    pub(super) fn filled(&mut self, bytes: usize) {
        self.unread.end += bytes;
    }

    /// Returns the next frame and how many bytes it took on the wire, if it has arrived.
    pub(in crate::bus::redis) fn next(&mut self) -> Result<Option<(Frame<'_>, u64)>, Malformed> {
        let passed = self.skip.min(self.unread.len() as u64);
        self.unread.start += passed as usize;
        self.skip -= passed;
        let unread = &self.buffer[self.unread.clone()];
        let Some(found) = find(unread)? else {
            let full = unread.len() > MAX_MESSAGE + 1_024;
            return if full { Err(Malformed) } else { Ok(None) };
        };
        self.unread.start += found.end;
        self.skip = found.skip;
        Ok(Some((found.frame(unread), found.end as u64 + found.skip)))
    }
}

impl Found {
    fn frame<'a>(&self, bytes: &'a [u8]) -> Frame<'a> {
        let [first, channel, message] = self.words.each_ref().map(|word| &bytes[word.clone()]);
        match (self.sign, first) {
            (b'-' | b'!', _) => Frame::Refusal(first),
            (b'>', b"message" | b"smessage") if self.skip > 0 => Frame::TooLarge { channel },
            (b'>', b"message" | b"smessage") => Frame::Message { channel, message },
            (b'>', b"subscribe" | b"ssubscribe") => Frame::Subscribed { channel },
            (b'>', b"unsubscribe" | b"sunsubscribe") => Frame::Unsubscribed { channel },
            (b'>', _) => Frame::Other,
            _ => Frame::Answer(first),
        }
    }
}

/// Returns the frame that these bytes begin with; `None` while it is not whole. Arrays are gone through without
/// recursion, for a server may nest them as deep as it likes.
fn find(bytes: &[u8]) -> Result<Option<Found>, Malformed> {
    let (mut words, mut known) = ([const { 0..0 }; 3], 0);
    let (mut at, mut left, mut values) = (0, 1_u64, 0);
    while left > 0 {
        let Some(line) = line(bytes, at) else {
            return Ok(None);
        };
        let (Some(&sign), mut word) = (bytes[line.clone()].first(), line.start + 1..line.end)
        else {
            return Err(Malformed);
        };
        at = line.end + 2;
        left -= 1;
        values += 1;
        match sign {
            b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => {}
            b'*' | b'~' | b'>' | b'%' => {
                let count = number(&bytes[word])?;
                left += if sign == b'%' { 2 * count } else { count };
                if values + left > MAX_VALUES {
                    return Err(Malformed);
                }
                continue;
            }
            b'$' | b'=' | b'!' => {
                let length = number(&bytes[word])?;
                if length > MAX_MESSAGE as u64 {
                    let is_message = bytes[0] == b'>' && known == 2 && left == 0;
                    return if is_message && bytes[words[0].clone()].ends_with(b"message") {
                        Ok(Some(Found {
                            sign: b'>',
                            words,
                            end: at,
                            skip: length + 2,
                        }))
                    } else {
                        Err(Malformed)
                    };
                }
                word = at..at + length as usize;
                at = word.end + 2;
                if bytes.len() < at {
                    return Ok(None);
                }
            }
            _ => return Err(Malformed),
        }
        if let Some(place) = words.get_mut(known) {
            *place = word;
            known += 1;
        }
    }
    Ok(Some(Found {
        sign: bytes[0],
        words,
        end: at,
        skip: 0,
    }))
}

/// Returns the line that begins here, without its end.
fn line(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = bytes.get(at..)?;
    let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
    Some(at..at + length)
}

/// Returns a length or a count. That of RESP2's null, -1, is none: RESP3 has a sign of its own for it.
fn number(digits: &[u8]) -> Result<u64, Malformed> {
    let text = std::str::from_utf8(digits).map_err(|_| Malformed)?;
    let number: u64 = text.parse().map_err(|_| Malformed)?;
    // So that no sum of lengths overflows.
    if number > u64::from(u32::MAX) {
        Err(Malformed)
    } else {
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what comes of these bytes when they arrive in pieces of this size.
    fn heard(bytes: &[u8], piece: usize) -> Result<Vec<String>, Malformed> {
        let (mut frames, mut all, mut taken) = (Frames::default(), Vec::new(), 0);
        for piece in bytes.chunks(piece) {
            let mut left = piece;
            while !left.is_empty() {
                let vacant = frames.vacant();
                let fits = left.len().min(vacant.len());
                assert!(fits > 0, "a full buffer");
                vacant[..fits].copy_from_slice(&left[..fits]);
                frames.filled(fits);
                left = &left[fits..];
                while let Some((frame, size)) = frames.next()? {
                    taken += size;
                    all.push(shown(&frame));
                }
            }
        }
        assert!(taken <= bytes.len() as u64);
        Ok(all)
    }

    fn shown(frame: &Frame<'_>) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match frame {
            Frame::Message { channel, message } if message.len() > 20 => {
                format!("{}: {} bytes", text(channel), message.len())
            }
            Frame::Message { channel, message } => format!("{}: {}", text(channel), text(message)),
            Frame::TooLarge { channel } => format!("{}: too large", text(channel)),
            Frame::Subscribed { channel } => format!("+{}", text(channel)),
            Frame::Unsubscribed { channel } => format!("-{}", text(channel)),
            Frame::Answer(answer) => format!("answer {}", text(answer)),
            Frame::Refusal(text_of) => format!("refusal {}", text(text_of)),
            Frame::Other => "other".to_owned(),
        }
    }

    fn bulk(bytes: &[u8]) -> Vec<u8> {
        let head = format!("${}\r\n", bytes.len());
        [head.as_bytes(), bytes, b"\r\n"].concat()
    }

    fn message(size: usize) -> Vec<u8> {
        [
            b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n".to_vec(),
            bulk(&vec![b'\r'; size]),
        ]
        .concat()
    }

    #[test]
    fn frames_are_found_however_they_arrive() {
        let hello: &[u8] = b"%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$2\r\nid\r\n:7\r\n\
            $7\r\nmodules\r\n*1\r\n%1\r\n+name\r\n_\r\n";
        let rest: &[u8] = b"-NOPERM no\r\n+OK\r\n>3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n\
            $3\r\nabc\r\n>2\r\n+invalidate\r\n_\r\n!5\r\nERR x\r\n\
            >3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n";
        let sizes = [0, 5, 60_000, MAX_MESSAGE, MAX_MESSAGE + 1, 3 * BUFFER, 4];
        let messages: Vec<u8> = sizes.into_iter().flat_map(message).collect();
        let all = [hello, rest, &messages, b"+end\r\n"].concat();
        let expected = [
            "answer server",
            "refusal NOPERM no",
            "answer OK",
            "+c",
            "answer abc",
            "other",
            "refusal ERR x",
            "-c",
            "c: ",
            "c: \r\r\r\r\r",
            "c: 60000 bytes",
            &format!("c: {MAX_MESSAGE} bytes"),
            "c: too large",
            "c: too large",
            "c: \r\r\r\r",
            "answer end",
        ];
        for piece in [1, 2, 3, 7, 1_000, 65_536, all.len()] {
            assert_eq!(
                heard(&all, piece).unwrap(),
                expected,
                "in pieces of {piece}"
            );
        }
    }

    #[test]
    fn bytes_that_no_server_sends_are_malformed() {
        let many = b"*1\r\n".repeat(5_000);
        let endless = vec![b'+'; BUFFER];
        let hostile: [&[u8]; 10] = [
            b"\r\n",
            b"?\r\n",
            b"$x\r\n",
            b"$-1\r\n",
            b"*99999999999999999999\r\n",
            b"*4097\r\n",
            b"$70000\r\n",
            b">3\r\n$70000\r\n",
            &many,
            &endless,
        ];
        for bytes in hostile {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]);
            assert_eq!(heard(bytes, 1_000), Err(Malformed), "{shown}");
        }
    }

    #[test]
    fn arbitrary_bytes_cause_no_panic() {
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let words: [&[u8]; 12] = [
                b"$",
                b"*",
                b">",
                b"%",
                b"+",
                b"\r\n",
                b"3",
                b"7\r\nmessage",
                b"-",
                b"!",
                b"c",
                b"70000",
            ];
            let bytes: Vec<u8> = (0..200)
                .flat_map(|_| random.choice(words).unwrap().to_vec())
                .collect();
            let _ = heard(&bytes, random.usize(1..50));
        }
    }
}
