//! The source of truth: one table, in SQLite or in PostgreSQL.

mod postgres;
mod sqlite;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
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

/// Where a database is.
pub(crate) enum Place {
    /// SQLite's, which is made where there is none.
    File(PathBuf),
    Postgres(Box<tokio_postgres::Config>),
}

impl FromStr for Place {
    type Err = String;

    /// What is wrong names no part of a URL: there may be a password in it.
    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Ok(Self::File(text.into()));
        }
        let wrong = |error: tokio_postgres::Error| {
            let error = postgres::error(error);
            format!("{error}: write postgres://user:password@host:5432/database")
        };
        Ok(Self::Postgres(Box::new(text.parse().map_err(wrong)?)))
    }
}

/// A cheap handle.
#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Database {
    /// Opens a database, and makes its table where there is none.
    pub(crate) async fn open(place: Place) -> Result<Self, Error> {
        Ok(match place {
            Place::File(file) => Self::Sqlite(Sqlite::open(file).await?),
            Place::Postgres(config) => Self::Postgres(Postgres::open(*config).await?),
        })
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

    /// Deletes an account. Returns whether there was one.
    pub(crate) async fn delete(&self, id: u64) -> Result<bool, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.delete(id).await,
            Self::Postgres(postgres) => postgres.delete(id).await,
        }
    }
}

/// An error of the database.
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
