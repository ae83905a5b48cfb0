//! Messages over a socket: what came and is not taken yet, what is to go and has not left yet.
//!
//! Both are kept here and not in the futures, so that each of these can be dropped at any time.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use postgres_protocol::message::backend::{Header, Message};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::PgError;
use super::socket::Socket;

/// Room that is made for reading, and the room below which more is made.
const CHUNK: usize = 32 * 1024;
const LEAST_ROOM: usize = 4 * 1024;

/// Largest message of an answer to a query.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// `CopyBothResponse`, which `postgres-protocol` does not know.
const COPY_BOTH: u8 = b'W';

/// A message of an answer.
pub(super) enum Answer {
    CopyBoth,
    Message(Message),
}

pub(super) struct Wire {
    socket: Socket,
    inbox: BytesMut,
    outbox: BytesMut,
    /// Something was written since all of it left.
    unflushed: bool,
}

/// Nothing of the bytes: they are rows, and passwords.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("inbox", &self.inbox.len())
            .field("outbox", &self.outbox.len())
            .finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn new(socket: Socket) -> Self {
        Self {
            socket,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            unflushed: false,
        }
    }

    pub(super) fn is_private(&self) -> bool {
        self.socket.is_private()
    }

    /// Returns what came and is not taken yet.
    pub(super) fn inbox(&mut self) -> &mut BytesMut {
        &mut self.inbox
    }

    /// Returns what is to go; it leaves by `flush`, `push` and `fill`.
    pub(super) fn outbox(&mut self) -> &mut BytesMut {
        &mut self.outbox
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.outbox.is_empty() && !self.unflushed
    }

    /// Ends when all has left.
    pub(super) async fn flush(&mut self) -> Result<(), PgError> {
        let flushed = poll_fn(|cx| self.poll_out(cx)).await;
        flushed.map_err(|error| PgError::io(&error))
    }

    /// Sends what can leave without waiting.
    pub(super) async fn push(&mut self) -> Result<(), PgError> {
        let pushed = poll_fn(|cx| match self.poll_out(cx) {
            Poll::Pending => Poll::Ready(Ok(())),
            done => done,
        });
        pushed.await.map_err(|error| PgError::io(&error))
    }

    /// Ends when something came; sends meanwhile.
    pub(super) async fn fill(&mut self) -> Result<(), PgError> {
        let filled = poll_fn(|cx| {
            let out = self.poll_out(cx);
            match (self.poll_in(cx), out) {
                // A server that closed may have said why before.
                (Poll::Ready(Ok(read)), _) if read > 0 => Poll::Ready(Ok(read)),
                (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                (read, _) => read,
            }
        });
        match filled.await {
            Ok(0) => Err(PgError::io(&io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed it",
            ))),
            Ok(_) => Ok(()),
            Err(error) => Err(PgError::io(&error)),
        }
    }

    /// Returns the next message of an answer. Notices and settings are left out.
    pub(super) async fn answer(&mut self) -> Result<Answer, PgError> {
        loop {
            match self.take_answer()? {
                Some(Answer::Message(
                    Message::NoticeResponse(_)
                    | Message::ParameterStatus(_)
                    | Message::NotificationResponse(_),
                )) => {}
                Some(answer) => return Ok(answer),
                None => self.fill().await?,
            }
        }
    }

    fn take_answer(&mut self) -> Result<Option<Answer>, PgError> {
        let Some((tag, length)) = header(&self.inbox)? else {
            return Ok(None);
        };
        if length > LARGEST_ANSWER {
            return Err(PgError::protocol("an answer of PostgreSQL is too large"));
        }
        if self.inbox.len() < length {
            return Ok(None);
        }
        if tag == COPY_BOTH {
            self.inbox.advance(length);
            return Ok(Some(Answer::CopyBoth));
        }
        let message = Message::parse(&mut self.inbox).map_err(unreadable)?;
        Ok(message.map(Answer::Message))
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = Pin::new(&mut self.socket);
        while !self.outbox.is_empty() {
            let written = ready!(socket.as_mut().poll_write(cx, &self.outbox))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbox.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(socket.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.inbox.capacity() - self.inbox.len() < LEAST_ROOM {
            self.inbox.reserve(CHUNK);
        }
        pin!(self.socket.read_buf(&mut self.inbox)).poll(cx)
    }
}

/// Returns the kind of the message that begins here, and how long it is with its header.
pub(super) fn header(bytes: &[u8]) -> Result<Option<(u8, usize)>, PgError> {
    let Some(header) = Header::parse(bytes).map_err(unreadable)? else {
        return Ok(None);
    };
    let length = usize::try_from(header.len()).map_err(|_| unreadable("its length"))?;
    Ok(Some((header.tag(), length.saturating_add(1))))
}

pub(super) fn unreadable(why: impl fmt::Display) -> PgError {
    PgError::protocol(format!("PostgreSQL's answer cannot be read: {why}"))
}
