//! Cuts the stream's bytes into messages. A message that is too large is skipped as it comes.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::backend::{
    COPY_DATA_TAG, COPY_DONE_TAG, ERROR_RESPONSE_TAG, Message, READY_FOR_QUERY_TAG,
};

use super::PgError;
use super::wire::{header, unreadable};
use crate::relay::pgoutput;

/// Largest message that is kept.
pub(super) const LARGEST: usize = 16 * 1024 * 1024;

/// The room of a larger message is given back as soon as it is taken.
const KEPT_ROOM: usize = 1024 * 1024;

/// Bytes before any message: its kind and its length.
const HEADER: usize = 5;

/// Bytes before a part of the log: its kind, its place, the server's place and the time.
const DATA_HEADER: usize = 25;

/// What names a row's table: its kind and the table's number.
const ROW_BEGINNING: usize = 5;

#[derive(Debug)]
pub(super) enum Frame {
    Data {
        start: u64,
        bytes: Bytes,
    },
    Keepalive {
        lsn: u64,
        wants_reply: bool,
    },
    TooLarge {
        relation: Option<u32>,
    },
    Failed(PgError),
    /// The server sends no more of the log.
    Done,
    Ready,
    /// A notice, a setting, the end of a command.
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Bytes that are still to come of a message that is too large.
    skip: usize,
}

impl Frames {
    /// Returns the next frame, if all of it is there.
    pub(super) fn take(&mut self, inbox: &mut BytesMut) -> Result<Option<Frame>, PgError> {
        let skipped = self.skip.min(inbox.len());
        inbox.advance(skipped);
        self.skip -= skipped;
        let Some((tag, length)) = header(inbox)? else {
            return Ok(None);
        };
        if length > LARGEST {
            return self.begin_skip(tag, length, inbox);
        }
        if let Some(missing) = length.checked_sub(inbox.len()).filter(|&left| left > 0) {
            // All of it at once, or the room would be doubled and the bytes copied.
            inbox.reserve(missing);
            return Ok(None);
        }
        let mut frame = inbox.split_to(length);
        if length > KEPT_ROOM {
            *inbox = BytesMut::from(&inbox[..]);
        }
        match tag {
            COPY_DATA_TAG => {
                frame.advance(HEADER);
                copied(frame.freeze()).map(Some)
            }
            COPY_DONE_TAG => Ok(Some(Frame::Done)),
            READY_FOR_QUERY_TAG => Ok(Some(Frame::Ready)),
            ERROR_RESPONSE_TAG => match Message::parse(&mut frame) {
                Ok(Some(Message::ErrorResponse(body))) => {
                    Ok(Some(Frame::Failed(PgError::of_server(body.fields()))))
                }
                _ => Err(unreadable("an error")),
            },
            _ => Ok(Some(Frame::Other)),
        }
    }

    fn begin_skip(
        &mut self,
        tag: u8,
        length: usize,
        inbox: &BytesMut,
    ) -> Result<Option<Frame>, PgError> {
        if tag != COPY_DATA_TAG {
            return Err(unreadable("a message is too large"));
        }
        let beginning = HEADER + DATA_HEADER;
        let Some(row) = inbox.get(beginning..beginning + ROW_BEGINNING) else {
            return Ok(None);
        };
        self.skip = length;
        Ok(Some(Frame::TooLarge {
            relation: pgoutput::relation_of(row),
        }))
    }
}

