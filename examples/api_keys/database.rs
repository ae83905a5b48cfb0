//! The source of truth: the digests of the keys, and their owners, in SQLite.
//!
//! Several processes may use one file. It counts what it is asked, for programs that show it.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use tokio::task::spawn_blocking;

/// How long a statement waits for other processes.
const BUSY: Duration = Duration::from_secs(2);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS keys (
        digest TEXT PRIMARY KEY,
        owner  TEXT NOT NULL
    ) STRICT, WITHOUT ROWID";

/// The owner of a key, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Account {
    pub(crate) owner: String,
}

/// A cheap handle.
#[derive(Clone)]
pub(crate) struct Database(Arc<Shared>);

struct Shared {
    connection: Mutex<Connection>,
    asked: Asked,
}

/// Questions answered so far, by the answer.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) found: AtomicU64,
    pub(crate) absent: AtomicU64,
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
            asked: Asked::default(),
        })))
    }

    /// Returns the owner of this key, if it is one.
    pub(crate) async fn find(&self, digest: String) -> Result<Option<Arc<Account>>, Error> {
        let found = self
            .run(move |connection| {
                connection
                    .prepare_cached("SELECT owner FROM keys WHERE digest = ?1")?
                    .query_row([digest], |row| Ok(Account { owner: row.get(0)? }))
                    .optional()
            })
            .await?;
        let asked = &self.0.asked;
        let counter = if found.is_some() {
            &asked.found
        } else {
            &asked.absent
        };
        counter.fetch_add(1, Relaxed);
        Ok(found.map(Arc::new))
    }

    /// As [`find`](Self::find) for many; what is not among the answers does not exist.
    pub(crate) async fn find_many(
        &self,
        digests: Vec<String>,
    ) -> Result<Vec<(String, Arc<Account>)>, Error> {
        self.run(move |connection| {
            let mut select =
                connection.prepare_cached("SELECT owner FROM keys WHERE digest = ?1")?;
            let mut found = Vec::new();
            for digest in digests {
                let account = select
                    .query_row([&digest], |row| Ok(Account { owner: row.get(0)? }))
                    .optional()?;
                found.extend(account.map(|account| (digest, Arc::new(account))));
            }
            Ok(found)
        })
        .await
    }

    /// The digests of all keys, at most so many.
    pub(crate) async fn all(&self, most: u32) -> Result<Vec<String>, Error> {
        self.run(move |connection| {
            let mut select = connection.prepare_cached("SELECT digest FROM keys LIMIT ?1")?;
            select.query_map([most], |row| row.get(0))?.collect()
        })
        .await
    }

    pub(crate) async fn insert(&self, digest: String, owner: String) -> Result<(), Error> {
        self.run(move |connection| {
            connection
                .execute("INSERT INTO keys VALUES (?1, ?2)", params![digest, owner])
                .map(drop)
        })
        .await
    }

    /// Whether there was such a key.
    pub(crate) async fn delete(&self, digest: String) -> Result<bool, Error> {
        self.run(move |connection| {
            let rows = connection.execute("DELETE FROM keys WHERE digest = ?1", [digest])?;
            Ok(rows > 0)
        })
        .await
    }

    pub(crate) fn asked(&self) -> &Asked {
        &self.0.asked
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
