//! The table in PostgreSQL, which processes of many machines may share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};

use super::{Account, Error};

/// Connections of one process, and so statements at once. One that waits for a row which another transaction
/// holds keeps no other waiting.
const CONNECTIONS: usize = 8;

/// Longest statement: the server ends it itself. Shorter than `write_timeout`, so that a write ends one way or
/// the other before its cache gives it up.
const STATEMENT: Duration = Duration::from_secs(5);

/// Longest wait for an answer, for a server that is silent.
const ANSWER: Duration = Duration::from_secs(7);

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Whether the table is there: a user who may not make it need not.
const FIND: &str = "SELECT to_regclass('accounts') IS NOT NULL";

/// As in SQLite. Of processes that start at the same moment one makes the table, and the others wait for its lock:
/// without it PostgreSQL refuses all but one.
const CREATE: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(hashtext('accounts'));
    CREATE TABLE IF NOT EXISTS accounts (
        id      bigint  PRIMARY KEY,
        name    text    NOT NULL,
        balance bigint  NOT NULL,
        version bigint  NOT NULL,
        deleted boolean NOT NULL DEFAULT false
    );
    COMMIT";

const READ: &str = "SELECT name, balance, version FROM accounts WHERE id = $1 AND NOT deleted";

const PUT: &str = "
    INSERT INTO accounts (id, name, balance, version) VALUES ($1, $2, $3, 1)
    ON CONFLICT (id) DO UPDATE SET
        name = excluded.name, balance = excluded.balance,
        version = accounts.version + 1, deleted = false
    RETURNING version";

const DELETE: &str = "
    UPDATE accounts SET deleted = true, version = version + 1
    WHERE id = $1 AND NOT deleted
    RETURNING version";

/// The values of `$1`, `$2` and so on.
type Values<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// A cheap handle of a few connections, each made when it is needed.
#[derive(Clone)]
pub(crate) struct Postgres(Arc<Shared>);

struct Shared {
    config: Config,
    idle: Mutex<Vec<Client>>,
    permits: Semaphore,
}

impl Postgres {
    pub(crate) async fn open(mut config: Config) -> Result<Self, Error> {
        let limit = format!("-c statement_timeout={}", STATEMENT.as_millis());
        let options = config.get_options().map(|given| format!("{given} {limit}"));
        config.options(options.unwrap_or(limit));
        config.connect_timeout(CONNECT);
        let postgres = Self(Arc::new(Shared {
            config,
            idle: Mutex::default(),
            permits: Semaphore::new(CONNECTIONS),
        }));
        postgres
            .with(async |client| {
                if !client.query_one(FIND, &[]).await?.get::<_, bool>(0) {
                    client.batch_execute(CREATE).await?;
                }
                Ok(())
            })
            .await?;
        Ok(postgres)
    }

    pub(crate) async fn account(&self, id: u64) -> Result<Option<Account>, Error> {
        let row = signed(id)?;
        let rows = self.run(READ, &[(&row, Type::INT8)]).await?;
        Ok(rows.first().map(|row| Account {
            id,
            name: row.get(0),
            balance: row.get(1),
            version: row.get(2),
        }))
    }

    pub(crate) async fn put(&self, id: u64, name: String, balance: i64) -> Result<Account, Error> {
        let row = signed(id)?;
        let values: Values<'_> = &[
            (&row, Type::INT8),
            (&name, Type::TEXT),
            (&balance, Type::INT8),
        ];
        let rows = self.run(PUT, values).await?;
        let row = rows
            .first()
            .ok_or_else(|| Error::new("no row was written"))?;
        let version = row.get(0);
        Ok(Account {
            id,
            name,
            balance,
            version,
        })
    }

    pub(crate) async fn delete(&self, id: u64) -> Result<bool, Error> {
        let row = signed(id)?;
        let rows = self.run(DELETE, &[(&row, Type::INT8)]).await?;
        Ok(!rows.is_empty())
    }

    /// One statement, sent at once: none is kept prepared, so that a table may be altered at any time.
    async fn run(&self, statement: &str, values: Values<'_>) -> Result<Vec<Row>, Error> {
        self.with(async |client| client.query_typed(statement, values).await)
            .await
    }

    /// A caller that goes away takes the connection with it, and one that has not answered is not used again.
    async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Error> {
        let _permit = self.0.permits.acquire().await.map_err(Error::new)?;
        let client = self.client().await?;
        let answer = timeout(ANSWER, work(&client)).await;
        let answer = answer.map_err(|_| Error::new("PostgreSQL does not answer"))?;
        self.0.idle().push(client);
        answer.map_err(error)
    }

    /// An idle connection, or a new one.
    async fn client(&self) -> Result<Client, Error> {
        while let Some(client) = self.0.idle().pop() {
            if !client.is_closed() {
                return Ok(client);
            }
        }
        let (client, connection) = self.0.config.connect(NoTls).await.map_err(error)?;
        // It ends with its client, or with the server, which is then seen by `is_closed`.
        tokio::spawn(connection);
        Ok(client)
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signed(id: u64) -> Result<i64, Error> {
    i64::try_from(id).map_err(Error::new)
}

/// With its cause, which it does not say itself.
pub(super) fn error(error: tokio_postgres::Error) -> Error {
    match std::error::Error::source(&error) {
        Some(cause) => Error::new(format!("{error}: {cause}")),
        None => Error::new(error),
    }
}