/// A part of the log, or a keepalive.
fn copied(mut bytes: Bytes) -> Result<Frame, PgError> {
    let short = |_| unreadable("a part of the log ends too early");
    match bytes.try_get_u8().map_err(short)? {
        b'w' => {
            let start = bytes.try_get_u64().map_err(short)?;
            let _server_at = bytes.try_get_u64().map_err(short)?;
            let _time = bytes.try_get_i64().map_err(short)?;
            Ok(Frame::Data { start, bytes })
        }
        b'k' => {
            let lsn = bytes.try_get_u64().map_err(short)?;
            let _time = bytes.try_get_i64().map_err(short)?;
            let wants_reply = bytes.try_get_u8().map_err(short)? != 0;
            Ok(Frame::Keepalive { lsn, wants_reply })
        }
        _ => Err(unreadable("a part of the log is not known")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use proptest::prelude::*;

    use super::*;

    fn data(content: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::new();
        bytes.put_u8(COPY_DATA_TAG);
        bytes.put_u32(u32::try_from(4 + DATA_HEADER + content.len()).unwrap());
        bytes.put_u8(b'w');
        bytes.put_slice(&[0, 0, 0, 0, 0, 0, 0, 7]);
        bytes.put_slice(&[0; 16]);
        bytes.put_slice(content);
        bytes
    }

    /// Returns all frames of bytes that come in pieces of a size, and the most that was kept meanwhile.
    fn frames(bytes: &[u8], piece: usize) -> (Vec<String>, usize) {
        let (mut frames, mut inbox, mut most) = (Frames::default(), BytesMut::new(), 0);
        let mut found = Vec::new();
        for piece in bytes.chunks(piece) {
            inbox.extend_from_slice(piece);
            while let Some(frame) = frames.take(&mut inbox).unwrap() {
                found.push(match frame {
                    Frame::Data { start, bytes } => format!("{start} {}", bytes.len()),
                    other => format!("{other:?}"),
                });
            }
            most = most.max(inbox.len());
        }
        assert!(inbox.is_empty());
        (found, most)
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let mut bytes = data(b"abc");
        bytes.put_slice(&[b'd', 0, 0, 0, 22, b'k', 0, 0, 0, 0, 0, 0, 0, 9]);
        bytes.put_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.put_slice(&[b'c', 0, 0, 0, 4]);
        bytes.put_slice(&data(b""));
        for piece in 1..bytes.len() {
            let keepalive = "Keepalive { lsn: 9, wants_reply: true }";
            assert_eq!(frames(&bytes, piece).0, ["7 3", keepalive, "Done", "7 0"]);
        }
    }

    #[test]
    fn the_largest_message_is_kept_and_a_larger_one_is_skipped() {
        let largest = vec![0; LARGEST - HEADER - DATA_HEADER];
        assert_eq!(
            frames(&data(&largest), 1 << 16).0,
            [format!("7 {}", largest.len())]
        );
        let mut larger = vec![b'x'; LARGEST];
        larger[..5].copy_from_slice(&[b'U', 0, 0, 1, 2]);
        let mut bytes = data(&larger);
        bytes.put_slice(&data(b"abc"));
        let (found, most) = frames(&bytes, 1000);
        assert_eq!(found, ["TooLarge { relation: Some(258) }", "7 3"]);
        assert!(most <= 1000, "{most} bytes are kept");
        larger[0] = b'M';
        assert_eq!(
            frames(&data(&larger), 1 << 16).0,
            ["TooLarge { relation: None }"]
        );
    }

    #[test]
    fn bytes_that_are_no_stream_are_an_error() {
        for wrong in [
            &[b'd', 0, 0, 0, 3][..],
            &[b'd', 0, 0, 0, 4],
            &[b'd', 0, 0, 0, 5, b'x'],
            &[b'd', 0, 0, 0, 6, b'w', 0],
            &[b'd', 0, 0, 0, 6, b'k', 0],
            &[b'd', 0xFF, 0xFF, 0xFF, 0xFF],
            &[b'E', 0x7F, 0xFF, 0xFF, 0xFF],
        ] {
            let taken = Frames::default().take(&mut BytesMut::from(wrong));
            assert!(taken.is_err(), "{wrong:?} is {taken:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_cause_no_panic(
            pieces in proptest::collection::vec((any::<u8>(), 0..40_u32, any::<[u8; 9]>()), 0..20),
        ) {
            let (mut frames, mut inbox) = (Frames::default(), BytesMut::new());
            for (tag, length, content) in pieces {
                inbox.put_u8(b"dcEZ"[usize::from(tag % 4)]);
                inbox.put_u32(length);
                inbox.put_slice(&content);
                while let Ok(Some(_)) = frames.take(&mut inbox) {}
            }
        }
    }
}
