//! Passwords, places that are wrong, and queries.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn there(rest: &str) -> Config {
    let mut config = Config::parse(&format!("postgres://{rest}")).unwrap();
    (config.connect_timeout, config.query_timeout) = (LONG, LONG);
    config
}

async fn refused(config: &Config) -> PgError {
    Connection::connect(config, false).await.unwrap_err()
}

/// Which role proves itself how, over a connection that may be without TLS.
const RULES: &str = "local all postgres trust
host all with_scram 127.0.0.1/32 scram-sha-256
host all with_md5 127.0.0.1/32 md5
host all with_cleartext 127.0.0.1/32 password
";

#[tokio::test]
async fn each_kind_of_password_is_accepted() {
    let certificates = Certificates::make("DNS:localhost");
    let server = PostgresServer::start_over(Some(&certificates), &[]).await;
    let roles = "CREATE ROLE with_scram LOGIN PASSWORD 'p:@é/%';
         SET password_encryption = md5; CREATE ROLE with_md5 LOGIN PASSWORD 'hunter2';
         CREATE ROLE with_cleartext LOGIN PASSWORD 'hunter2'";
    server.sql(roles).await;
    std::fs::write(server.folder().join("data/pg_hba.conf"), RULES).unwrap();
    server.restart().await;
    let port = server.port();
    let at = |login: &str| there(&format!("{login}@127.0.0.1:{port}/postgres"));
    for login in ["with_scram:p%3A%40%C3%A9%2F%25", "with_md5:hunter2"] {
        for replication in [false, true] {
            let connected = Connection::connect(&at(login), replication).await;
            // The role may not replicate, which the server reports after the password was right.
            let code = connected.as_ref().err().and_then(PgError::code);
            assert_eq!(code, replication.then_some("42501"), "{connected:?}");
        }
    }
    for login in ["with_scram:hunter3", "with_md5:hunter3"] {
        let error = refused(&at(login)).await;
        assert_eq!(error.code(), Some("28P01"));
        assert!(!error.to_string().contains("hunter3"));
    }
    let error = refused(&at("with_scram")).await;
    assert!(error.to_string().contains("asks for a password"), "{error}");
    let error = refused(&at("with_cleartext:hunter2")).await;
    assert!(error.to_string().contains("not encrypted"), "{error}");
    assert_eq!(error.kind(), PgErrorKind::Settings);
    let encrypted = format!(
        "with_cleartext:hunter2@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={}",
        certificates.file("ca.crt").display()
    );
    Connection::connect(&there(&encrypted), false)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_error_names_what_is_not_there() {
    let server = PostgresServer::start().await;
    let mut nowhere = config(&server, "postgres").await;
    nowhere.database = "nowhere".to_owned();
    let error = refused(&nowhere).await;
    assert_eq!(error.code(), Some("3D000"));
    let said = "PostgreSQL says: database \"nowhere\" does not exist (3D000)";
    assert_eq!(error.to_string(), said);
    let error = refused(&there(&format!("u:p@127.0.0.1:{}/d", server.port()))).await;
    assert_eq!(error.code(), Some("28P01"));
    let error = refused(&there("u@127.0.0.1:1/d")).await.to_string();
    assert!(
        error.contains("at 127.0.0.1:1 cannot be reached: 127.0.0.1:1: Conn"),
        "{error}"
    );
    let error = refused(&there("u@/d?host=/nowhere")).await.to_string();
    assert!(
        error.contains("/nowhere/.s.PGSQL.5432 cannot be reached"),
        "{error}"
    );
    let error = refused(&there("u@name.invalid/d?sslmode=disable")).await;
    assert_eq!(error.kind(), PgErrorKind::Io);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let url = format!("postgres://u@{address}/d?connect_timeout=1");
    let error = refused(&Config::parse(&url).unwrap()).await;
    assert_eq!(error.kind(), PgErrorKind::Timeout);
    assert!(error.to_string().contains("within 1s"), "{error}");
}

#[tokio::test]
async fn a_socket_of_this_machine() {
    let server = PostgresServer::start().await;
    let (folder, port) = (server.folder(), server.port());
    let url = format!("postgres@/postgres?host={}&port={port}", folder.display());
    for replication in [false, true] {
        let connected = Connection::connect(&there(&url), replication).await;
        let rows = connected
            .unwrap()
            .query("SELECT 1, NULL, 'é'")
            .await
            .unwrap();
        assert_eq!(rows, [[Some("1".into()), None, Some("é".into())]]);
    }
}

#[tokio::test]
async fn queries_end_with_rows_or_an_error() {
    let db = Db::new().await;
    let mut connection = db.other().await;
    let error = connection
        .query("SELECT 'hunter2' FROM nowhere")
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("42P01"));
    assert_eq!(
        error.to_string(),
        "PostgreSQL says: relation \"nowhere\" does not exist (42P01)"
    );
    let error = connection.query("SELECT round(1, 2, 3)").await.unwrap_err();
    let hint = error.to_string();
    assert!(
        hint.contains("; hint: ") && hint.contains("argument types"),
        "{hint}"
    );
    assert_eq!(
        connection.query("SELECT 1\0").await.unwrap_err().kind(),
        PgErrorKind::Settings
    );
    assert_eq!(connection.query("").await.unwrap(), Rows::new());
    let many = connection
        .query("SELECT generate_series(1, 100001)")
        .await
        .unwrap_err();
    assert_eq!(many.kind(), PgErrorKind::Protocol);
    let many = connection
        .query("SELECT repeat('x', 1000000) FROM generate_series(1, 20)")
        .await;
    assert_eq!(many.unwrap_err().kind(), PgErrorKind::Protocol);
    let zone = connection
        .query("SHOW timezone; SHOW datestyle")
        .await
        .unwrap();
    assert_eq!(
        zone,
        [[Some("UTC".to_owned())], [Some("ISO, MDY".to_owned())]]
    );
    let slow = connection
        .query_within("SELECT pg_sleep(600)", Duration::from_millis(50))
        .await;
    assert_eq!(slow.unwrap_err().kind(), PgErrorKind::Timeout);
    let after = connection.query("SELECT 1").await.unwrap_err();
    assert!(after.to_string().contains("an earlier query"), "{after}");
    let mut connection = db.other().await;
    let copy = connection
        .query("COPY (SELECT 1) TO STDOUT")
        .await
        .unwrap_err();
    assert_eq!(copy.kind(), PgErrorKind::Protocol);
}

