//! The client on a real PostgreSQL.

mod ends;
mod log;
mod logins;
mod places;
mod streams;
mod tls;

use std::time::Duration;

use testkit::postgres::PostgresServer;
use testkit::tls::Certificates;

use super::config::{Host, TlsMode};
use super::*;

/// Far more than anything takes that a test waits for.
const LONG: Duration = Duration::from_secs(120);

const PASSWORD: &str = "secret";

/// How a role comes in, which gets a password for that.
pub(crate) async fn config(server: &PostgresServer, role: &str) -> Config {
    let password = format!("ALTER ROLE {role} PASSWORD '{PASSWORD}'");
    server.sql(&password).await;
    let mut config = Config::parse(&server.url(role, PASSWORD, "postgres")).unwrap();
    (config.connect_timeout, config.query_timeout) = (LONG, LONG);
    config
}

/// A server of a test, where nothing else is written.
struct Db {
    server: PostgresServer,
    /// The configuration of the superuser.
    config: Config,
    sql: Connection,
}

impl Db {
    async fn new() -> Self {
        Self::over(None).await
    }

    async fn over(tls: Option<&Certificates>) -> Self {
        let server = PostgresServer::start_over(tls, &[]).await;
        let mut config = config(&server, "postgres").await;
        if let Some(tls) = tls {
            config.host = Host::Tcp("localhost".to_owned());
            config.tls = TlsMode::VerifyFull;
            config.root_certificate = Some(tls.file("ca.crt"));
        }
        let sql = Connection::connect(&config, false).await.unwrap();
        Self {
            server,
            config,
            sql,
        }
    }

    /// Another connection.
    async fn other(&self) -> Connection {
        Connection::connect(&self.config, false).await.unwrap()
    }

    async fn run(&mut self, sql: &str) -> Rows {
        self.sql.query(sql).await.expect(sql)
    }

    async fn one(&mut self, sql: &str) -> String {
        let rows = self.run(sql).await;
        rows[0][0].clone().expect(sql)
    }

    /// Waits until a query has this answer.
    async fn until(&mut self, sql: &str, answer: &str) {
        let waiting = async {
            while self.one(sql).await != answer {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let came = tokio::time::timeout(LONG, waiting).await;
        came.unwrap_or_else(|_| unreachable!("{sql} is never {answer}"));
    }

    /// The log as it begins now.
    async fn stream(&self) -> Stream {
        let connection = Connection::connect(&self.config, true).await.unwrap();
        stream(connection).await
    }

    async fn insert_lsn(&mut self) -> u64 {
        let lsn = self.one("SELECT pg_current_wal_insert_lsn()").await;
        parse_lsn(&lsn).unwrap()
    }

    async fn confirmed(&mut self) -> u64 {
        let sql = "SELECT confirmed_flush_lsn FROM pg_replication_slots";
        parse_lsn(&self.one(sql).await).unwrap()
    }
}

/// With a temporary slot, of all tables.
async fn stream(mut connection: Connection) -> Stream {
    let publication = "CREATE PUBLICATION \"every, one's\" FOR ALL TABLES";
    connection.query(publication).await.unwrap();
    let from = connection.create_slot("tests", true, LONG).await.unwrap();
    let names = ["every, one's"];
    connection
        .start_replication("tests", from, &names, true)
        .await
        .unwrap()
}

/// Returns everything that arrives until the log has passed a place.
async fn until(stream: &mut Stream, lsn: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let reading = async {
        stream.confirm(0, true).await.unwrap();
        loop {
            match stream.next().await.unwrap() {
                Event::Passed { lsn: passed } if passed >= lsn => return,
                event => events.push(event),
            }
        }
    };
    tokio::time::timeout(LONG, reading)
        .await
        .expect("the log does not pass");
    events
}
