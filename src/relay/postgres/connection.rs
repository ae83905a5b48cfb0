//! One connection: it answers simple queries, and becomes a stream of the log.

use std::time::Duration;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;
use tokio::time::{Instant, timeout, timeout_at};

use super::config::Config;
use super::dial::dial;
use super::login::{log_in, milliseconds, send};
use super::stream::Stream;
use super::wire::{Answer, Wire, unreadable};
use super::{PgError, parse_lsn, show_lsn};

/// What a query answers: rows of values in text form.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// Most rows and bytes of one answer. A query that returns more is a mistake.
const MOST_ROWS: usize = 100_000;
const MOST_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Connection {
    wire: Wire,
    query_timeout: Duration,
    silence: Duration,
    /// A query has begun and its answer was not read to its end.
    is_behind: bool,
}

impl Connection {
    /// Connects and logs in, all within the time for connecting.
    ///
    /// With `replication` it may make slots and read the log; it answers simple queries as well.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, is not the right one, or refuses the login.
    pub(crate) async fn connect(config: &Config, replication: bool) -> Result<Self, PgError> {
        let deadline = Instant::now() + config.connect_timeout;
        let connecting = async {
            let mut wire = Wire::new(dial(config, deadline).await?);
            log_in(&mut wire, config, replication).await?;
            Ok(wire)
        };
        let late = || {
            PgError::timeout(format!(
                "PostgreSQL at {} has not answered within {:?}",
                config.place(),
                config.connect_timeout
            ))
        };
        let connected = timeout_at(deadline, connecting).await;
        Ok(Self {
            wire: connected.map_err(|_| late())??,
            query_timeout: config.query_timeout,
            silence: config.silence,
            is_behind: false,
        })
    }

    /// Returns the rows of a statement; of several statements, all rows one after the other.
    ///
    /// # Errors
    ///
    /// The server's error, after which the connection is still good; or an error of the connection, which is not.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Rows, PgError> {
        self.query_within(sql, self.query_timeout).await
    }

    /// As [`query`](Self::query), with a time of its own.
    pub(crate) async fn query_within(
        &mut self,
        sql: &str,
        within: Duration,
    ) -> Result<Rows, PgError> {
        self.ask(sql)?;
        timeout(within, self.rows())
            .await
            .unwrap_or_else(|_| Err(late(within)))
    }

    /// Makes a slot for pgoutput and returns the place it begins at.
    ///
    /// The server answers when all transactions have ended that write at this moment; `within` is how
    /// long each may take. A temporary slot lasts as long as this connection.
    ///
    /// # Errors
    ///
    /// As a query; the code is 42710 where the slot exists, 55P03 where a transaction takes too long.
    pub(crate) async fn create_slot(
        &mut self,
        name: &str,
        temporary: bool,
        within: Duration,
    ) -> Result<u64, PgError> {
        // The server itself gives up: it would not notice that we have gone, and keep the slot.
        let milliseconds = milliseconds(within);
        self.query(&format!("SET lock_timeout = {milliseconds}"))
            .await?;
        let temporary = if temporary { "TEMPORARY " } else { "" };
        let name = identifier(name);
        let sql =
            format!("CREATE_REPLICATION_SLOT {name} {temporary}LOGICAL pgoutput NOEXPORT_SNAPSHOT");
        let made = self.query_within(&sql, within + self.query_timeout).await;
        if !self.is_behind {
            self.query("RESET lock_timeout").await?;
        }
        let rows = made?;
        let place = rows.first().and_then(|row| row.get(1)?.as_deref());
        place
            .and_then(parse_lsn)
            .ok_or_else(|| unreadable("a slot's place"))
    }

    /// Drops a slot that nothing reads.
    ///
    /// # Errors
    ///
    /// As a query; the code is 55006 where something reads it.
    pub(crate) async fn drop_slot(&mut self, name: &str) -> Result<(), PgError> {
        let sql = format!("DROP_REPLICATION_SLOT {}", identifier(name));
        self.query(&sql).await.map(drop)
    }

    /// Reads the log from a slot: from `from`, or from where the slot stands if that is later.
    ///
    /// # Errors
    ///
    /// As a query. The connection is gone then.
    pub(crate) async fn start_replication(
        mut self,
        slot: &str,
        from: u64,
        publications: &[&str],
        messages: bool,
    ) -> Result<Stream, PgError> {
        let names: Vec<String> = publications.iter().map(|name| identifier(name)).collect();
        let sql = format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {}, \
             messages '{messages}')",
            identifier(slot),
            show_lsn(from),
            literal(&names.join(",")),
        );
        self.ask(&sql)?;
        let within = self.query_timeout;
        let answer = timeout(within, self.wire.answer()).await;
        match answer.unwrap_or_else(|_| Err(late(within)))? {
            Answer::CopyBoth => Ok(Stream::new(self.wire, from, self.silence)),
            Answer::Message(Message::ErrorResponse(body)) => Err(PgError::of_server(body.fields())),
            Answer::Message(_) => Err(unreadable("no stream of the log")),
        }
    }

    fn ask(&mut self, sql: &str) -> Result<(), PgError> {
        if self.is_behind {
            return Err(PgError::protocol(
                "an earlier query on this connection has not ended; make a new connection",
            ));
        }
        send(&mut self.wire, |out| frontend::query(sql, out))?;
        self.is_behind = true;
        Ok(())
    }

    async fn rows(&mut self) -> Result<Rows, PgError> {
        let mut rows = Rows::new();
        let mut error = None;
        let mut bytes = 0_usize;
        loop {
            let Answer::Message(message) = self.wire.answer().await? else {
                return Err(unreadable("no rows"));
            };
            match message {
                Message::DataRow(body) => {
                    bytes = bytes.saturating_add(body.buffer().len());
                    if rows.len() == MOST_ROWS || bytes > MOST_BYTES {
                        error = Some(PgError::protocol("the answer has too many rows"));
                        rows = Rows::new();
                    }
                    if error.is_none() {
                        rows.push(row(&body)?);
                    }
                }
                Message::ErrorResponse(body) => error = Some(PgError::of_server(body.fields())),
                Message::RowDescription(_)
                | Message::CommandComplete(_)
                | Message::EmptyQueryResponse => {}
                Message::ReadyForQuery(_) => {
                    self.is_behind = false;
                    return error.map_or(Ok(rows), Err);
                }
                _ => return Err(unreadable("no rows")),
            }
        }
    }
}

fn row(body: &DataRowBody) -> Result<Vec<Option<String>>, PgError> {
    let value = |range: Option<std::ops::Range<usize>>| {
        let Some(range) = range else {
            return Ok(None);
        };
        let bytes = body.buffer().get(range).unwrap_or_default();
        let text = std::str::from_utf8(bytes)
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
        Ok(Some(text.to_owned()))
    };
    body.ranges().map(value).collect().map_err(unreadable)
}

fn late(within: Duration) -> PgError {
    PgError::timeout(format!(
        "PostgreSQL has not answered a query within {within:?}"
    ))
}

/// Returns a name in quotes.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a text in quotes. The commands of replication know no escapes but this one.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
