//! The source of truth: users and their roles in SQLite, as far away as a database usually is.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// How long a statement waits for other processes.
const BUSY: Duration = Duration::from_secs(2);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS users (
        id   INTEGER PRIMARY KEY,
        role TEXT NOT NULL
    ) STRICT";

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct User {
    pub(crate) id: u32,
    pub(crate) role: String,
}

/// A cheap handle.
#[derive(Clone)]
pub(crate) struct Database(Arc<Shared>);

struct Shared {
    connection: Mutex<Connection>,
    /// How long an answer is on its way, in milliseconds: the file itself is too near to show what
    /// a slow query does.
    away: AtomicU64,
    queries: AtomicU64,
}

impl Database {
    /// Opens the file, and makes it and its table where they do not exist.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(Arc::new(Shared {
            connection: Mutex::new(connection),
            away: AtomicU64::new(0),
            queries: AtomicU64::new(0),
        })))
    }

    /// From now on every answer is on its way for so many milliseconds.
    pub(crate) fn move_away(&self, milliseconds: u64) {
        self.0.away.store(milliseconds, Relaxed);
    }

    /// The user, unless there is none.
    pub(crate) async fn find(&self, id: u32) -> Result<Option<Arc<User>>, Error> {
        self.0.queries.fetch_add(1, Relaxed);
        let user = self
            .run(move |connection| {
                connection
                    .prepare_cached("SELECT role FROM users WHERE id = ?1")?
                    .query_row([id], |row| {
                        let role = row.get(0)?;
                        Ok(User { id, role })
                    })
                    .optional()
            })
            .await?;
        sleep(Duration::from_millis(self.0.away.load(Relaxed))).await;
        Ok(user.map(Arc::new))
    }

    pub(crate) async fn set_role(&self, id: u32, role: String) -> Result<(), Error> {
        self.run(move |connection| {
            connection
                .execute(
                    "INSERT INTO users VALUES (?1, ?2)
                     ON CONFLICT (id) DO UPDATE SET role = excluded.role",
                    params![id, role],
                )
                .map(drop)
        })
        .await
    }

    pub(crate) async fn delete(&self, id: u32) -> Result<(), Error> {
        self.run(move |connection| {
            connection
                .execute("DELETE FROM users WHERE id = ?1", [id])
                .map(drop)
        })
        .await
    }

    /// Questions asked so far.
    pub(crate) fn queries(&self) -> u64 {
        self.0.queries.load(Relaxed)
    }

    /// SQLite blocks, so it runs on a thread that may.
    async fn run<T: Send + 'static>(
        &self,
        statement: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = self.0.clone();
        let done = spawn_blocking(move || {
            let connection = shared.connection.lock();
            statement(&connection.unwrap_or_else(PoisonError::into_inner))
        });
        let result = done.await.map_err(|error| Error(error.into()))?;
        Ok(result?)
    }
}

/// An error of the database.
#[derive(Debug)]
pub(crate) struct Error(unstale::BoxError);

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database: {}", self.0)
    }
}

impl std::error::Error for Error {}
