//! The table in SQLite, which several processes of one machine may share.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, TransactionBehavior, params};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::{Account, Error};

/// Reads at once. SQLite reads from its own memory mostly, so more threads than cores gain little.
const READERS: usize = 4;

/// Longest wait for another process's write. Shorter than `write_timeout`, so that a write ends
/// one way or the other before its cache gives it up.
const BUSY: Duration = Duration::from_secs(5);

/// Between two tries to open a file that others open too.
const RETRY: Duration = Duration::from_millis(10);

/// A deleted row stays with its version, so that an account that is created again continues to count.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS accounts (
        id      INTEGER PRIMARY KEY,
        name    TEXT    NOT NULL,
        balance INTEGER NOT NULL,
        version INTEGER NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0
    ) STRICT";

/// A cheap handle: one connection that writes, and a few that read.
#[derive(Clone)]
pub(crate) struct Sqlite(Arc<Shared>);

struct Shared {
    path: PathBuf,
    /// SQLite has one writer at a time; waiting here costs no thread.
    writer: Arc<tokio::sync::Mutex<Connection>>,
    /// Idle connections; the holder of a permit takes one, or opens one.
    readers: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Sqlite {
    /// Opens the file, and makes it and its table where they do not exist.
    pub(crate) async fn open(path: PathBuf) -> Result<Self, Error> {
        blocking(move || {
            let writer = create(&path)?;
            Ok(Self(Arc::new(Shared {
                path,
                writer: Arc::new(tokio::sync::Mutex::new(writer)),
                readers: Mutex::default(),
                permits: Arc::new(Semaphore::new(READERS)),
            })))
        })
        .await
    }

    pub(crate) async fn account(&self, id: u64) -> Result<Option<Account>, Error> {
        let shared = self.0.clone();
        let permit = shared
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(Error::new)?;
        blocking(move || {
            let _permit = permit; // held until the query ends, even if no caller waits for it any longer
            let idle = shared.readers().pop();
            let connection = idle.map_or_else(|| connect(&shared.path), Ok)?;
            let account = connection
                .prepare_cached(
                    "SELECT name, balance, version FROM accounts WHERE id = ?1 AND deleted = 0",
                )?
                .query_row([id], |row| {
                    let (name, balance, version) = (row.get(0)?, row.get(1)?, row.get(2)?);
                    Ok(Account {
                        id,
                        name,
                        balance,
                        version,
                    })
                })
                .optional()?;
            shared.readers().push(connection);
            Ok(account)
        })
        .await
    }

    pub(crate) async fn put(&self, id: u64, name: String, balance: i64) -> Result<Account, Error> {
        self.write(move |connection| {
            let version = connection.query_row(
                "INSERT INTO accounts (id, name, balance, version) VALUES (?1, ?2, ?3, 1)
                 ON CONFLICT (id) DO UPDATE SET
                     name = excluded.name, balance = excluded.balance,
                     version = version + 1, deleted = 0
                 RETURNING version",
                params![id, name, balance],
                |row| row.get(0),
            )?;
            Ok(Account {
                id,
                name,
                balance,
                version,
            })
        })
        .await
    }

    pub(crate) async fn delete(&self, id: u64) -> Result<bool, Error> {
        self.write(move |connection| {
            let rows = connection.execute(
                "UPDATE accounts SET deleted = 1, version = version + 1
                 WHERE id = ?1 AND deleted = 0",
                [id],
            )?;
            Ok(rows > 0)
        })
        .await
    }

    /// One transaction. A caller that goes away while it waits for its turn changes nothing; one
    /// that goes away later leaves a transaction that ends by itself, within [`BUSY`].
    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let mut writer = self.0.writer.clone().lock_owned().await;
        blocking(move || {
            // The lock at once: a transaction that began as a reader could not wait for it.
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }
}

impl Shared {
    fn readers(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the file and makes the table. Of processes that make the file WAL at the same moment SQLite
/// tells all but one "busy" without waiting: they try again.
fn create(path: &Path) -> rusqlite::Result<Connection> {
    let deadline = Instant::now() + BUSY;
    loop {
        let made = connect(path).and_then(|writer| {
            writer.execute_batch(SCHEMA)?;
            Ok(writer)
        });
        match made {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(RETRY);
            }
            made => return made,
        }
    }
}

/// WAL, so that readers and the writer do not wait for each other. With `NORMAL` a commit survives
/// the end of the process, however it ends; a power cut may undo the latest.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    // Asked first: changing the mode locks out the other processes for a moment.
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if mode != "wal" {
        connection.pragma_update(None, "journal_mode", "wal")?;
    }
    connection.pragma_update(None, "synchronous", "normal")?;
    Ok(connection)
}

/// SQLite blocks, so it runs on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work)
        .await
        .map_err(Error::new)?
        .map_err(Error::new)
}