/// Answers a login with these messages, each after something came, and returns the error.
async fn against(answers: &[&[u8]]) -> PgError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "postgres://u:p@{}/d?connect_timeout=120",
        listener.local_addr().unwrap()
    );
    let serving = async {
        let (mut client, _) = listener.accept().await.unwrap();
        for answer in answers {
            assert!(client.read(&mut [0; 1000]).await.unwrap() > 0);
            client.write_all(answer).await.unwrap();
        }
    };
    let config = Config::parse(&url).unwrap();
    tokio::join!(refused(&config), serving).0
}

#[tokio::test]
async fn a_server_that_does_not_know_the_password_is_refused() {
    let sasl = b"R\0\0\0\x17\0\0\0\x0ASCRAM-SHA-256\0\0";
    let let_in = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    let error = against(&[sasl, let_in]).await.to_string();
    assert!(error.contains("without proof"), "{error}");
    let nonce = b"R\0\0\0\x16\0\0\0\x0Br=a,s=YQ==,i=1";
    let error = against(&[sasl, nonce]).await;
    assert_eq!(error.kind(), PgErrorKind::Protocol, "{error}");
    for answer in [
        &b"R\0\0\0\x08\0\0\0\x63"[..],
        b"R\0\0\0\x17\0\0\0\x0ASCRAM-SHA-999\0\0",
        b"R\0\0\0\x08\0\0\0\x0C",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"W\0\0\0\x07\0\0\0",
        b"\0\0\0\0\0\0",
    ] {
        let error = against(&[answer]).await;
        let refused = matches!(error.kind(), PgErrorKind::Protocol | PgErrorKind::Settings);
        assert!(refused, "{answer:?}: {error}");
    }
}
