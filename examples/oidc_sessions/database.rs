//! The source of truth about sessions and revocations: SQLite, which several processes may share.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

/// Longest wait for another process's transaction. Shorter than `write_timeout`, so that a write
/// ends one way or the other before its cache gives it up.
const BUSY: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, subject TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS revoked (token TEXT PRIMARY KEY) STRICT";

/// A user who is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) subject: String,
}

/// A cheap handle to one connection.
#[derive(Clone)]
pub(crate) struct Database(Arc<Mutex<Connection>>);

impl Database {
    pub(crate) async fn open(path: PathBuf) -> Result<Self, Error> {
        blocking(move || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "normal")?;
            connection.execute_batch(SCHEMA)?;
            Ok(Self(Arc::new(Mutex::new(connection))))
        })
        .await
    }

    pub(crate) async fn session(&self, id: String) -> Result<Option<Session>, Error> {
        self.run(move |connection| {
            connection
                .prepare_cached("SELECT subject FROM sessions WHERE id = ?1")?
                .query_row([&id], |row| row.get(0))
                .optional()
                .map(|subject| subject.map(|subject| Session { id, subject }))
        })
        .await
    }

    pub(crate) async fn put(&self, session: Session) -> Result<(), Error> {
        self.run(move |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO sessions (id, subject) VALUES (?1, ?2)")?
                .execute([session.id, session.subject])
                .map(drop)
        })
        .await
    }

    pub(crate) async fn is_revoked(&self, token: String) -> Result<bool, Error> {
        self.run(move |connection| {
            connection
                .prepare_cached("SELECT 1 FROM revoked WHERE token = ?1")?
                .exists([token])
        })
        .await
    }

    pub(crate) async fn revoke(&self, token: String) -> Result<(), Error> {
        self.run(move |connection| {
            connection
                .prepare_cached("INSERT OR IGNORE INTO revoked (token) VALUES (?1)")?
                .execute([token])
                .map(drop)
        })
        .await
    }

    /// SQLite blocks, so it runs on a thread that may.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let connection = self.0.clone();
        blocking(move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work)
        .await
        .map_err(|error| Error(error.into()))?
        .map_err(|error| Error(error.into()))
}

/// An error of the database.
#[derive(Debug)]
pub(crate) struct Error(unstale::BoxError);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database: {}", self.0)
    }
}

impl std::error::Error for Error {}
