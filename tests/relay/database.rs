//! A client of the database under test: loaders and writers use it as an application does.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, NoTls};

/// The values of `$1`, `$2` and so on.
pub(crate) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// One connection, made again after it is lost.
pub(crate) struct Database {
    url: String,
    client: Mutex<Option<Arc<Client>>>,
}

impl Database {
    pub(crate) fn new(url: String) -> Arc<Self> {
        let client = Mutex::default();
        Arc::new(Self { url, client })
    }

    async fn client(&self) -> Result<Arc<Client>, Error> {
        let mut held = self.client.lock().await;
        if let Some(client) = held.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
        // It ends with the client, or with the server, which the next statement notices.
        tokio::spawn(connection);
        Ok(held.insert(Arc::new(client)).clone())
    }

    /// The number in the first column of the only row; none without a row.
    pub(crate) async fn number(
        &self,
        sql: &str,
        values: Parameters<'_>,
    ) -> Result<Option<i64>, Error> {
        let client = self.client().await?;
        let row = client.query_opt(sql, values).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// How many rows a statement has changed.
    pub(crate) async fn change(&self, sql: &str, values: Parameters<'_>) -> Result<u64, Error> {
        self.client().await?.execute(sql, values).await
    }

    /// Statements that must succeed, all in one transaction unless they say otherwise.
    pub(crate) async fn run(&self, sql: &str) {
        let client = self.client().await.unwrap();
        client.batch_execute(sql).await.unwrap();
    }
}
