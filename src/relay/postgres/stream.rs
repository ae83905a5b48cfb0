//! The log as it comes: messages of pgoutput, how far the server is, and what we have confirmed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes};
use postgres_protocol::message::backend::COPY_DATA_TAG;
use postgres_protocol::message::frontend;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::frames::{Frame, Frames};
use super::wire::Wire;
use super::{PgError, PgErrorKind};

/// From the Unix epoch to 2000-01-01, where PostgreSQL's times begin.
const EPOCH_MICROS: u128 = 946_684_800_000_000;

/// What the stream of the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A message of pgoutput, and the place of what it is about.
    Message { start: u64, bytes: Bytes },
    /// The log has been decoded up to here: all that was committed before has been sent before.
    Passed { lsn: u64 },
    /// A message of more than 16 MiB, which is not kept; of which table, if it is a row.
    TooLarge { relation: Option<u32> },
}

#[derive(Debug)]
pub(crate) struct Stream {
    wire: Wire,
    frames: Frames,
    silence: Duration,
    heard: Instant,
    said: Instant,
    /// When the server was asked to answer, if it has said nothing since.
    asked: Option<Instant>,
    /// Furthest place that the server has named.
    received: u64,
    /// Everything before it is processed: the server need not send it again.
    confirmed: u64,
    /// A status is to be sent; it asks for an answer.
    owes_status: bool,
    owes_question: bool,
}

impl Stream {
    pub(super) fn new(wire: Wire, from: u64, silence: Duration) -> Self {
        let now = Instant::now();
        Self {
            wire,
            frames: Frames::default(),
            silence,
            heard: now,
            said: now,
            asked: None,
            received: from,
            confirmed: from,
            owes_status: false,
            owes_question: false,
        }
    }

    /// Returns the next event. It may be dropped at any time, and nothing is lost.
    ///
    /// # Errors
    ///
    /// The server's error, a broken connection, or a server that is silent. The stream is over then.
    pub(crate) async fn next(&mut self) -> Result<Event, PgError> {
        // While there is much to read, nothing else lets a status out, and the server's question may be
        // behind all of it.
        self.speak_in_time().await?;
        loop {
            match self.frames.take(self.wire.inbox())? {
                Some(frame) => {
                    if let Some(event) = self.event(frame).await? {
                        return Ok(event);
                    }
                }
                None => self.listen().await?,
            }
        }
    }

    /// Tells the server that everything before `flushed` is processed. Places never go back.
    ///
    /// With `ask` the server says at once how far it is, which is `Event::Passed`.
    ///
    /// # Errors
    ///
    /// A broken connection.
    pub(crate) async fn confirm(&mut self, flushed: u64, ask: bool) -> Result<(), PgError> {
        self.confirmed = self.confirmed.max(flushed);
        self.owes_status = true;
        self.owes_question |= ask;
        self.speak().await
    }

    /// Keeps the stream alive while something else is waited for; reads nothing. It ends with an error
    /// only.
    pub(crate) async fn hold(&mut self) -> PgError {
        loop {
            if let Err(error) = self.speak_in_time().await {
                return error;
            }
            let again = self.said + self.silence / 3;
            sleep_until(again.max(Instant::now() + self.silence / 30)).await;
        }
    }

    /// Ends politely, so that the server frees the slot at once. `within` is how long that may take.
    pub(crate) async fn end(mut self, within: Duration) {
        let ending = async {
            self.wire.flush().await?;
            self.owes_status = true;
            self.write_status();
            frontend::copy_done(self.wire.outbox());
            self.wire.flush().await?;
            loop {
                match self.frames.take(self.wire.inbox())? {
                    Some(Frame::Ready | Frame::Failed(_)) => break,
                    Some(_) => {}
                    None => self.wire.fill().await?,
                }
            }
            frontend::terminate(self.wire.outbox());
            self.wire.flush().await
        };
        // The connection to a server that does not answer is lost either way.
        let _: Result<Result<(), PgError>, _> = timeout(within, ending).await;
    }

    async fn event(&mut self, frame: Frame) -> Result<Option<Event>, PgError> {
        match frame {
            Frame::Data { start, bytes } => {
                self.received = self.received.max(start);
                Ok(Some(Event::Message { start, bytes }))
            }
            Frame::Keepalive { lsn, wants_reply } => {
                self.received = self.received.max(lsn);
                if wants_reply {
                    self.owes_status = true;
                    self.speak().await?;
                }
                Ok(Some(Event::Passed { lsn }))
            }
            Frame::TooLarge { relation } => Ok(Some(Event::TooLarge { relation })),
            Frame::Failed(error) => Err(error),
            Frame::Done | Frame::Ready => Err(PgError::new(
                PgErrorKind::Io,
                "PostgreSQL ended the stream of its log",
            )),
            Frame::Other => Ok(None),
        }
    }

    /// Waits until something came, and asks a server that is silent.
    async fn listen(&mut self) -> Result<(), PgError> {
        self.write_status();
        let half = self.silence / 2;
        let due = match self.asked {
            None => self.heard + half,
            // The caller may have been away for long: the answer still has its time.
            Some(asked) => (self.heard + self.silence).max(asked + half),
        };
        match timeout_at(due, self.wire.fill()).await {
            Ok(filled) => {
                filled?;
                self.heard = Instant::now();
                self.asked = None;
                Ok(())
            }
            Err(_) if self.asked.is_some() => Err(PgError::timeout(format!(
                "PostgreSQL has been silent for {:?}",
                self.heard.elapsed()
            ))),
            Err(_) => {
                self.asked = Some(Instant::now());
                self.owes_status = true;
                self.owes_question = true;
                Ok(())
            }
        }
    }

    async fn speak_in_time(&mut self) -> Result<(), PgError> {
        if self.said.elapsed() >= self.silence / 3 {
            self.owes_status = true;
        }
        self.speak().await
    }

    /// Sends what can leave without waiting. It is over at its first poll.
    async fn speak(&mut self) -> Result<(), PgError> {
        if self.owes_status || !self.wire.is_flushed() {
            self.wire.push().await?;
            self.write_status();
            self.wire.push().await?;
        }
        Ok(())
    }

    /// One status waits at most: while it has not left, a later one takes its place.
    fn write_status(&mut self) {
        if !self.owes_status || !self.wire.outbox().is_empty() {
            return;
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = time.map_or(0, |time| time.as_micros().saturating_sub(EPOCH_MICROS));
        let out = self.wire.outbox();
        out.put_u8(COPY_DATA_TAG);
        out.put_u32(4 + 34);
        out.put_u8(b'r');
        // A server that believes us to be behind asks again after every answer.
        out.put_u64(self.received.max(self.confirmed));
        out.put_u64(self.confirmed);
        out.put_u64(self.confirmed);
        out.put_i64(i64::try_from(micros).unwrap_or(i64::MAX));
        out.put_u8(u8::from(self.owes_question));
        self.said = Instant::now();
        if self.owes_question {
            self.asked.get_or_insert(self.said);
        }
        (self.owes_status, self.owes_question) = (false, false);
    }
}
