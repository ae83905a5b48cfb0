//! The source of truth: a table of documents in SQLite, which several processes may share.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use tokio::task::spawn_blocking;

use super::account::Account;

/// Longest wait for another process's transaction. Shorter than `write_timeout`, so that a write
/// ends one way or the other before its cache gives it up.
const BUSY: Duration = Duration::from_secs(5);

/// When an account was last used changes with every request, so it is no part of the document.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS accounts (
        id        INTEGER PRIMARY KEY,
        platform  TEXT NOT NULL,
        document  TEXT NOT NULL,
        last_used INTEGER NOT NULL DEFAULT 0
    ) STRICT";

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

    pub(crate) async fn account(&self, id: u64) -> Result<Option<Arc<Account>>, Error> {
        self.run(move |connection| {
            connection
                .prepare_cached("SELECT document FROM accounts WHERE id = ?1")?
                .query_row([id], account)
                .optional()
        })
        .await
    }

    /// All of these that exist, in one query.
    pub(crate) async fn accounts(&self, ids: Vec<u64>) -> Result<Vec<(u64, Arc<Account>)>, Error> {
        self.run(move |connection| {
            let ids = serde_json::to_string(&ids)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            let mut query = connection.prepare_cached(
                "SELECT document FROM accounts WHERE id IN (SELECT value FROM json_each(?1))",
            )?;
            let accounts = query.query_map([ids], account)?;
            accounts
                .map(|account| account.map(|account| (account.scheduling.id, account)))
                .collect()
        })
        .await
    }

    /// The accounts of a platform.
    pub(crate) async fn ids(&self, platform: String) -> Result<Arc<[u64]>, Error> {
        self.run(move |connection| {
            let mut query = connection
                .prepare_cached("SELECT id FROM accounts WHERE platform = ?1 ORDER BY id")?;
            query.query_map([platform], |row| row.get(0))?.collect()
        })
        .await
    }

    /// Those that the table has not, or has otherwise.
    pub(crate) async fn different(&self, accounts: Vec<Account>) -> Result<Vec<Account>, Error> {
        self.run(move |connection| {
            let mut query =
                connection.prepare_cached("SELECT document FROM accounts WHERE id = ?1")?;
            let mut different = Vec::new();
            for new in accounts {
                let old = query.query_row([new.scheduling.id], account).optional()?;
                if old.as_deref() != Some(&new) {
                    different.push(new);
                }
            }
            Ok(different)
        })
        .await
    }

    /// Creates or replaces accounts in one transaction.
    pub(crate) async fn put(&self, accounts: Vec<Account>) -> Result<(), Error> {
        self.run(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut upsert = transaction.prepare_cached(
                "INSERT INTO accounts (id, platform, document) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET
                     platform = excluded.platform, document = excluded.document",
            )?;
            for new in accounts {
                let document = serde_json::to_string(&new)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
                upsert.execute(params![
                    new.scheduling.id,
                    new.scheduling.platform,
                    document
                ])?;
            }
            drop(upsert);
            transaction.commit()
        })
        .await
    }

    /// Notes that accounts were used, in one transaction.
    pub(crate) async fn used(&self, ids: BTreeSet<u64>, now: u64) -> Result<(), Error> {
        self.run(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for id in ids {
                transaction
                    .prepare_cached("UPDATE accounts SET last_used = ?2 WHERE id = ?1")?
                    .execute([id, now])?;
            }
            transaction.commit()
        })
        .await
    }

    /// SQLite blocks, so it runs on a thread that may.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let connection = self.0.clone();
        blocking(move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

fn account(row: &Row<'_>) -> rusqlite::Result<Arc<Account>> {
    let document = row.get_ref(0)?.as_str()?;
    let account = serde_json::from_str(document)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))?;
    Ok(Arc::new(account))
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
