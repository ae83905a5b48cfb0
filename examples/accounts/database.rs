//! The source of truth: one table, in SQLite or in PostgreSQL.

mod postgres;
mod sqlite;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use postgres::Postgres;
use sqlite::Sqlite;

/// One row, as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Account {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// In cents.
    pub(crate) balance: i64,
    /// Grows by one with every write, whichever process makes it.
    pub(crate) version: i64,
}

/// A cheap handle.
#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Database {
    /// Opens a database, and makes its table where there is none: PostgreSQL's if the place is a URL of it,
    /// else a file of SQLite, which is made as well.
    pub(crate) async fn open(place: &str) -> Result<Self, Error> {
        if place.starts_with("postgres://") || place.starts_with("postgresql://") {
            return Ok(Self::Postgres(Postgres::open(place).await?));
        }
        Ok(Self::Sqlite(Sqlite::open(place.into()).await?))
    }

    /// The account, unless it does not exist. This is what the cache's loader calls.
    pub(crate) async fn account(&self, id: u64) -> Result<Option<Arc<Account>>, Error> {
        let account = match self {
            Self::Sqlite(sqlite) => sqlite.account(id).await,
            Self::Postgres(postgres) => postgres.account(id).await,
        };
        Ok(account?.map(Arc::new))
    }

    /// Creates or changes an account, and returns it as it is now.
    pub(crate) async fn put(&self, id: u64, name: String, balance: i64) -> Result<Account, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.put(id, name, balance).await,
            Self::Postgres(postgres) => postgres.put(id, name, balance).await,
        }
    }

    /// Deletes an account; whether there was one.
    pub(crate) async fn delete(&self, id: u64) -> Result<bool, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.delete(id).await,
            Self::Postgres(postgres) => postgres.delete(id).await,
        }
    }
}

/// The database did not do it.
#[derive(Debug)]
pub(crate) struct Error(unstale::BoxError);

impl Error {
    fn new(error: impl Into<unstale::BoxError>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database: {}", self.0)
    }
}

impl std::error::Error for Error {}
