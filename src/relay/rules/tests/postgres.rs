//! Tests of the queries and of the SQL on a real PostgreSQL.

mod catalog;
mod log;
mod rows;

use testkit::postgres::PostgresServer;

use crate::relay::postgres::tests::config;
use crate::relay::rules::Rules;
use crate::relay::rules::catalog::Catalog;
use crate::relay::wal::Wal;

/// The catalog of the rules' database, as the named role sees it.
async fn read(server: &PostgresServer, role: &str, rules: &Rules) -> Catalog {
    let config = config(server, role).await;
    let wal = Wal::new(config, rules.clone(), None);
    wal.catalog().await.unwrap()
}

/// Begins to keep the log.
async fn keep(server: &PostgresServer) {
    let slot = "SELECT pg_create_logical_replication_slot('tests', 'pgoutput')";
    server.sql(slot).await;
}

/// The messages of the log since the last call.
async fn messages(server: &PostgresServer) -> Vec<Vec<u8>> {
    let query = "SELECT encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('tests', NULL, NULL,
                     'proto_version', '1', 'publication_names', 'unstale_orders', 'messages', 'true')";
    let lines = server.sql(query).await;
    let message = |hex: &str| {
        let byte = |n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap();
        (0..hex.len() / 2).map(byte).collect()
    };
    lines.lines().map(message).collect()
}
